"""Queues of size B, compiled: the rules of `simulate.policies.queueing`, method by method."""

from __future__ import annotations

import numpy as np

from moe_replay.simulate.compiled.jit import compiled, inlined
from moe_replay.simulate.compiled.memory.announcing import note_group
from moe_replay.simulate.compiled.memory.expert_memory import join
from moe_replay.simulate.compiled.memory.masking import route
from moe_replay.simulate.compiled.memory.memory_layout import Memory
from moe_replay.simulate.compiled.run_layout import (
    NEVER,
    STRETCH,
    STRETCH_BITS,
    World,
    device_at,
    entered_Q,
    joining_Q,
    node_at,
    pass_at,
    pass_N,
    queue_at,
    soonest_R,
    stale_R,
    timed_Q,
)
from moe_replay.simulate.compiled.scheduler import advance, expert_of, finish, finish_empty
from moe_replay.simulate.compiled.structures.chains import append_member, bind_members, free_members
from moe_replay.simulate.compiled.structures.clock import later
from moe_replay.simulate.compiled.structures.timeouts import drop_timeout, set_timeout


@inlined
def size_of(world: World, queue: int) -> int:
    """Return B of a queue."""
    return world.dense_size if queue % world.width == 0 else world.size


@inlined
def note_head(world: World, queue: int, entered_ns: int) -> None:
    """Note when the head of a queue began to wait, NEVER where there is none."""
    entered_Q(world)[queue] = entered_ns
    # The soonest of a stretch is worked out when a stall asks for it: heads change often, stalls are rare.
    stale_R(world)[queue >> STRETCH_BITS] = 1


@compiled
def make_ready(world: World, queue: int) -> None:
    """Mark a queue as ready: it joins its device's ready list when the round settles."""
    # Unlike the reference's heap this one holds no stale entries: it has room for one of each queue.
    drop_timeout(world, queue)
    queue_at(world, queue).listed = 1
    # At most once in a round, since `listed` is set: the list has room for every queue.
    joining_Q(world)[world.joining] = queue
    world.joining += 1


@inlined
def grow(world: World, queue: int, member: int, size: int, now: int) -> None:
    """Append a member; note a queue that reached B, or one that got a head whose time-out starts now."""
    grown(world, queue, append_member(world, queue, member), size, now)


@inlined
def grown(world: World, queue: int, length: int, size: int, now: int) -> None:
    """Note a queue that reached B, or one that got a head whose time-out starts now."""
    if length == 1:
        note_head(world, queue, now)
    if length == size:
        if not queue_at(world, queue).listed:
            make_ready(world, queue)
    # A listed queue is served anyway: its head needs no time-out.
    elif length == 1 and world.timeout_ns >= 0 and not queue_at(world, queue).listed:
        set_timeout(world, queue, later(now, world.timeout_ns))


@compiled
def enter_stage(world: World, memory: Memory | None, masked: int | None, p: int, now: int) -> None:
    """Append a pass's members to the queues of its stage: tokens in row order, selections in rank order."""
    rec = pass_at(world, p)
    # A loop in the place of the reference's recursion: masked gating may leave one layer after another empty.
    while True:
        rec.entered_ns = now
        layer = rec.stage >> 1
        if rec.stage & 1 == 0:
            grow(world, layer * world.width, p, world.dense_size, now)
            return
        if masked is not None:
            rec.left = route(world, memory, p, layer, now)
            if rec.left == 0:
                if advance(world, p):
                    continue
                finish_empty(world, p)
                return
        append_selections(world, masked, p, layer, now)
        if memory is not None:
            note_group(world, memory, p, layer)
        return


@compiled
def append_selections(world: World, masked: int | None, p: int, layer: int, now: int) -> None:
    """Append what a pass's tokens run in a layer to the experts' queues."""
    rec = pass_at(world, p)
    first_queue = layer * world.width + 1
    for i in range(rec.tokens):
        row, token = rec.first_row + i, rec.offset + i
        # Token by token, then rank by rank: the order of members decides who is in which batch.
        for rank in range(world.k):
            expert = expert_of(world, masked, row, token, layer, rank)
            if expert >= 0:
                grow(world, first_queue + expert, token, world.size, now)


@compiled
def admit_to_queues(world: World, memory: Memory | None, masked: int | None, p: int, now: int) -> None:
    """Put an arriving pass into the queues of its first stage."""
    # Before the pass moves on, which takes it back where no stage has a member.
    world.present += 1
    move_on(world, memory, masked, p, now)


@compiled
def move_on(world: World, memory: Memory | None, masked: int | None, p: int, now: int) -> None:
    """Put a pass into the queues of its next stage, or note that it is done."""
    if advance(world, p):
        enter_stage(world, memory, masked, p, now)
    else:
        finish(world, p)


@compiled
def retire_from_queues(world: World, memory: Memory | None, masked: int | None, device: int, now: int) -> None:
    """Count the members of a device's completed batch as done; a pass whose last selection is done moves on."""
    batch = device_at(world, device)
    dense = batch.queue % world.width == 0
    node = batch.head
    for _ in range(batch.size):
        member = node_at(world, node).member
        p = np.int64(member if dense else pass_N(world)[member])  # else what follows is compiled for 32 bits, too
        rec = pass_at(world, p)
        # The first of its batches need not be the first to end.
        rec.start_ns = min(rec.start_ns, batch.start_ns)
        rec.left -= 1
        if rec.left == 0:
            # Members queue before the batch gives its nodes back: the list of nodes has room for both (`run_build`).
            move_on(world, memory, masked, p, now)
        node = node_at(world, node).next
    free_members(world, device)


@compiled
def time_out(world: World, now: int) -> None:
    """Make the queues ready whose head has waited the time-out; lockstep has none."""
    while world.timed > 0 and queue_at(world, timed_Q(world)[0]).due_ns <= now:
        make_ready(world, timed_Q(world)[0])


@compiled
def join_queues(world: World, memory: Memory | None, masked: int | None, now: int) -> None:
    """Let the queues that became ready join the ready lists, ascending (layer, block)."""
    joining = joining_Q(world)
    # Sorted by insertion: few queues become ready in one round, and mostly in ascending order.
    for i in range(1, world.joining):
        queue, j = joining[i], i
        while j > 0 and joining[j - 1] > queue:
            joining[j] = joining[j - 1]
            j -= 1
        joining[j] = queue
    for i in range(world.joining):
        join(world, memory, masked, joining[i], now)
    world.joining = 0


@compiled
def bind_from_queue(world: World, device: int, queue: int) -> tuple[int, int, int]:
    """Bind the first min(B, length) members of a queue; return (how many, their checksum, whether it was forced)."""
    waiting, size = queue_at(world, queue), size_of(world, queue)
    count = min(size, waiting.length)
    # The checksum is worked out while members are at hand; lists of them are not kept for the record.
    crc = bind_members(world, queue, device, count)
    forced, waiting.forced = waiting.forced, 0
    waiting.listed = 0
    note_head(world, queue, head_entered(world, queue) if waiting.length > 0 else NEVER)
    return count, crc, forced


@compiled
def head_entered(world: World, queue: int) -> int:
    """Return when the head of a queue began to wait."""
    head = node_at(world, queue_at(world, queue).head).member
    return pass_at(world, head if queue % world.width == 0 else pass_N(world)[head]).entered_ns


@compiled
def rejoin(world: World, memory: Memory | None, masked: int | None, queue: int, now: int) -> None:
    """Let a queue with members left over rejoin the list's end if it is ready, or wait for its head's time-out."""
    waiting, timeout_ns = queue_at(world, queue), world.timeout_ns
    if waiting.length == 0:
        return
    # -1 says that there is no time-out: it must not be added.
    due_ns = later(entered_Q(world)[queue], max(0, timeout_ns))
    if waiting.length >= size_of(world, queue) or (timeout_ns >= 0 and due_ns <= now):
        waiting.listed = 1
        join(world, memory, masked, queue, now)
    # The new head has waited since it entered, not since the batch was bound.
    elif timeout_ns >= 0:
        set_timeout(world, queue, due_ns)


@compiled
def force(world: World) -> None:
    """The stall rule: on every device the queue whose head waited longest becomes ready (ties: lowest queue)."""
    for device in range(world.devices):  # the host has no queues of its own
        queue = longest_waiting(world, device)
        if queue >= 0:
            queue_at(world, queue).forced = 1
            make_ready(world, queue)


@compiled
def longest_waiting(world: World, device: int) -> int:
    """Return the queue of a device whose head has waited longest, the lowest of several; -1 if nobody waits there.

    Stretches of queues that hold no head as old as one found already are passed over: one forced batch changes few.
    """
    entered, found, soonest = entered_Q(world), -1, NEVER
    for stretch in range(len(stale_R(world))):
        first = stretch << STRETCH_BITS
        behind = min(first + STRETCH, len(entered))
        if stale_R(world)[stretch]:
            stale_R(world)[stretch] = 0
            # Looked through again only where heads have changed since the last stall.
            soonest_R(world)[stretch] = soonest_of(world, first, behind)
        if soonest_R(world)[stretch] < soonest:
            for queue in range(first, behind):
                # Less, not at most: of equals the lowest queue stays.
                if entered[queue] < soonest and queue_at(world, queue).device == device:
                    found, soonest = queue, entered[queue]
    return found


@compiled
def soonest_of(world: World, first: int, behind: int) -> int:
    """Return when the oldest head of some queues began to wait; a plain loop that runs many at a time."""
    entered, soonest = entered_Q(world), NEVER
    for queue in range(first, behind):
        soonest = min(soonest, entered[queue])
    return soonest
