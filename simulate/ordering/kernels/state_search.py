"""Exact search over states for the lowest peak: best first by memory, with a limit that rises only when it must.

A state is a set of done operations. From the empty one all states are explored that can be reached without a step above
the limit, those that hold least first. When none is left the limit is no peak of any order, and rises to the least step
that was refused; so the limit is a lower bound at any time, and the optimum when all is done.

An operation that may run, keeps the limit and leaves no more than there was is run at once: that loses nothing, since
what it brings and what it needs only fall as others are done (memory is a submodular function of the state).
"""

from typing import NamedTuple

import numpy as np
from numba import njit


class States(NamedTuple):
    """What is known of X states: W words of who is done, a code of them, bytes, the least step that was refused.

    Also the state and the operation that each came from, a table by code and a heap of those that wait; then a random
    number per operation, whose sums tell states apart, and the words of the state in which all is done.
    """

    bits_XW: np.ndarray
    code_X: np.ndarray
    alive_X: np.ndarray
    refused_X: np.ndarray
    parent_X: np.ndarray
    via_X: np.ndarray
    table: np.ndarray
    heap: np.ndarray
    code_N: np.ndarray
    full: np.ndarray


FOUND, LIMIT_REACHED, OUT_OF_STATES = 0, 1, 2
NONE = np.int64(2**62)


@njit(cache=True, nogil=True)
def step_of(p: NamedTuple, v: int, touched_S: np.ndarray, alive: int) -> tuple[int, int]:
    """Return (bytes while v runs, bytes after it) if v runs now; `touched_S`: how many have touched each storage."""
    new, freed = np.int64(0), np.int64(0)
    for k in range(p.first_s[v], p.first_s[v + 1]):
        s = p.storages[k]
        if touched_S[s] == 0 and not p.from_start_S[s]:
            new += p.bytes_S[s]
        if touched_S[s] + 1 == p.first_o[s + 1] - p.first_o[s] and not p.to_end_S[s]:
            freed += p.bytes_S[s]
    return alive + new + p.work_N[v], alive + new - freed


@njit(cache=True, nogil=True)
def is_ready(p: NamedTuple, v: int, done_N: np.ndarray) -> bool:
    """Say whether all that must run before v is done."""
    for k in range(p.first_b[v], p.first_b[v + 1]):  # noqa: SIM110  numba compiles loops, not all()
        if not done_N[p.before[k]]:
            return False
    return True


@njit(cache=True, nogil=True)
def mark(p: NamedTuple, v: int, done_N: np.ndarray, touched_S: np.ndarray, by: int) -> None:
    """Let v be done (by = 1) or not (by = -1)."""
    done_N[v] = by > 0
    for k in range(p.first_s[v], p.first_s[v + 1]):
        touched_S[p.storages[k]] += by


@njit(cache=True, nogil=True)
def run_free(
    p: NamedTuple, done_N: np.ndarray, touched_S: np.ndarray, alive: int, limit: int, within_N: np.ndarray,
    ran: np.ndarray, count: int,
) -> tuple[int, int]:  # fmt: skip
    """Run all that is free now that the last of `ran[:count]` has run; return (bytes, how many ran), listed in `ran`.

    Only what is `within_N` runs; where that is empty, anything may.
    """
    at = count - 1
    while at < count:
        w = ran[at]
        at += 1
        for part in range(2):
            begin = p.first_a[w] if part == 0 else p.first_s[w]
            end = p.first_a[w + 1] if part == 0 else p.first_s[w + 1]
            for k in range(begin, end):
                first = k if part == 0 else p.first_o[p.storages[k]]
                last = k + 1 if part == 0 else p.first_o[p.storages[k] + 1]
                for j in range(first, last):
                    u = p.after[j] if part == 0 else p.operations[j]
                    if (len(within_N) == 0 or within_N[u]) and not done_N[u] and is_ready(p, u, done_N):
                        high, left = step_of(p, u, touched_S, alive)
                        if high <= limit and left <= alive:
                            mark(p, u, done_N, touched_S, 1)
                            alive = left
                            ran[count] = u
                            count += 1
    return alive, count


@njit(cache=True, nogil=True)
def is_first(key_X: np.ndarray, one: int, other: int) -> bool:
    """Say whether one index comes before another: by key, the newest first among equals."""
    return key_X[one] < key_X[other] or (key_X[one] == key_X[other] and one > other)


@njit(cache=True, nogil=True)
def sift(heap: np.ndarray, size: int, key_X: np.ndarray, index: int) -> None:
    """Put an index into a heap of `size` entries."""
    at = size
    while at and is_first(key_X, index, heap[(at - 1) >> 1]):
        heap[at] = heap[(at - 1) >> 1]
        at = (at - 1) >> 1
    heap[at] = index


@njit(cache=True, nogil=True)
def pop(heap: np.ndarray, size: int, key_X: np.ndarray) -> int:
    """Take the first index out of a heap of `size` entries and return it."""
    top, last, at = heap[0], heap[size - 1], 0
    while 2 * at + 1 < size - 1:
        down = 2 * at + 1
        if down + 1 < size - 1 and is_first(key_X, heap[down + 1], heap[down]):
            down += 1
        if is_first(key_X, last, heap[down]):
            break
        heap[at] = heap[down]
        at = down
    heap[at] = last
    return top


@njit(cache=True, nogil=True)
def place_of(table: np.ndarray, bits_XW: np.ndarray, code_X: np.ndarray, words: np.ndarray, code: np.uint64) -> int:
    """Return where a state of these words is in the table, or (as -1 - place) where it would be."""
    size = len(table)
    at = np.int64(code & np.uint64(size - 1))
    while table[at] >= 0:
        i = table[at]
        if code_X[i] == code:
            same = True
            for w in range(len(words)):
                same &= bits_XW[i, w] == words[w]
            if same:
                return at
        at = (at + 1) & (size - 1)
    return -1 - at


@njit(cache=True, nogil=True)
def unpack(p: NamedTuple, words: np.ndarray, done_N: np.ndarray, touched_S: np.ndarray) -> None:
    """Set who is done, and how many have touched each storage, from the words of a state."""
    touched_S[:] = 0
    for v in range(len(done_N)):
        done_N[v] = (words[v >> 6] >> np.uint64(v & 63)) & np.uint64(1)
        if done_N[v]:
            for k in range(p.first_s[v], p.first_s[v + 1]):
                touched_S[p.storages[k]] += 1


def search(p: NamedTuple, limit: int, last_limit: int, most_states: int) -> tuple[int, int, np.ndarray]:
    """Return (outcome, limit, order_N): the least peak if it is at least `limit` and at most `last_limit`.

    FOUND: `limit` is the optimum, or an order does with the limit asked for, and `order_N` reaches it. LIMIT_REACHED:
    no order has a peak below `limit`, which is above `last_limit`. OUT_OF_STATES: no order has a peak below `limit`.
    """
    n, slots = len(p.work_N), 4
    while slots < 2 * most_states:
        slots *= 2
    full = np.packbits(np.pad(np.ones(n, np.uint8), (0, -n % 64)), bitorder="little").view(np.uint64)
    states = States(
        np.zeros((most_states, len(full)), np.uint64), np.zeros(most_states, np.uint64),
        np.zeros(most_states, np.int64), np.zeros(most_states, np.int64), np.zeros(most_states, np.int32),
        np.zeros(most_states, np.int32), np.full(slots, -1, np.int32), np.zeros(most_states, np.int32),
        np.random.default_rng(0).integers(0, 2**63, n).astype(np.uint64), full,
    )  # fmt: skip
    outcome, limit, last = explore(p, states, np.int64(limit), np.int64(last_limit))
    order_N = path_to(p, last, states, limit) if outcome == FOUND else np.empty(0, np.int32)
    return outcome, limit, order_N


@njit(cache=True, nogil=True)
def explore(p: NamedTuple, states: NamedTuple, limit: int, last_limit: int) -> tuple[int, int, int]:
    """Return (outcome, limit, the last state) of `search`."""
    n, alive_X, refused_X = len(p.work_N), states.alive_X, states.refused_X
    done_N, touched_S, ran = np.zeros(n, np.bool_), np.zeros(len(p.bytes_S), np.int32), np.empty(n + 1, np.int32)
    later = np.empty(len(alive_X), np.int32)  # states of which a step was refused, a heap by the least such step
    alive_X[0] = p.bytes_S[p.from_start_S].sum()
    states.table[0], states.heap[0] = 0, 0
    count, waiting, refused = 1, 1, 0
    while True:
        while waiting:
            x = pop(states.heap, waiting, alive_X)
            if (states.bits_XW[x] == states.full).all():
                return FOUND, limit, np.int64(x)
            count, waiting = expand(p, states, x, count, waiting - 1, limit, done_N, touched_S, ran)
            if count < 0:
                return OUT_OF_STATES, limit, np.int64(0)
            if refused_X[x] < NONE:
                sift(later, refused, refused_X, np.int32(x))
                refused += 1
        limit = refused_X[later[0]] if refused else NONE
        if limit > last_limit:
            return LIMIT_REACHED, limit, np.int64(0)
        while refused and refused_X[later[0]] <= limit:
            x = pop(later, refused, refused_X)
            refused -= 1
            sift(states.heap, waiting, alive_X, x)
            waiting += 1


@njit(cache=True, nogil=True)
def expand(
    p: NamedTuple, states: NamedTuple, x: int, count: int, waiting: int, limit: int, done_N: np.ndarray,
    touched_S: np.ndarray, ran: np.ndarray,
) -> tuple[int, int]:  # fmt: skip
    """Add the states that one operation leads to; return (states, those that wait), the first -1 without room."""
    n, alive, refused = len(done_N), states.alive_X[x], NONE
    unpack(p, states.bits_XW[x], done_N, touched_S)
    only = -1
    for v in range(n):
        if only < 0 and not done_N[v] and is_ready(p, v, done_N):
            high, left = step_of(p, v, touched_S, alive)
            only = v if high <= limit and left <= alive else -1
    for v in range(n):
        if done_N[v] or (only >= 0 and v != only) or not is_ready(p, v, done_N):
            continue
        high, left = step_of(p, v, touched_S, alive)
        if high > limit:
            refused = min(refused, high)
            continue
        mark(p, v, done_N, touched_S, 1)
        ran[0] = v
        left, many = run_free(p, done_N, touched_S, left, limit, np.empty(0, np.bool_), ran, 1)
        waiting, added = add(states, x, v, count, waiting, left, ran[:many])
        for k in range(many):
            mark(p, ran[k], done_N, touched_S, -1)
        if added < 0:
            return -1, waiting
        count += added
    states.refused_X[x] = refused
    return count, waiting


@njit(cache=True, nogil=True)
def add(states: NamedTuple, x: int, v: int, count: int, waiting: int, left: int, ran: np.ndarray) -> tuple[int, int]:
    """Add what a state leads to if it is new; return (those that wait, how many were added), -1 without room."""
    child, code = states.bits_XW[x].copy(), states.code_X[x]
    for w in ran:
        code ^= states.code_N[w]
        child[w >> 6] |= np.uint64(1) << np.uint64(w & 63)
    at = place_of(states.table, states.bits_XW, states.code_X, child, code)
    if at >= 0:
        return waiting, 0
    if count == len(states.code_X):
        return waiting, -1
    states.table[-1 - at] = count
    states.bits_XW[count], states.code_X[count], states.alive_X[count] = child, code, left
    states.parent_X[count], states.via_X[count] = x, v
    sift(states.heap, waiting, states.alive_X, np.int32(count))
    return waiting + 1, 1


@njit(cache=True, nogil=True)
def path_to(p: NamedTuple, x: int, states: NamedTuple, limit: int) -> np.ndarray:
    """Return the operations that lead to a state from the first one, none of whose steps is above the limit."""
    n = len(p.work_N)
    chain = np.empty(n + 1, np.int32)
    length = 0
    while x:
        chain[length] = x
        length += 1
        x = states.parent_X[x]
    done_N, touched_S, within_N = np.zeros(n, np.bool_), np.zeros(len(p.bytes_S), np.int32), np.zeros(n, np.bool_)
    order, count, alive = np.empty(n + 1, np.int32), 0, p.bytes_S[p.from_start_S].sum()
    for i in range(length - 1, -1, -1):
        v = states.via_X[chain[i]]
        for u in range(n):
            within_N[u] = (states.bits_XW[chain[i], u >> 6] >> np.uint64(u & 63)) & np.uint64(1)
        alive = step_of(p, v, touched_S, alive)[1]
        mark(p, v, done_N, touched_S, 1)
        order[count] = v
        alive, count = run_free(p, done_N, touched_S, alive, limit, within_N, order, count + 1)
    return order[:count]


@njit(cache=True, nogil=True)
def free_ones(p: NamedTuple, limit: int) -> np.ndarray:
    """Return operations that may run from the start, one after another, each free: it leaves no more than before."""
    n = len(p.work_N)
    done_N, touched_S, within_N = np.zeros(n, np.bool_), np.zeros(len(p.bytes_S), np.int32), np.empty(0, np.bool_)
    order, count, alive = np.empty(n + 1, np.int32), 0, p.bytes_S[p.from_start_S].sum()
    for v in range(n):
        if not done_N[v] and is_ready(p, v, done_N):
            high, left = step_of(p, v, touched_S, alive)
            if high <= limit and left <= alive:
                mark(p, v, done_N, touched_S, 1)
                order[count] = v
                alive, count = run_free(p, done_N, touched_S, left, limit, within_N, order, count + 1)
    return order[:count]
