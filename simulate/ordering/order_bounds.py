"""Lower bounds of the peak of any order, the weakest first.

*in + work + out*: while an operation runs, all it touches is there. *Cut*: and so is what the lowest state holds in
which it can run, a minimum cut. *Sibling pairs*: one of two operations runs first; where both orders of a pair would
exceed a limit, the limit is no peak. *Propagated*: where one of them would, the other is certain; it becomes an edge,
raises other cuts and decides other pairs, until a limit is refuted or nothing more follows. All hold for the reverse.
"""

from __future__ import annotations

import time

import numpy as np

from moe_replay.simulate.ordering.kernels.lowest_state import DONE, UNDONE, forced_by, lowest_steps
from moe_replay.simulate.ordering.touches import Touches

ALL_ROUNDS = 1000
LEAST_NEED = 0.4  # of a limit, where asking pays: lighter operations are hardly ever forced to a side
ASKED_AT_ONCE = 32  # operations, before what they tell is put to use; doubled while they tell nothing


def in_work_out(touches: Touches) -> int:
    """Return the most bytes that one operation needs by itself, beside what is always there."""
    is_always_S = touches.from_start_S & touches.to_end_S
    changing_S, storages = np.where(is_always_S, 0, touches.bytes_S), touches.storages
    summed = np.concatenate([[0], np.cumsum(changing_S[storages.items])])
    own_N = summed[storages.first[1:]] - summed[storages.first[:-1]] + touches.work_N
    return max(int(own_N.max() + touches.bytes_S[is_always_S].sum()), at_ends(touches))


def at_ends(touches: Touches) -> int:
    """Return the bytes that are there at the first or at the last step of every order, whichever are more."""
    return max(touches.at_start, touches.reversed().at_start)


def cut_bound(touches: Touches) -> int:
    """Return the most bytes that are there, in its own lowest state, when an operation runs, or at an end."""
    return max(int(lowest_steps(touches.arrays).max()), at_ends(touches))


def refute(touches: Touches, limit: int, until: float, rounds: int = ALL_ROUNDS) -> tuple[bool, Touches]:
    """Return (whether no order keeps a limit, the touches with the edges that all orders within the limit keep).

    False where the question is open: nothing more follows, or the time (`until`, of time.monotonic) has run out.
    """
    last_N, fruitful_N = np.full(touches.N, -1, np.int64), np.ones(touches.N, bool)
    for _ in range(rounds):
        least_N = lowest_steps(touches.arrays)
        if least_N.max() > limit:
            return True, touches
        # Those that told something, or whose cut has risen, are asked first, the others only when these are silent.
        is_second_N = ~fruitful_N & (least_N == last_N)
        asked = np.lexsort((-least_N, is_second_N))
        asked = asked[least_N[asked] >= limit * LEAST_NEED]
        edge_X2, last_N, at, many = np.empty((0, 2), np.int64), least_N, 0, ASKED_AT_ONCE
        while not len(edge_X2) and at < len(asked) and time.monotonic() < until:
            edge_X2 = certain_edges(touches, asked[at : at + many], limit, until, fruitful_N)
            at, many = at + many, 2 * many
        if not len(edge_X2):
            return False, touches
        touches = touches.with_edges(edge_X2)
        if touches.order_N is None:
            return True, touches
    return False, touches


def certain_edges(touches: Touches, asked: np.ndarray, limit: int, until: float, fruitful_N: np.ndarray) -> np.ndarray:
    """Return edge_X2 that every order within a limit keeps, found at some operations; `fruitful_N` says at which."""
    side_N, forced_N = np.zeros(touches.N, np.int8), np.zeros(touches.N, np.int8)
    found = []
    for v in asked.tolist():
        forced_by(touches.arrays, v, limit, touches.order_N, side_N, forced_N)
        first, later = np.flatnonzero(forced_N == DONE), np.flatnonzero(forced_N == UNDONE)
        fruitful_N[v] = len(first) + len(later)
        found += [(u, v) for u in first.tolist()] + [(v, u) for u in later.tolist()]
        if time.monotonic() > until:
            break
    return np.array(found, np.int64).reshape(-1, 2)


def sibling_bound(touches: Touches, low: int, high: int, until: float, rounds: int = 1) -> int:
    """Return a bound between `low`, which is one, and `high`, some order's peak; more `rounds` propagate what is found.

    Limits are tried from the top, since the bound is often the peak itself, then by halves, down to a share of 1e-4.
    """
    limit = high - 1
    while low <= limit and time.monotonic() < until:
        if refute(touches, limit, until, rounds)[0]:
            low = limit + 1
        else:
            high = limit
        if high - low <= low // 10_000:
            break
        limit = (low + high) // 2
    return low
