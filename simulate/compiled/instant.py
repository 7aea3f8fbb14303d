"""The compiled loop: instant after instant, round after round, in the order that `simulate.policies.instant` plays.

`go_on` returns whenever it needs what only Python has, room for more records or the cost of a batch, and goes on
where it stopped when it is called again. `memory` is None where all experts are resident, and `masked` where gating is
not masked: the loop is compiled apart for each, without what it then never does.
"""

from __future__ import annotations

import numpy as np

from moe_replay.simulate.compiled.arrivals import let_arrive, next_arrival, release, sort_arriving
from moe_replay.simulate.compiled.jit import compiled
from moe_replay.simulate.compiled.lockstep import admit_to_step, bind_from_stage, retire_from_step, settle_step
from moe_replay.simulate.compiled.memory.expert_memory import arrive, bound, released, take
from moe_replay.simulate.compiled.memory.host_link import (
    any_transfer,
    begin_transfers,
    has_room,
    next_end,
    transfers_here,
)
from moe_replay.simulate.compiled.memory.masking import exchange_planned, passes_finished, release_masked
from moe_replay.simulate.compiled.memory.memory_layout import Memory
from moe_replay.simulate.compiled.prefetchers.prefetcher import prefetch_next
from moe_replay.simulate.compiled.queueing import (
    admit_to_queues,
    bind_from_queue,
    force,
    rejoin,
    retire_from_queues,
    settle_queues,
)
from moe_replay.simulate.compiled.run_accessors import (
    arriving_P,
    batch_at,
    batches_A,
    cost_CN,
    device_at,
    emptied_P,
    finished_P,
    node_at,
    pass_at,
    queue_at,
    timed_Q,
    times_A,
)
from moe_replay.simulate.compiled.run_layout import (
    BROKEN,
    DONE,
    LAUNCH,
    LOCKSTEP,
    NEED_BATCHES,
    NEED_COST,
    NEED_TRANSFERS,
    NEVER,
    NEXT_INSTANT,
    PREFETCH,
    ROUND,
    World,
)
from moe_replay.simulate.compiled.structures.chains import pop_ready
from moe_replay.simulate.compiled.structures.clock import later


@compiled
def go_on(world: World, memory: Memory | None, masked: int | None) -> int:
    """Play instants until the run is over or something is needed; return which."""
    while True:
        # `where` is in the record: after a return for room or a cost the loop enters again at the same place.
        if world.where == NEXT_INSTANT and not begin_instant(world, memory):
            return DONE
        if world.where == ROUND:
            # Asked before the round, which cannot stop half-way: a batch per device and one on the host at most.
            if world.batches + world.devices + 1 > len(batches_A(world)):
                return NEED_BATCHES
            if memory is not None and not has_room(world, memory):
                return NEED_TRANSFERS
            play_round(world, memory, masked)
        if world.where == LAUNCH:  # batches are bound, their ends unknown
            if not launch(world):  # the only question within a round
                return NEED_COST
            leave(world, memory, masked)
        if memory is not None:
            # One group at a time: there is room for what one makes a prefetcher ask for, not for all of a round.
            while prefetch_next(world, memory, masked):
                if not has_room(world, memory):
                    return NEED_TRANSFERS
            if memory.broken >= 0:  # noted where it was found: compiled code raises nothing
                return BROKEN
        close_round(world, memory)


@compiled
def begin_instant(world: World, memory: Memory | None) -> bool:
    """Go to the next moment at which something is due; return False if there is none."""
    now = min(next_arrival(world), next_due(world))  # a look at each is quicker than a calendar
    for device in range(world.devices + 1):
        now = min(now, device_at(world, device).end_ns)
    if memory is not None:
        now = min(now, next_end(memory))
    # Nothing will ever happen: the run is over, or all that is pending ends beyond the clock.
    if now == NEVER:
        return False
    world.now = now
    for device in range(world.devices + 1):
        if device_at(world, device).end_ns == now:
            device_at(world, device).done, device_at(world, device).end_ns = 1, NEVER
    world.arriving = 0
    let_arrive(world, now)
    world.where = ROUND
    return True


@compiled
def next_due(world: World) -> int:
    """Return when the next time-out is due."""
    return queue_at(world, timed_Q(world)[0]).due_ns if world.timed > 0 else NEVER


@compiled
def play_round(world: World, memory: Memory | None, masked: int | None) -> None:
    """Completions (1), transfers (2), arrivals (3), time-outs (4), ready queues (5), free devices (6)."""
    now = world.now
    world.finished = world.emptied = 0
    for device in range(world.devices + 1):
        if device_at(world, device).done:
            device_at(world, device).done = 0
            complete(world, memory, masked, device, now)
    if memory is not None:
        for link in range(world.devices):
            while transfers_here(memory, link, now):  # several over a wide link
                arrive(world, memory, link, now)
    for i in range(world.arriving):
        p = arriving_P(world)[i]
        pass_at(world, p).arrival_ns = now
        if world.scheduler == LOCKSTEP:
            admit_to_step(world, p)
        else:
            admit_to_queues(world, memory, masked, p, now)
    world.arriving = 0
    if world.scheduler == LOCKSTEP:
        settle_step(world, memory, masked, now)
    else:
        settle_queues(world, memory, masked, now)
    world.launched = world.batches  # those before have their ends
    start_batches(world, memory, masked, now)
    world.where = LAUNCH


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
    batch, row = device_at(world, device), batch_at(world, world.batches)
    batch.free, batch.queue, batch.start_ns = 0, queue, now
    world.running += 1
    row.queue, row.device, row.ready_ns, row.start_ns, row.hit = queue, device, queue_at(world, queue).ready_ns, now, -1
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


@compiled
def leave(world: World, memory: Memory | None, masked: int | None) -> None:
    """Record the passes that finished in this round, and list those that their end releases."""
    now = world.now
    for i in range(world.emptied):
        # Behind the others, in the reference's order: which passes arrive next depends on it.
        finished_P(world)[world.finished + i] = emptied_P(world)[i]
    world.finished += world.emptied
    for i in range(world.finished):
        pass_at(world, finished_P(world)[i]).end_ns = now
    if masked is not None and world.finished:
        passes_finished(world, memory, world.finished)  # before exchanges: it may make a new plan
    for i in range(world.finished):
        release(world, finished_P(world)[i])
    sort_arriving(world)
    if masked is not None:
        # SwapMoE's exchanges go by idle links, which carry no demands where gating is masked.
        exchange_planned(world, memory, now)
    world.where = PREFETCH


@compiled
def close_round(world: World, memory: Memory | None) -> None:
    """Links begin (7); then a further round, the stall rule, or the next instant."""
    now = world.now
    further = world.arriving > 0 or world.emptied > 0
    if memory is not None and begin_transfers(world, memory, now):
        further = True
    for device in range(world.devices + 1):
        if device_at(world, device).done:
            further = True
    if further:
        world.where = ROUND
    # In lockstep every block with members is ready: it cannot stall.
    elif world.scheduler != LOCKSTEP and is_stalled(world, memory):
        force(world)
        world.where = ROUND
    else:
        world.where = NEXT_INSTANT


@compiled
def is_stalled(world: World, memory: Memory | None) -> bool:
    """Say whether passes wait although nothing runs and no transfer, arrival or time-out is pending."""
    if world.running or world.present == 0 or world.timed > 0 or world.due < len(times_A(world)):
        return False
    return memory is None or not any_transfer(memory)
