"""The best order that all others together find within a time, and the best bound: what `--policy best` runs.

Small graphs are searched exactly. Larger ones are split (`cuts`); then the peak so far, less one byte, is refuted
(`order_bounds`), which proves it, or the
edges that every better order must keep lead to one; windows improve what is left.
"""

from __future__ import annotations

import time

import numpy as np

from moe_replay.simulate.ordering import breadth_first, captured, depth_first, lpmf
from moe_replay.simulate.ordering.cuts import NO_LIMIT, Effort, searched, splits
from moe_replay.simulate.ordering.deadline import until_after
from moe_replay.simulate.ordering.order_bounds import ALL_ROUNDS, cut_bound, refute, sibling_bound
from moe_replay.simulate.ordering.order_result import OrderResult, peak_of
from moe_replay.simulate.ordering.touches import touches_of
from moe_replay.simulate.ordering.windows import STATES_PER_S, improved
from moe_replay.traces.training_graphs.training_graph import TrainingGraph

EXACT = 150  # operations up to which the whole is searched exactly
STATES = (30_000, 300_000, 3_000_000)


class Standing:
    """The best order and bound so far, who found them, and until when to look on."""

    def __init__(self, graph: TrainingGraph, seconds: float) -> None:
        self.graph, self.touches = graph, touches_of(graph)
        self.until = until_after(seconds)
        self.order_N, self.peak, self.by = None, NO_LIMIT, ""
        self.bound, self.bound_by = cut_bound(self.touches), "cut"

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to find, or no time."""
        return self.peak == self.bound or time.monotonic() > self.until

    def offer(self, order_N: np.ndarray, by: str) -> bool:
        """Take an order if it is better; return whether it was."""
        peak = peak_of(self.graph, order_N)
        if peak >= self.peak:
            return False
        self.order_N, self.peak, self.by = np.asarray(order_N, np.int32), peak, by
        return True

    def raise_bound(self, bound: int, by: str) -> None:
        """Take a bound if it is better."""
        if bound > self.bound:
            self.bound, self.bound_by = bound, by

    def until_share(self, share: float) -> float:
        """Return when a share of the time that is left will be over."""
        now = time.monotonic()
        return now + share * max(0.0, self.until - now)


def order(graph: TrainingGraph, seconds: float = 60, seed: int = 0) -> OrderResult:
    """Return the best order and bound that are found within about `seconds`."""
    standing = Standing(graph, seconds)
    for policy in (captured, lpmf, breadth_first, depth_first):
        found = policy.order(graph)
        standing.offer(found.order_N, found.by)
    backwards_N = lpmf.least_peak_first(standing.touches.reversed())[::-1]
    standing.offer(backwards_N, "lpmf backwards")
    for search in SEARCHES:
        if standing.is_over:
            break
        search(standing)
    by = f"{standing.by}; {standing.bound_by}"
    return OrderResult(standing.order_N, standing.peak, standing.bound, by)


def exactly_if_small(standing: Standing) -> None:
    """Search the whole graph exactly, with more and more states, after what every better order must keep is known."""
    for states in STATES if standing.graph.N <= EXACT else ():
        if standing.is_over:
            return
        is_refuted, touches = refute(standing.touches, standing.peak - 1, standing.until_share(0.2))
        if is_refuted:
            standing.raise_bound(standing.peak, "propagated pairs")
            return
        left = STATES_PER_S * (standing.until - time.monotonic())
        found_N, reached = searched(touches, standing.bound, standing.peak - 1, int(max(1_000, min(states, left))))
        if found_N is not None:
            standing.offer(found_N, "exact search")
        standing.raise_bound(min(reached, standing.peak), "exact search")


def by_cuts(standing: Standing) -> None:
    """Split the graph in four quick ways."""
    effort = Effort(standing.until_share(0.3), splits=1)
    for found_N in splits(standing.touches, standing.bound, effort):
        standing.offer(found_N, "cuts")
        if standing.is_over or time.monotonic() > effort.until:
            return


def by_refuting(standing: Standing) -> None:
    """Refute the peak less one byte, for at most a fifth of the time that is left: then the order is proved."""
    if refute(standing.touches, standing.peak - 1, standing.until_share(0.2))[0]:
        standing.raise_bound(standing.peak, "propagated pairs")


def by_certain_edges(standing: Standing) -> None:
    """Aim between bound and peak, by halves: a limit is refuted, or what all orders within it keep helps to find one.

    The greedy order that keeps those edges begins in another place than the splits; windows go on from there.
    """
    low, high, tried = standing.bound, standing.peak - 1, set()
    while low < high and not standing.is_over:
        goal = (3 * low + high) // 4
        is_refuted, touches = refute(standing.touches, goal, standing.until_share(0.15))
        if is_refuted:
            low = goal + 1
            standing.raise_bound(low, "propagated pairs")
            continue
        for part, is_reversed in ((touches, False), (touches.reversed(), True)):
            found_N = lpmf.least_peak_first(part)[:: -1 if is_reversed else 1]
            if peak_of(standing.graph, found_N) < 2 * standing.peak and found_N.tobytes() not in tried:
                tried.add(found_N.tobytes())
                improve(standing, found_N, "lpmf with certain edges, windows")
        high = min(goal, standing.peak - 1)
        if high - low <= low // 1_000:
            return


def improve(standing: Standing, order_N: np.ndarray, by: str) -> None:
    """Offer an order as windows improve it, for at most half of the time that is left."""
    until = standing.until_share(0.5)
    standing.offer(improved(standing.graph, standing.touches, order_N, standing.bound, until), by)


def by_windows(standing: Standing) -> None:
    """Improve the best order by windows."""
    improve(standing, standing.order_N, f"{standing.by}, windows")


def by_careful_cuts(standing: Standing) -> None:
    """Split with regard to what both sides need then, within what every better order must keep."""
    goal = standing.peak - 1
    is_refuted, touches = refute(standing.touches, goal, standing.until_share(0.2))
    if is_refuted:
        standing.raise_bound(goal + 1, "propagated pairs")
        return
    effort = Effort(standing.until_share(0.5), splits=8, retries=[8])
    for found_N in splits(touches, standing.bound, effort):
        standing.offer(found_N, "cuts with certain edges")
        if standing.is_over or time.monotonic() > effort.until:
            return


def by_bounding(standing: Standing) -> None:
    """Raise the bound with the time that is left."""
    bound = sibling_bound(standing.touches, standing.bound, standing.peak, standing.until, ALL_ROUNDS)
    standing.raise_bound(bound, "propagated pairs")


SEARCHES = (exactly_if_small, by_cuts, by_refuting, by_certain_edges, by_windows, by_careful_cuts, by_bounding)
