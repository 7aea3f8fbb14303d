"""Batches, compiled: how free devices take queues, what is bound, when it ends, and what its end sets free."""

from __future__ import annotations

import numpy as np

from moe_replay.simulate.compiled.jit import compiled, inlined
from moe_replay.simulate.compiled.lockstep import bind_from_stage, retire_from_step
from moe_replay.simulate.compiled.memory.expert_memory import bound, released, take
from moe_replay.simulate.compiled.memory.masking import release_masked
from moe_replay.simulate.compiled.memory.memory_layout import Memory
from moe_replay.simulate.compiled.queueing import bind_from_queue, rejoin, retire_from_queues
from moe_replay.simulate.compiled.rule_numbers import LOCKSTEP
from moe_replay.simulate.compiled.run_layout import (
    NEVER,
    World,
    batch_at,
    cost_CN,
    device_at,
    node_at,
    pass_at,
    queue_at,
)
from moe_replay.simulate.compiled.structures.chains import pop_ready
from moe_replay.simulate.compiled.structures.clock import later


@compiled
def complete(world: World, memory: Memory | None, masked: int | None, device: int, now: int) -> None:
    """Free the device of a completed batch, and let the passes whose stage it ended move on."""
    batch = device_at(world, device)
    batch.free = 1
    world.running -= 1
    queue, size = batch.queue, batch.size
    if memory is not None and queue % world.width:
        if masked is None:
            released(world, memory, queue, device, now)
        else:
            release_masked(world, memory, queue, size, now)
    if world.scheduler == LOCKSTEP:
        retire_from_step(world, memory, masked, device, now)
    else:
        retire_from_queues(world, memory, masked, device, now)


@compiled
def start_batches(world: World, memory: Memory | None, masked: int | None, now: int) -> None:
    """Let every free device, ascending, take the first ready queue that it can run.

    Members that the host's batch leaves behind may be a device's to run: then devices take once more.
    """
    world.launched = world.batches  # those before have their ends
    host_took = True
    while host_took:
        host_took = False
        for device in range(world.devices + 1):
            if not device_at(world, device).free or device_at(world, device).first_ready < 0:
                continue
            if memory is not None and masked is None and device < world.devices:
                queue = take(world, memory, device, now)
            else:
                queue = pop_ready(world, device)
            if queue >= 0:
                start(world, memory, masked, device, queue, now)
                host_took = device == world.devices


@compiled
def start(world: World, memory: Memory | None, masked: int | None, device: int, queue: int, now: int) -> None:
    """Bind a batch of a queue on a device and record it; its end is known when it is launched."""
    row = occupy(world, device, queue, now)
    if world.scheduler == LOCKSTEP:
        row.size, row.crc, row.forced = bind_from_stage(world, device, queue)
    else:
        row.size, row.crc, row.forced = bind_from_queue(world, device, queue)
    row.tokens = row.size if queue % world.width else tokens_of(world, device)
    if memory is not None and queue % world.width:
        if masked is None:
            row.hit = bound(world, memory, queue, device)
        else:
            row.hit = 1  # what runs is resident: misses were counted when the pass was routed
    if world.scheduler != LOCKSTEP:
        rejoin(world, memory, masked, queue, now)
    world.batches += 1


@inlined
def occupy(world: World, device: int, queue: int, now: int) -> np.void:
    """Let a queue have a device; return the record of the batch, the next that counts."""
    batch, row = device_at(world, device), batch_at(world, world.batches)
    batch.free, batch.queue, batch.start_ns = 0, queue, now
    world.running += 1
    row.queue, row.device, row.ready_ns, row.start_ns, row.hit = queue, device, queue_at(world, queue).ready_ns, now, -1
    return row


@compiled
def tokens_of(world: World, device: int) -> int:
    """Return the tokens of the passes in a device's dense batch."""
    node, tokens = device_at(world, device).head, 0
    for _ in range(device_at(world, device).size):
        tokens += pass_at(world, node_at(world, node).member).tokens
        node = node_at(world, node).next
    return tokens


@compiled
def launch(world: World) -> bool:
    """Give the batches that start their ends; return False at one whose cost is not known."""
    while world.launched < world.batches:
        row = batch_at(world, world.launched)
        curve, service_ns = queue_at(world, row.queue).curve, world.given_ns
        if service_ns < 0 and row.tokens < cost_CN(world).shape[1]:
            service_ns = cost_CN(world)[curve, row.tokens]
        world.given_ns = -1
        if service_ns < 0:
            world.cost_queue, world.cost_tokens = row.queue, row.tokens
            return False
        if row.device == world.devices:
            service_ns = slowed(service_ns, world.host_factor)
        row.end_ns = later(row.start_ns, service_ns)
        if service_ns == 0:
            device_at(world, row.device).done = 1
        else:
            device_at(world, row.device).end_ns = row.end_ns
        world.launched += 1
    return True


@compiled
def slowed(service_ns: int, factor: float) -> int:
    """Return what a batch takes on the host, NEVER where 64 bits do not hold it."""
    on_host_ns = np.rint(service_ns * factor)
    return int(on_host_ns) if on_host_ns < float(NEVER) else NEVER  # beyond 64 bits it would convert to anything
