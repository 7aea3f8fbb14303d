"""Lockstep, compiled: the rules of `simulate.policies.lockstep`, method by method."""

from __future__ import annotations

from moe_replay.simulate.compiled.jit import compiled
from moe_replay.simulate.compiled.memory.announcing import begin_stage, note_step
from moe_replay.simulate.compiled.memory.expert_memory import join
from moe_replay.simulate.compiled.memory.masking import route
from moe_replay.simulate.compiled.memory.memory_layout import Memory
from moe_replay.simulate.compiled.run_layout import (
    World,
    device_at,
    node_at,
    pass_at,
    pass_N,
    queue_at,
    queued_P,
    step_P,
)
from moe_replay.simulate.compiled.scheduler import expert_of, finish, finish_empty, has_members
from moe_replay.simulate.compiled.structures.chains import append_member, bind_members, free_members


@compiled
def admit_to_step(world: World, p: int) -> None:
    """Let an arriving pass wait for the next step."""
    for stage in range(2 * world.layers + 1):
        if has_members(world, p, stage):
            queued_P(world)[world.last_queued] = p
            world.last_queued += 1
            world.present += 1
            return
    finish(world, p)


@compiled
def retire_from_step(world: World, memory: Memory | None, masked: int | None, device: int, now: int) -> None:
    """After the last batch of a stage the whole step moves on, or finishes."""
    batch = device_at(world, device)
    dense = batch.queue % world.width == 0
    node = batch.head
    for _ in range(batch.size):
        member = node_at(world, node).member
        rec = pass_at(world, member if dense else pass_N(world)[member])
        rec.start_ns = min(rec.start_ns, batch.start_ns)
        node = node_at(world, node).next
    # Given back before the next stage queues: so nodes for all selections are enough (`run_build`).
    free_members(world, device)
    world.unfinished -= 1
    if world.unfinished > 0:
        return
    if gather_next_stage(world, masked):
        run_stage(world, memory, masked, now)
        return
    for i in range(world.step):
        finish(world, step_P(world)[i])
    end_step(world)


@compiled
def end_step(world: World) -> None:
    """End the step: none of its passes is present any more."""
    world.present -= world.step
    world.step = 0


@compiled
def gather_next_stage(world: World, masked: int | None) -> bool:
    """Move the step to its next stage in which any pass has members; return False where none follows."""
    for stage in range(world.stage + 1, 2 * world.layers + 1):
        # Members are queued in the same sweep in which they are looked for, into chains of the blocks' queues.
        any_working = False
        for i in range(world.step):
            p = step_P(world)[i]
            if has_members(world, p, stage):
                any_working = True
                if stage & 1 == 0:
                    append_member(world, (stage >> 1) * world.width, p)
                elif masked is None:
                    append_by_expert(world, masked, p, stage >> 1)
        if any_working:
            world.stage = stage
            return True
    return False


@compiled
def append_by_expert(world: World, masked: int | None, p: int, layer: int) -> None:
    """Sort a pass's members of a layer by expert."""
    rec = pass_at(world, p)
    for i in range(rec.tokens):
        row, token = rec.first_row + i, rec.offset + i
        for rank in range(world.k):
            expert = expert_of(world, masked, row, token, layer, rank)
            if expert >= 0:
                append_member(world, layer * world.width + 1 + expert, token)


@compiled
def mask_stage(world: World, memory: Memory, masked: int, now: int) -> bool:
    """Let masked gating choose the experts of the stage, or of the next that has any; return False if none has."""
    while world.stage & 1:
        layer, left = world.stage >> 1, 0
        for i in range(world.step):
            if has_members(world, step_P(world)[i], world.stage):
                # First all passes are routed, then members queue: none if the stage is left empty, as in the reference.
                left += route(world, memory, step_P(world)[i], layer, now)
        if left > 0:
            for i in range(world.step):
                if has_members(world, step_P(world)[i], world.stage):
                    append_by_expert(world, masked, step_P(world)[i], layer)
            return True
        if not gather_next_stage(world, masked):
            return False
    return True


@compiled
def run_stage(world: World, memory: Memory | None, masked: int | None, now: int) -> None:
    """Make every block that has members in the step's present stage ready, ascending."""
    if masked is not None and not mask_stage(world, memory, masked, now):
        for i in range(world.step):
            finish_empty(world, step_P(world)[i])
        end_step(world)
        return
    first = (world.stage >> 1) * world.width
    if memory is not None and world.stage & 1:
        if masked is None:
            begin_stage(world, memory, first, now)
        note_step(world, memory)
    world.unfinished = 0
    for queue in range(first, first + world.width):
        if queue_at(world, queue).length > 0:
            join(world, memory, masked, queue, now)
            world.unfinished += 1


@compiled
def begin_step(world: World, memory: Memory | None, masked: int | None, now: int) -> None:
    """Take the waiting passes as the next step if none is under way."""
    if world.running or world.step or world.first_queued == world.last_queued:
        return
    world.step = min(world.max_step, world.last_queued - world.first_queued)
    for i in range(world.step):
        step_P(world)[i] = queued_P(world)[world.first_queued + i]
    # The list of waiting passes is never moved up: it has room for every pass of the run once.
    world.first_queued += world.step
    world.stage = -1
    gather_next_stage(world, masked)
    run_stage(world, memory, masked, now)


@compiled
def bind_from_stage(world: World, device: int, queue: int) -> tuple[int, int, int]:
    """Bind all members that a block has in this stage; return (how many, their checksum, whether it was forced: 0)."""
    count = queue_at(world, queue).length
    return count, bind_members(world, queue, device, count), 0
