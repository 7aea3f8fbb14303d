"""Links, compiled: transfers in the order in which they were asked for, and room for those to come."""

from __future__ import annotations

from moe_replay.simulate.compiled.jit import compiled
from moe_replay.simulate.compiled.memory.memory_layout import (
    Memory,
    draws,
    key_at,
    link_at,
    links_D,
    log_A,
    log_group_G,
    log_member_M,
    transfer_at,
    transfers_A,
)
from moe_replay.simulate.compiled.run_layout import NEVER, World
from moe_replay.simulate.compiled.structures.clock import later


@compiled
def has_room(world: World, memory: Memory) -> bool:
    """Say whether there is room for what one round and then the prefetches for one group may ask for, draw and log.

    Transfers: an expert is in flight from when it is asked for to a later round, so that it is asked for once at most;
    those of free prefetches are there at once, and are asked for once by a plan and once by a proposal. Where gating is
    masked there is a plan but no demand, else no plan: two for each expert (`room`). Each draws one random number, and
    seldom a few more. Logged are one group and, since misses are then loaded or block, one access for each queue.
    """
    # Checked once a round and not at each transfer: compiled code has no way to stop within a round.
    if memory.transfers + memory.room > len(transfers_A(memory)) or memory.drawn + memory.room > len(draws(memory)):
        return False
    if not memory.logs:
        return True
    return (
        memory.accesses + world.queues <= len(log_A(memory))
        and memory.groups + 1 <= len(log_group_G(memory))
        and memory.group_members + memory.experts <= len(log_member_M(memory))
    )


@compiled
def ask(memory: Memory, key: int, slot: int, victim: int, prefetch: bool, now: int) -> int:
    """Record a transfer that is asked for; return its number."""
    number = memory.transfers
    row = transfer_at(memory, number)
    row.link, row.key, row.slot, row.victim, row.prefetch = key_at(memory, key).device, key, slot, victim, prefetch
    row.asked_ns, row.start_ns, row.end_ns, row.next = now, -1, -1, -1
    memory.transfers += 1
    return number


@compiled
def wait_for_link(memory: Memory, number: int) -> None:
    """Put a transfer at the end of its link's queue."""
    link = link_at(memory, transfer_at(memory, number).link)
    if link.first_waiting < 0:
        link.first_waiting = number
    else:
        # A chain through the rows of the log: no list of its own, and no bound on how many wait.
        transfer_at(memory, link.last_waiting).next = number
    link.last_waiting = number


@compiled
def begin_transfers(world: World, memory: Memory, now: int) -> bool:
    """Let every link begin what it can; return True if any of it takes no time."""
    at_once = False
    for device in range(world.devices):
        link = link_at(memory, device)
        # One at a time, so that each has the whole bandwidth; a wide link takes all that wait.
        while link.first_waiting >= 0 and (memory.wide or link.first_moving < 0):
            number = link.first_waiting
            row = transfer_at(memory, number)
            link.first_waiting = row.next
            # NEVER where the clock would end first: the transfer is then pending for good, and the run is refused.
            row.start_ns, row.end_ns, row.next = now, later(now, memory.transfer_ns), -1
            if link.first_moving < 0:
                link.first_moving = number
            else:
                transfer_at(memory, link.last_moving).next = number
            link.last_moving = number
            at_once = at_once or row.end_ns == now
    return at_once


@compiled
def next_end(memory: Memory) -> int:
    """Return when the next transfer ends."""
    soonest = NEVER
    for device in range(len(links_D(memory))):
        number = link_at(memory, device).first_moving
        # The first on its way ends first: transfers of a link take equally long.
        if number >= 0:
            soonest = min(soonest, transfer_at(memory, number).end_ns)
    return soonest


@compiled
def transfers_here(memory: Memory, device: int, now: int) -> bool:
    """Say whether the first transfer on its way over a link is there."""
    number = link_at(memory, device).first_moving
    return number >= 0 and transfer_at(memory, number).end_ns <= now


@compiled
def is_busy(memory: Memory, device: int) -> bool:
    """Say whether a transfer waits for a link or moves over it."""
    return link_at(memory, device).first_moving >= 0 or link_at(memory, device).first_waiting >= 0


@compiled
def any_transfer(memory: Memory) -> bool:
    """Say whether a transfer is under way."""
    for device in range(len(links_D(memory))):
        if is_busy(memory, device):
            return True
    return False
