"""Masked gating and SwapMoE's online scheduler, compiled: the rules of `simulate.policies.memory.masking`."""

from __future__ import annotations

from moe_replay.simulate.compiled.caches.cache import access, start_running
from moe_replay.simulate.compiled.jit import compiled
from moe_replay.simulate.compiled.memory.expert_memory import grant, is_here, load_ahead
from moe_replay.simulate.compiled.memory.host_link import is_busy
from moe_replay.simulate.compiled.memory.memory_layout import (
    Memory,
    cache_at,
    candidates_TLC,
    key_at,
    link_at,
    norm_K,
    norm_TL,
    plan_DK,
    score_K,
    scores_TLC,
    stamp_K,
    worth_K,
)
from moe_replay.simulate.compiled.run_layout import World, pass_at, queue_at, routed_NK


@compiled
def route(world: World, memory: Memory, p: int, layer: int, now: int) -> int:
    """Choose what each token of a pass runs in a layer, and pin it; return how many selections are left."""
    rec = pass_at(world, p)
    base = layer * memory.experts
    # Before it is known who is here: a miss counts what the router chose, not what runs in its place.
    access_chosen(world, memory, p, layer)
    for expert in range(memory.experts):
        # Noted once for all tokens of the pass, which see the same residents.
        key_at(memory, base + expert).here = is_here(memory, base + expert)
    left = 0
    for i in range(rec.tokens):
        runs = mask_token(world, memory, layer, rec.first_row + i, rec.offset + i)
        count_token(world, memory, layer, rec.first_row + i, rec.offset + i, runs)
        for rank in range(runs):
            # Until its selections have run: what was promised to a token must not be exchanged meanwhile.
            pin(memory, base + routed_NK(world)[rec.offset + i, rank])
        left += runs
    return left


@compiled
def access_chosen(world: World, memory: Memory, p: int, layer: int) -> None:
    """Access each of the experts that a pass selected once, ascending."""
    rec = pass_at(world, p)
    # A new stamp unmarks all experts at once: no list has to be cleared.
    memory.stamp += 1
    for row in range(rec.first_row, rec.first_row + rec.tokens):
        for rank in range(world.k):
            expert = candidates_TLC(memory)[row, layer, rank]
            if expert >= 0:
                stamp_K(memory)[expert] = memory.stamp
    # Ascending and each once, as the reference does: the order of accesses decides who leaves.
    for expert in range(memory.experts):
        if stamp_K(memory)[expert] == memory.stamp:
            access(memory, layer * memory.experts + expert)


@compiled
def mask_token(world: World, memory: Memory, layer: int, row: int, token: int) -> int:
    """Write what runs of a token's candidates into its routed ones; a stand-in keeps the place. Return how many."""
    k, base = world.k, layer * memory.experts
    # Candidates behind the first k are those that the router would have taken next, best first.
    stand_in, runs = k, 0
    for rank in range(k):
        expert = candidates_TLC(memory)[row, layer, rank]
        if expert < 0:
            continue
        if not key_at(memory, base + expert).here:
            expert = -1
            # Each stand-in is used once for a token: the search goes on where it stopped for the rank before.
            while memory.redirects and stand_in < memory.candidates and expert < 0:
                other = candidates_TLC(memory)[row, layer, stand_in]
                if other >= 0 and key_at(memory, base + other).here:
                    expert = other
                stand_in += 1
        if expert >= 0:
            routed_NK(world)[token, runs] = expert
            runs += 1
    for rank in range(runs, k):
        # Rows are used again by later layers, so that what is left of an earlier one is wiped out.
        routed_NK(world)[token, rank] = -1
    return runs


@compiled
def score_of(memory: Memory, layer: int, row: int, expert: int) -> float:
    """Return the score of one of a token's candidates."""
    for rank in range(memory.candidates):
        if candidates_TLC(memory)[row, layer, rank] == expert:
            # In double precision, as the reference adds: sums of importance decide ties.
            return float(scores_TLC(memory)[row, layer, rank])
    return 0.0


@compiled
def count_token(world: World, memory: Memory, layer: int, row: int, token: int, runs: int) -> None:
    """Count the gate mass that a token loses, and what it says about the importance of the experts it selected."""
    whole, kept = 0.0, 0.0
    for rank in range(world.k):
        expert = candidates_TLC(memory)[row, layer, rank]
        if expert < 0:
            continue
        mass, key = score_of(memory, layer, row, expert), layer * memory.experts + expert
        whole += mass
        # Importance counts what the router chose *before* masking, so that an absent expert can earn its slot.
        if memory.period:
            norm = float(norm_TL(memory)[row, layer]) if norm_TL(memory).shape[0] > 0 else 1.0
            score_K(memory)[key] += norm * mass * norm_K(memory)[key]
    for rank in range(runs):
        kept += score_of(memory, layer, row, routed_NK(world)[token, rank])
    # A row without a route, or with scores of zero, has no mass to lose.
    if whole > 0:
        memory.lost_mass += 1 - kept / whole
        memory.routed_rows += 1


@compiled
def pin(memory: Memory, key: int) -> None:
    """Keep an expert where it is for as long as anything that is to run it waits or runs."""
    key_at(memory, key).members += 1
    if key_at(memory, key).members == 1:
        start_running(memory, key)


@compiled
def release_masked(world: World, memory: Memory, queue: int, size: int, now: int) -> None:
    """Unpin the expert of a completed batch when nothing waits for it."""
    key = queue_at(world, queue).key
    own = key_at(memory, key)
    own.members -= size
    if own.members == 0:
        key_at(memory, key).running = 0
        grant(world, memory, own.cache, now)


@compiled
def passes_finished(world: World, memory: Memory, count: int) -> None:
    """Choose the experts to hold anew, if a period has ended."""
    before = memory.passes_done
    memory.passes_done += count
    # Periods are counted in passes; several may end in one round, and make one choice.
    if not memory.period or memory.passes_done // memory.period == before // memory.period:
        return
    for key in range(len(score_K(memory))):
        # What the window gathered replaces the importance before: nothing is carried over.
        worth_K(memory)[key] = score_K(memory)[key]
    for device in range(world.devices):
        link = link_at(memory, device)
        link.planned = link.plan_at = 0
        for cache in range(device * memory.caches, (device + 1) * memory.caches):
            plan(memory, device, cache)
    for key in range(len(score_K(memory))):
        score_K(memory)[key] = 0.0


@compiled
def plan(memory: Memory, device: int, cache: int) -> None:
    """Add to a device's plan what a cache should hold and does not: the most important, the best of them first."""
    rec, link = cache_at(memory, cache), link_at(memory, device)
    # Marks those already chosen, so that the best left is found by a look at all: caches hold few experts.
    memory.stamp += 1
    for _ in range(rec.slots):
        best = -1
        for key in range(rec.first_key, rec.first_key + rec.keys):
            open_still = key_at(memory, key).cache == cache and stamp_K(memory)[key] != memory.stamp
            if open_still and (best < 0 or is_worth_more(memory, key, best)):
                best = key
        if best < 0:
            return
        stamp_K(memory)[best] = memory.stamp
        if key_at(memory, best).slot < 0:
            plan_DK(memory)[device, link.planned] = best
            link.planned += 1


@compiled
def is_worth_more(memory: Memory, key: int, other: int) -> bool:
    """Say whether an expert goes before another with a lower key: by importance, then by being there."""
    mine, its = worth_K(memory)[key], worth_K(memory)[other]
    # Of equals the resident one: an exchange that gains nothing would only load the link.
    return mine > its or (mine == its and key_at(memory, key).slot >= 0 and key_at(memory, other).slot < 0)


@compiled
def exchange_planned(world: World, memory: Memory, now: int) -> None:
    """Let an idle link take the next exchanges of its device's plan."""
    for device in range(world.devices):
        link = link_at(memory, device)
        # One transfer at a time: the plan may be replaced before the next one begins.
        while link.plan_at < link.planned and not is_busy(memory, device):
            if not exchange(world, memory, plan_DK(memory)[device, link.plan_at], now):
                break
            link.plan_at += 1


@compiled
def exchange(world: World, memory: Memory, key: int, now: int) -> bool:
    """Bring an expert if it is worth a slot that may be had; return False if that has to wait."""
    own = key_at(memory, key)
    rec = cache_at(memory, own.cache)
    if own.slot >= 0 or rec.free > 0:
        return own.slot >= 0 or load_ahead(world, memory, key, now)
    # The least of all says whether the exchange is worth it at all, the least that may leave whether it can be now.
    least_held, least_leaving, may_leave = worth_K(memory)[rec.oldest], 0.0, False
    held = rec.oldest
    while held >= 0:
        worth = worth_K(memory)[held]
        least_held = min(least_held, worth)
        if not key_at(memory, held).in_flight and not key_at(memory, held).running:
            least_leaving = min(least_leaving, worth) if may_leave else worth
            may_leave = True
        held = key_at(memory, held).newer
    if least_held >= worth_K(memory)[key]:  # nobody is worth less: the exchange is dropped
        return True
    return may_leave and least_leaving < worth_K(memory)[key] and load_ahead(world, memory, key, now)
