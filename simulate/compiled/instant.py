"""The compiled loop: instant after instant, round after round, in the order of `simulate.policies.instant_order`.

`go_on` returns whenever it needs what only Python has, room for more records or the cost of a batch, and goes on
where it stopped when it is called again. `memory` is None where all experts are resident, and `masked` where gating is
not masked: the loop is compiled apart for each, without what it then never does.
"""

from __future__ import annotations

from moe_replay.simulate.compiled.arrivals import let_arrive, next_arrival, release, sort_arriving
from moe_replay.simulate.compiled.batch import complete, launch, start_batches
from moe_replay.simulate.compiled.jit import compiled
from moe_replay.simulate.compiled.lockstep import admit_to_step, begin_step
from moe_replay.simulate.compiled.memory.expert_memory import arrive
from moe_replay.simulate.compiled.memory.host_link import (
    any_transfer,
    begin_transfers,
    has_room,
    next_end,
    transfers_here,
)
from moe_replay.simulate.compiled.memory.masking import exchange_planned, passes_finished
from moe_replay.simulate.compiled.memory.memory_layout import Memory
from moe_replay.simulate.compiled.prefetchers.prefetching import prefetch_next
from moe_replay.simulate.compiled.queueing import (
    admit_to_queues,
    force,
    join_queues,
    time_out,
)
from moe_replay.simulate.compiled.rule_numbers import LOCKSTEP
from moe_replay.simulate.compiled.run_layout import (
    BROKEN,
    DONE,
    EXCHANGE,
    LAUNCH,
    NEED_BATCHES,
    NEED_COST,
    NEED_ROOM,
    NEVER,
    NEXT_INSTANT,
    PREFETCH,
    ROUND,
    World,
    arriving_P,
    batches_A,
    device_at,
    emptied_P,
    finished_P,
    pass_at,
    queue_at,
    timed_Q,
    times_A,
)


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
                return NEED_ROOM
            begin_round(world, memory, masked)
        if world.where == LAUNCH:  # batches are bound, their ends unknown
            if not launch(world):  # the only question within a round
                return NEED_COST
            leave(world, memory, masked)
        if memory is not None:
            if not ask_ahead(world, memory, masked):
                return NEED_ROOM
            if memory.broken >= 0:  # noted where it was found: compiled code raises nothing
                return BROKEN
        end_round(world, memory)


@compiled
def begin_instant(world: World, memory: Memory | None) -> bool:
    """Go to the next moment at which something is due; return False if there is none."""
    now = next_moment(world)
    if memory is not None:
        now = min(now, next_end(memory))
    return go_to(world, now)


@compiled
def next_moment(world: World) -> int:
    """Return when the next batch ends, pass arrives or queue times out, NEVER where none does."""
    now = min(next_arrival(world), next_due(world))  # a look at each is quicker than a calendar
    for device in range(world.devices + 1):
        now = min(now, device_at(world, device).end_ns)
    return now


@compiled
def go_to(world: World, now: int) -> bool:
    """Let it be a moment: mark the batches that end then, and list who arrives by itself; return False for NEVER."""
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
def begin_round(world: World, memory: Memory | None, masked: int | None) -> None:
    """Play the steps of `policies.instant_order` until batches are bound, whose costs are then asked for."""
    now = world.now
    world.finished = world.emptied = 0
    complete_batches(world, memory, masked, now)
    receive_experts(world, memory, now)
    admit_passes(world, memory, masked, now)
    time_out(world, now)
    join_ready(world, memory, masked, now)
    start_batches(world, memory, masked, now)
    world.where = LAUNCH


@compiled
def complete_batches(world: World, memory: Memory | None, masked: int | None, now: int) -> None:
    """Let the batches complete that are done, devices ascending."""
    for device in range(world.devices + 1):
        if device_at(world, device).done:
            device_at(world, device).done = 0
            complete(world, memory, masked, device, now)


@compiled
def receive_experts(world: World, memory: Memory | None, now: int) -> None:
    """Let the transfers arrive that are there, links ascending."""
    if memory is not None:
        for link in range(world.devices):
            while transfers_here(memory, link, now):  # several over a wide link
                arrive(world, memory, link, now)


@compiled
def admit_passes(world: World, memory: Memory | None, masked: int | None, now: int) -> None:
    """Take the passes in that arrive."""
    for i in range(world.arriving):
        p = arriving_P(world)[i]
        pass_at(world, p).arrival_ns = now
        if world.scheduler == LOCKSTEP:
            admit_to_step(world, p)
        else:
            admit_to_queues(world, memory, masked, p, now)
    world.arriving = 0


@compiled
def join_ready(world: World, memory: Memory | None, masked: int | None, now: int) -> None:
    """Let ready queues join the ready lists; in lockstep those of a step that begins."""
    if world.scheduler == LOCKSTEP:
        begin_step(world, memory, masked, now)
    else:
        join_queues(world, memory, masked, now)


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
    world.where = EXCHANGE


@compiled
def ask_ahead(world: World, memory: Memory, masked: int | None) -> bool:
    """Let SwapMoE's scheduler ask, then prefetchers, group after group; return False where one needs more room."""
    if masked is not None and world.where == EXCHANGE:
        # Exchanges go by idle links, which carry no demands where gating is masked.
        exchange_planned(world, memory, world.now)
    world.where = PREFETCH
    # One group at a time: there is room for what one makes a prefetcher ask for, not for all of a round.
    while prefetch_next(world, memory, masked):
        if not has_room(world, memory):
            return False
    return True


@compiled
def end_round(world: World, memory: Memory | None) -> None:
    """Let links begin; then comes a further round, the stall rule, or the next instant."""
    further, stalled = world.emptied > 0, is_stalled(world)
    if memory is not None:
        if begin_transfers(world, memory, world.now):
            further = True
        if stalled and any_transfer(memory):
            stalled = False
    choose_next(world, further, stalled)


@compiled
def choose_next(world: World, further: bool, stalled: bool) -> None:
    """Choose what follows: a round that something else asks for or that is due, the stall rule, or the next instant."""
    for device in range(world.devices + 1):
        if device_at(world, device).done:
            further = True
    if further or world.arriving > 0:
        world.where = ROUND
    # In lockstep every block with members is ready: it cannot stall.
    elif world.scheduler != LOCKSTEP and stalled:
        force(world)
        world.where = ROUND
    else:
        world.where = NEXT_INSTANT


@compiled
def is_stalled(world: World) -> bool:
    """Say whether passes wait although no batch runs and no arrival or time-out is pending."""
    return world.running == 0 and world.present > 0 and world.timed == 0 and world.due == len(times_A(world))
