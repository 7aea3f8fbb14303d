"""Demands, compiled: what a device may run and what it must fetch, as in `simulate.policies.memory.expert_memory`."""

from __future__ import annotations

from moe_replay.simulate.compiled.caches.cache import (
    access,
    admit,
    announce_anew,
    is_resident,
    leave_turn,
    protect,
    start_running,
)
from moe_replay.simulate.compiled.caches.cache_policies import wants
from moe_replay.simulate.compiled.jit import compiled
from moe_replay.simulate.compiled.memory.host_link import ask, wait_for_link
from moe_replay.simulate.compiled.memory.memory_layout import (
    ASIDE,
    HIT,
    MISS,
    NOT_MET,
    REST,
    Memory,
    asking_CK,
    cache_at,
    key_at,
    link_at,
    log_A,
    transfer_at,
)
from moe_replay.simulate.compiled.rule_numbers import BLOCK, HOST
from moe_replay.simulate.compiled.run_layout import World, device_at, queue_at
from moe_replay.simulate.compiled.structures.chains import append_ready, pop_ready, put_first_ready


@compiled
def is_here(memory: Memory, key: int) -> bool:
    """Say whether an expert can run now: in its slot, or in the extra one."""
    own = key_at(memory, key)
    return is_resident(memory, key) or (cache_at(memory, own.cache).passing == key and not own.in_flight)


@compiled
def join(world: World, memory: Memory | None, masked: int | None, queue: int, now: int) -> None:
    """Put a ready queue at the end of its device's ready list, or, where the host computes misses, of the host's."""
    waiting = queue_at(world, queue)
    waiting.ready_ns, server = now, waiting.device
    if memory is not None and masked is None and memory.hands_out and queue % world.width:
        if key_at(memory, waiting.key).running:  # demands that wait for that slot were there before
            waiting.parked = REST
            append_ready(world, server, queue)
            return
        meet(world, memory, queue, now)
        if waiting.met == MISS and memory.miss == HOST:
            server = world.devices
        elif waiting.met != HIT:
            # In no list until its weights are here, so that no device looks at it in vain.
            waiting.parked = ASIDE
            return
    append_ready(world, server, queue)


@compiled
def take(world: World, memory: Memory, device: int, now: int) -> int:
    """Return the queue that a free device runs next, taken off its ready list; -1 if it has to wait."""
    while device_at(world, device).first_ready >= 0:
        queue = device_at(world, device).first_ready
        if queue % world.width == 0:
            return pop_ready(world, device)
        # Accessed once for each batch, however often a device looks at it before it can run.
        if queue_at(world, queue).met == NOT_MET:
            meet(world, memory, queue, now)
        if is_here(memory, queue_at(world, queue).key):
            return pop_ready(world, device)
        # The device waits for these weights, although queues behind this one may be able to run.
        if memory.ordered or memory.miss == BLOCK:
            return -1
        queue_at(world, pop_ready(world, device)).parked = ASIDE
    return -1


@compiled
def log_access(memory: Memory, key: int) -> None:
    """Note an access for those that will ask for the order of all."""
    if memory.logs:  # only in the run from which an optimum or an oracle learns the order
        log_A(memory)[memory.accesses] = key
        memory.accesses += 1


@compiled
def meet(world: World, memory: Memory, queue: int, now: int) -> None:
    """Access the expert of a queue; a miss that is loaded asks for a slot."""
    key = queue_at(world, queue).key
    own = key_at(memory, key)
    log_access(memory, key)
    met = access(memory, key)
    queue_at(world, queue).met = met
    # Handed out with its stage, it waits for its turn: until then its slot is not another's to take.
    own.promised = memory.hands_out
    if met == HIT:
        return
    # A member that was not announced joins the group: `announce_anew` numbers those that are left of it.
    if not own.protected:
        announce_anew(memory, own.cache)
        protect(memory, own.cache, key)
    # A delayed hit is on its way already; what the host computes needs no slot.
    if met == MISS and memory.miss != HOST:
        put_asking(memory, own.cache, key, cache_at(memory, own.cache).asking)
        grant(world, memory, own.cache, now)


@compiled
def put_asking(memory: Memory, cache: int, key: int, at: int) -> None:
    """Put a demand at a place among those that wait for a slot."""
    rec, asking = cache_at(memory, cache), asking_CK(memory)
    # Moved up one by one: few demands wait for a slot of one cache at a time.
    for i in range(rec.asking, at, -1):
        asking[cache, i] = asking[cache, i - 1]
    asking[cache, at] = key
    # Counted at the key as well: a prefetcher asks whether an expert is coming (`without_coming`).
    rec.asking += 1
    key_at(memory, key).asking += 1


@compiled
def pop_asking(memory: Memory, cache: int) -> None:
    """Take the first demand out of those that wait for a slot."""
    rec, asking = cache_at(memory, cache), asking_CK(memory)
    key_at(memory, asking[cache, 0]).asking -= 1
    rec.asking -= 1
    for i in range(rec.asking):
        asking[cache, i] = asking[cache, i + 1]


@compiled
def grant(world: World, memory: Memory, cache: int, now: int) -> None:
    """Give slots to the demands that wait for one, first come first served, as far as there are any."""
    # First come first served: a demand that cannot have a slot holds those behind it back, whoever may leave for them.
    while cache_at(memory, cache).asking > 0 and try_admit(world, memory, asking_CK(memory)[cache, 0], now):
        pop_asking(memory, cache)


@compiled
def try_admit(world: World, memory: Memory, key: int, now: int) -> bool:
    """Give a demand a slot, if it can have one."""
    own = key_at(memory, key)
    if own.slot >= 0:  # a prefetch has brought it since
        return True
    # The policy gives it no slot: it crosses the link all the same, since it has to run.
    if not wants(memory, key):
        return pass_through(memory, key, now)
    admitted, leaving = admit(memory, key, False)
    if not admitted:
        return False
    # A prefetched expert, demanded and not yet run: its demand needs a slot again.
    if leaving >= 0 and queue_at(world, key_at(memory, leaving).queue).met != NOT_MET:
        ask_again(memory, own.cache, leaving)
    wait_for_link(memory, ask(memory, key, own.slot, leaving, False, now))
    return True


@compiled
def ask_again(memory: Memory, cache: int, key: int) -> None:
    """Let an expert that lost its slot before it ran wait for another: where order is fixed, at its place in it."""
    at = cache_at(memory, cache).asking
    if memory.ordered:
        for i in range(cache_at(memory, cache).asking - 1, -1, -1):
            if asking_CK(memory)[cache, i] > key:
                at = i
    put_asking(memory, cache, key, at)


@compiled
def pass_through(memory: Memory, key: int, now: int) -> bool:
    """Give the extra slot to an expert that the policy declines, if nobody is in it."""
    own = key_at(memory, key)
    rec = cache_at(memory, own.cache)
    if rec.passing >= 0:  # one at a time: the next demand waits until that one has run
        return False
    rec.passing = key
    rec.declined += 1
    own.in_flight = 1
    # Slot number C, behind the cache's own: records say so where an expert only passed.
    wait_for_link(memory, ask(memory, key, rec.slots, -1, False, now))
    return True


@compiled
def load_ahead(world: World, memory: Memory, key: int, now: int) -> bool:
    """Begin to bring an expert before it is demanded; return False if it finds no slot."""
    own = key_at(memory, key)
    admitted, leaving = admit(memory, key, True)
    if not admitted:
        return False
    number = ask(memory, key, own.slot, leaving, True, now)
    # A link that costs nothing and delays nobody: the bound on what prefetching may gain.
    if memory.free_prefetch:
        transfer_at(memory, number).start_ns = transfer_at(memory, number).end_ns = now
        own.in_flight = 0
        grant(world, memory, own.cache, now)
    else:
        wait_for_link(memory, number)
    return True


@compiled
def arrive(world: World, memory: Memory, device: int, now: int) -> None:
    """Note that the first transfer of a link is there; a queue that waited for it joins its device's ready list."""
    link = link_at(memory, device)
    row = transfer_at(memory, link.first_moving)
    # Transfers of one link end in the order in which they began, so that the first is the one that is here.
    link.first_moving = row.next
    own = key_at(memory, row.key)
    own.in_flight = 0
    if queue_at(world, own.queue).parked == ASIDE:
        queue_at(world, own.queue).parked = 0
        # To the end where order must not depend on time, else to the head: it has waited longest.
        if memory.ordered:
            append_ready(world, device, own.queue)
        else:
            put_first_ready(world, device, own.queue)
    # An expert that has arrived may leave again, unless it is protected: somebody may be waiting for a slot.
    grant(world, memory, own.cache, now)


@compiled
def bound(world: World, memory: Memory, queue: int, device: int) -> int:
    """Note that a batch of an expert has been bound; return 1 if its expert was resident when it was demanded."""
    waiting = queue_at(world, queue)
    hit = 1 if waiting.met == HIT else 0
    waiting.met = NOT_MET
    own = key_at(memory, waiting.key)
    if device == own.device:
        start_running(memory, waiting.key)
    else:
        # The host runs it: on the device its expert holds nothing, and waits for nothing any more.
        leave_turn(memory, own.cache, waiting.key)
    return hit


@compiled
def released(world: World, memory: Memory, queue: int, device: int, now: int) -> None:
    """Note that a batch of an expert is complete; demands that waited for a slot may have it."""
    key = queue_at(world, queue).key
    own = key_at(memory, key)
    if device == own.device:
        own.running = 0
        if cache_at(memory, own.cache).passing == key:
            cache_at(memory, own.cache).passing = -1
        # Demands that waited for this slot were there before a further access of the same expert.
        grant(world, memory, own.cache, now)
        if queue_at(world, queue).parked == REST:
            queue_at(world, queue).parked = 0
            meet(world, memory, queue, now)
