"""Orders by recursive splits: at the operation that needs most, in the lowest state in which it can run.

With a limit in mind, which begins at a lower bound and rises to what was needed, a problem is first made smaller from
both ends by steps that lose nothing: if the states that hold no more than the first one, and contain some operation,
have a lowest one that can be reached within the limit, some best order passes through it. For memory is submodular,
m(A and B) + m(A or B) <= m(A) + m(B), so that any order can be bent through such a state and no step rises. What is
left is searched exactly where it is small; else it is split at the lowest state of its bottleneck. That may be the
wrong one: only then can the order be above its limit.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace

import numpy as np

from moe_replay.simulate.ordering.deadline import until_after
from moe_replay.simulate.ordering.kernels.lowest_state import DONE, lowest_state, lowest_steps, sides_at
from moe_replay.simulate.ordering.kernels.state_search import FOUND, free_ones, search
from moe_replay.simulate.ordering.lpmf import least_peak_first
from moe_replay.simulate.ordering.order_bounds import cut_bound
from moe_replay.simulate.ordering.order_result import OrderResult, peak_of
from moe_replay.simulate.ordering.touches import Touches, touches_of
from moe_replay.traces.training_graphs.training_graph import TrainingGraph

NO_LIMIT = 2**61


@dataclass(frozen=True)
class Effort:
    """How much a split may try: operations of a valley and states to reach it, and of what is searched exactly.

    `largest`: which of several lowest states of a bottleneck is taken. `until`: when to finish, of time.monotonic.
    """

    until: float
    valley: int = 150
    valley_states: int = 3_000
    exact: int = 60
    exact_states: int = 30_000
    largest: bool = False
    splits: int = 8
    retries: list[int] = field(default_factory=lambda: [0])

    def retry(self) -> bool:
        """Say whether another split may be tried, and count it."""
        self.retries[0] -= 1
        return self.retries[0] >= 0 and time.monotonic() < self.until


def order(graph: TrainingGraph, seconds: float = 60, seed: int = 0) -> OrderResult:
    """Return the best order of eight splits: both ways in time, at the smallest and largest states, quick and slow."""
    touches, until = touches_of(graph), until_after(seconds)
    bound = cut_bound(touches)
    order_N, peak = least_peak_first(touches), NO_LIMIT
    for found_N in splits(touches, bound, Effort(until)):
        if (found := peak_of(graph, found_N)) < peak:
            order_N, peak = found_N, found
        if peak == bound or time.monotonic() > until:
            break
    return OrderResult(order_N, peak, bound, "cuts; cut")


def splits(touches: Touches, limit: int, effort: Effort):  # noqa: ANN201
    """Yield an order for each way to split, as each is asked for: forwards and backwards, the quick ways first."""
    for ways in dict.fromkeys((1 if effort.retries[0] == 0 else effort.splits, effort.splits)):
        for is_largest in (False, True):
            for is_reversed in (False, True):
                part = touches.reversed() if is_reversed else touches
                order_N, _ = split(part, limit, replace(effort, largest=is_largest, splits=ways))
                yield order_N[::-1] if is_reversed else order_N


def searched(touches: Touches, limit: int, last_limit: int, states: int) -> tuple[np.ndarray | None, int]:
    """Return (an order, its peak) of an exact search, backwards first, which is mostly the shorter one.

    None where no order was found; the number is then a lower bound.
    """
    for part, is_reversed in ((touches.reversed(), True), (touches, False)):
        outcome, limit, order_N = search(part.arrays, limit, last_limit, states)
        limit = int(limit)
        if outcome == FOUND:
            return (order_N[::-1] if is_reversed else order_N), limit
        if limit > last_limit:
            break
    return None, limit


def split(touches: Touches, limit: int, effort: Effort) -> tuple[np.ndarray, int]:
    """Return (an order, the limit as it has risen)."""
    if time.monotonic() > effort.until:
        return least_peak_first(touches), limit
    begin, core, core_N, end = reduced(touches, limit, effort)
    middle = np.empty(0, np.int32)
    if core.N:
        found_N, reached = None, limit
        if effort.exact >= core.N:
            found_N, reached = searched(core, limit, NO_LIMIT, effort.exact_states)
        if found_N is None:
            found_N, reached = at_the_bottleneck(core, reached, effort)
        middle, limit = core_N[found_N], reached
    return np.concatenate([begin, middle, end]).astype(np.int32), limit


def at_the_bottleneck(core: Touches, limit: int, effort: Effort) -> tuple[np.ndarray, int]:
    """Return (an order, the limit as it has risen) that runs an operation that needs much in a low state.

    Where a split turns out to need more than the limit others are tried, as long as `effort.retries` lasts.
    """
    best, most = None, NO_LIMIT
    for need, operation, done_N in ranked_splits(core, limit, effort):
        if best is not None and (need >= most or not effort.retry()):
            break
        order_N, reached = ran_at(core, operation, done_N, max(limit, need), most, effort)
        if order_N is not None:
            best, most = order_N, reached
        if most <= limit:
            break
    return best, most


def ran_at(
    core: Touches, operation: int, done_N: np.ndarray, limit: int, most: int, effort: Effort
) -> tuple[np.ndarray | None, int]:
    """Return (an order, the limit as it has risen) through a state; None as soon as it rises to `most`."""
    first, first_N = core.part(done_N, np.zeros(core.N, bool))
    before_N, limit = split(first, limit, effort) if first.N else (np.empty(0, np.int32), limit)
    if limit >= most:
        return None, limit
    done_N = done_N.copy()
    done_N[operation] = True
    last, last_N = core.part(~done_N, done_N)
    after_N, limit = split(last, limit, effort) if last.N else (np.empty(0, np.int32), limit)
    if limit >= most:
        return None, limit
    return np.concatenate([first_N[before_N], [operation], last_N[after_N]]).astype(np.int32), limit


def ranked_splits(core: Touches, limit: int, effort: Effort) -> list[tuple[int, int, np.ndarray]]:
    """Return (bound of both sides, operation, who is done when it runs), the lowest bound first.

    The operations that need most are tried in their smallest and largest lowest state; the first that raises no bound
    ends the search, unless others may be asked for.
    """
    least_N = lowest_steps(core.arrays)
    if effort.splits == 1:
        operation = int(least_N.argmax())
        done_N = lowest_state(core.arrays, sides_at(core.arrays, operation), effort.largest)[1]
        return [(int(least_N[operation]), operation, done_N)]
    enough, found, seen = max(limit, int(least_N.max())), [], set()
    for operation in np.argsort(-least_N, kind="stable")[: effort.splits].tolist():
        for is_largest in (effort.largest, not effort.largest):
            _, done_N = lowest_state(core.arrays, sides_at(core.arrays, operation), is_largest)
            if (done_N.tobytes(), operation) in seen:
                continue
            seen.add((done_N.tobytes(), operation))
            need = max(int(least_N[operation]), need_of_halves(core, operation, done_N))
            found.append((max(need, enough), len(found), operation, done_N))
            if need <= enough and not effort.retries[0]:
                return [(need, operation, done_N)]
    return [(need, operation, done_N) for need, _, operation, done_N in sorted(found, key=lambda each: each[:2])]


def need_of_halves(core: Touches, operation: int, done_N: np.ndarray) -> int:
    """Return the cut bound of what runs before an operation and of what runs after it."""
    later_N = ~done_N
    later_N[operation] = False
    halves = [core.part(done_N, np.zeros(core.N, bool))[0], core.part(later_N, ~later_N)[0]]
    return max((int(lowest_steps(half.arrays).max()) for half in halves if half.N), default=0)


def reduced(touches: Touches, limit: int, effort: Effort) -> tuple[list[int], Touches, np.ndarray, list[int]]:
    """Return (what runs first, the rest, its numbers, what runs last), taken off both ends as long as that is safe."""
    begin, end, core, core_N = [], [], touches, np.arange(touches.N)
    done_N, inside_N = np.zeros(touches.N, bool), np.ones(touches.N, bool)
    while core.N:
        first_N = core_N[taken(core, limit, effort)]
        done_N[first_N], inside_N[first_N] = True, False
        begin += first_N.tolist()
        core, core_N = touches.part(inside_N, done_N)
        last_N = core_N[taken(core.reversed(), limit, effort)] if core.N else np.empty(0, int)
        if not len(last_N):
            break
        inside_N[last_N] = False
        end = last_N[::-1].tolist() + end
        core, core_N = touches.part(inside_N, done_N)
    return begin, core, core_N, end


def taken(touches: Touches, limit: int, effort: Effort) -> np.ndarray:
    """Return operations that some best order within the limit runs first, in that order: free ones, and valleys."""
    order, rest, rest_N, done_N = [], touches, np.arange(touches.N), np.zeros(touches.N, bool)
    while rest.N and time.monotonic() < effort.until:
        ran_N = free_ones(rest.arrays, limit)
        if not len(ran_N):
            ran_N = valley(rest, limit, effort)
        if ran_N is None:
            break
        order += rest_N[ran_N].tolist()
        done_N[rest_N[ran_N]] = True
        rest, rest_N = touches.part(~done_N, done_N)
    return np.array(order, np.int32)


def valley(touches: Touches, limit: int, effort: Effort) -> np.ndarray | None:
    """Return an order to a state that holds no more than the first one, lowest of those with some operation; or None.

    Any such state has an operation that may run at once, so that these are enough to ask.
    """
    found = {}
    for operation in np.flatnonzero(touches.before.lengths == 0):
        side_N = np.zeros(touches.N, np.int8)
        side_N[operation] = DONE
        held, done_N = lowest_state(touches.arrays, side_N, False)
        if held <= touches.at_start:
            found[done_N.tobytes()] = done_N
    for done_N in sorted(found.values(), key=np.count_nonzero):
        if np.count_nonzero(done_N) > effort.valley:
            break
        part, part_N = touches.part(done_N, np.zeros(touches.N, bool))
        outcome, _, order_N = search(part.arrays, limit, limit, effort.valley_states)
        if outcome == FOUND:
            return part_N[order_N]
    return None
