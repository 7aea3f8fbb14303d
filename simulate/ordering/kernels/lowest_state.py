"""The set of done operations that leaves least memory, as a minimum cut (Dinic's maximum flow, 64 bits).

A state is a set of operations that are done, closed under `before`. It holds a storage that is touched on both sides:
by a done operation (or from the start) and by one that is not done (or to the end). The bytes held are a cut function,
so that the lowest state under conditions is a minimum cut: done operations are on the side of the source. A running
operation counts on both sides. `p`: the arrays of
`Touches`. A kernel calls nothing of another file: numba's cache would not notice that it changed.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

FREE, DONE, UNDONE, RUNNING = 0, 1, 2, 3
NO_LIMIT = np.int64(2**61)


@njit(cache=True, nogil=True)
def spread(first: np.ndarray, items: np.ndarray, mark_N: np.ndarray, value: int) -> None:
    """Mark with `value` all that is reached from what is marked so along rows (what must run before, or after)."""
    stack = np.empty(len(mark_N), np.int64)
    height = 0
    for i in range(len(mark_N)):
        if mark_N[i] == value:
            stack[height] = i
            height += 1
    while height:
        height -= 1
        at = stack[height]
        for k in range(first[at], first[at + 1]):
            if mark_N[items[k]] == 0:
                mark_N[items[k]] = value
                stack[height] = items[k]
                height += 1


@njit(cache=True, nogil=True)
def connect(
    network: np.ndarray, room: np.ndarray, head: np.ndarray, counts: np.ndarray, tail: int, tip: int, capacity: int
) -> None:
    """Add an edge of a network and its reverse: rows (tip, next) of `network`; counts[0] rows so far."""
    at = counts[0]
    network[at, 0], network[at, 1], room[at] = tip, head[tail], capacity
    head[tail] = at
    network[at + 1, 0], network[at + 1, 1], room[at + 1] = tail, head[tip], 0
    head[tip] = at + 1
    counts[0] = at + 2


@njit(cache=True, nogil=True)
def layers_from(
    network: np.ndarray, room: np.ndarray, head: np.ndarray, level: np.ndarray, queue: np.ndarray, source: int,
    sink: int,
) -> bool:  # fmt: skip
    """Set the distance of every node from the source along edges with room; return whether the sink is reached."""
    level[:] = -1
    level[source] = 0
    queue[0] = source
    begin, end = 0, 1
    while begin < end:
        node = queue[begin]
        begin += 1
        at = head[node]
        while at >= 0:
            tip = network[at, 0]
            if room[at] > 0 and level[tip] < 0:
                level[tip] = level[node] + 1
                queue[end] = tip
                end += 1
            at = network[at, 1]
    return level[sink] >= 0


@njit(cache=True, nogil=True)
def reach_back(
    network: np.ndarray, room: np.ndarray, head: np.ndarray, level: np.ndarray, queue: np.ndarray, sink: int
) -> None:
    """Set `level` to 0 for every node from which the sink can still be reached, else to -1."""
    level[:] = -1
    level[sink] = 0
    queue[0] = sink
    begin, end = 0, 1
    while begin < end:
        at = head[queue[begin]]
        begin += 1
        while at >= 0:
            if room[at ^ 1] > 0 and level[network[at, 0]] < 0:
                level[network[at, 0]] = 0
                queue[end] = network[at, 0]
                end += 1
            at = network[at, 1]


@njit(cache=True, nogil=True)
def sent(room: np.ndarray, path: np.ndarray, length: int) -> tuple[int, int]:
    """Send along a path what it carries; return (how much, the place of the first edge that is full then)."""
    least, back = NO_LIMIT * 2, length
    for k in range(length):
        least = min(least, room[path[k]])
    for k in range(length - 1, -1, -1):
        room[path[k]] -= least
        room[path[k] ^ 1] += least
        if room[path[k]] == 0:
            back = k
    return least, back


@njit(cache=True, nogil=True)
def push(
    network: np.ndarray, room: np.ndarray, head: np.ndarray, level: np.ndarray, place: np.ndarray, path: np.ndarray,
    source: int, sink: int, enough: int,
) -> int:  # fmt: skip
    """Send what a layered network carries from source to sink, or a bit more than `enough`; return how much."""
    total, depth, node = np.int64(0), 0, source
    place[:] = head
    while total <= enough:
        if node == sink:
            least, depth = sent(room, path, depth)
            total += least
            node = network[path[depth] ^ 1, 0]
            continue
        at = place[node]
        while at >= 0 and (room[at] == 0 or level[network[at, 0]] != level[node] + 1):
            at = network[at, 1]
        place[node] = at
        if at >= 0:
            path[depth] = at
            depth += 1
            node = network[at, 0]
        elif depth == 0:
            return total
        else:
            level[node] = -1
            depth -= 1
            node = network[path[depth] ^ 1, 0]
    return total


@njit(cache=True, nogil=True)
def network_of(
    p: NamedTuple, side_N: np.ndarray, network: np.ndarray, room: np.ndarray, head: np.ndarray, counts: np.ndarray
) -> int:
    """Lay out the network; return the bytes that every state holds. Nodes: operations, touched S, left S, ends."""
    n, s_all = len(side_N), len(p.bytes_S)
    source, sink = n + 2 * s_all, n + 2 * s_all + 1
    constant = np.int64(0)
    for s in range(s_all):
        touched, left, free = p.from_start_S[s], p.to_end_S[s], 0
        for k in range(p.first_o[s], p.first_o[s + 1]):
            side = side_N[p.operations[k]]
            touched |= side in (DONE, RUNNING)
            left |= side in (UNDONE, RUNNING)
            free += side == FREE
        if touched and left:
            constant += p.bytes_S[s]
        elif free and p.bytes_S[s]:
            connect(
                network, room, head, counts, source if touched else n + s, sink if left else n + s_all + s, p.bytes_S[s]
            )
            for k in range(p.first_o[s], p.first_o[s + 1]):
                if side_N[p.operations[k]] == FREE and not touched:
                    connect(network, room, head, counts, p.operations[k], n + s, NO_LIMIT)
                if side_N[p.operations[k]] == FREE and not left:
                    connect(network, room, head, counts, n + s_all + s, p.operations[k], NO_LIMIT)
    for v in range(n):
        for k in range(p.first_b[v], p.first_b[v + 1]):
            if side_N[v] == FREE and side_N[p.before[k]] == FREE:
                connect(network, room, head, counts, v, p.before[k], NO_LIMIT)
    return constant


@njit(cache=True, nogil=True)
def lowest_state(p: NamedTuple, side_N: np.ndarray, largest: bool) -> tuple[int, np.ndarray]:
    """Return (bytes, done_N): the lowest state in which operations are on their sides, and those that are done in it.

    Sides must be closed: what is before a done or running operation is done, what is after an undone or running one is
    undone. Of several lowest states the smallest is returned, or the `largest`; the running operation is not done.
    """
    n, s_all = len(side_N), len(p.bytes_S)
    nodes = n + 2 * s_all + 2
    edges = 2 * (s_all + 2 * len(p.operations) + len(p.before))
    network, room = np.empty((edges, 2), np.int32), np.empty(edges, np.int64)
    head, counts = np.full(nodes, -1, np.int32), np.zeros(1, np.int64)
    total = network_of(p, side_N, network, room, head, counts)
    level, place, path = np.empty(nodes, np.int64), np.empty(nodes, np.int64), np.empty(nodes, np.int64)
    while layers_from(network, room, head, level, place, nodes - 2, nodes - 1):
        total += push(network, room, head, level, place, path, nodes - 2, nodes - 1, NO_LIMIT)
    done_N = np.zeros(n, np.bool_)
    if largest:
        reach_back(network, room, head, level, path, nodes - 1)
    for v in range(n):
        done_N[v] = side_N[v] == DONE or (side_N[v] == FREE and (level[v] < 0) == largest)
    return total, done_N


@njit(cache=True, nogil=True)
def sides_at(p: NamedTuple, v: int) -> np.ndarray:
    """Return side_N when v runs: what must be before it is done, what must be after it undone, the others free."""
    side = np.zeros(len(p.work_N), np.int8)
    for k in range(p.first_b[v], p.first_b[v + 1]):
        side[p.before[k]] = DONE
    for k in range(p.first_a[v], p.first_a[v + 1]):
        side[p.after[k]] = UNDONE
    spread(p.first_b, p.before, side, DONE)
    spread(p.first_a, p.after, side, UNDONE)
    side[v] = RUNNING
    return side


@njit(cache=True, nogil=True)
def more_than(
    network: np.ndarray, room: np.ndarray, head: np.ndarray, level: np.ndarray, place: np.ndarray, path: np.ndarray,
    source: int, sink: int, slack: int,
) -> bool:  # fmt: skip
    """Say whether more than `slack` flows from `source` to `sink` in what is left of a network, which it changes."""
    flow = np.int64(0)
    while flow <= slack and layers_from(network, room, head, level, place, source, sink):
        flow += push(network, room, head, level, place, path, source, sink, slack - flow)
    return flow > slack


@njit(cache=True, nogil=True)
def refused(
    network: np.ndarray, room: np.ndarray, head: np.ndarray, side_N: np.ndarray, order_N: np.ndarray, slack: int,
    undone: bool, first: np.ndarray, rows: np.ndarray,
) -> np.ndarray:  # fmt: skip
    """Return which free operations cannot be done (`undone`: undone) in a state of at most `slack` above the lowest.

    `order_N`: those first that others (`rows`) must follow; only the first of those refused is returned. A state that
    is low enough settles all operations that it has on that side.
    """
    n, nodes, kept = len(side_N), len(head), room.copy()
    level, place, path = np.empty(nodes, np.int64), np.empty(nodes, np.int64), np.empty(nodes, np.int64)
    known_N, refused_N = np.zeros(n, np.int8), np.zeros(n, np.bool_)  # known: 1 possible, 2 refused
    for at in range(-1, n):
        u = order_N[at] if at >= 0 else -1
        if u >= 0 and (side_N[u] != FREE or known_N[u]):
            continue
        begin = nodes - 2 if undone or u < 0 else u
        end = nodes - 1 if not undone or u < 0 else u
        if more_than(network, room, head, level, place, path, begin, end, slack):
            refused_N[u], known_N[u] = True, 2
            spread(first, rows, known_N, 2)
        else:
            if not undone:
                reach_back(network, room, head, level, path, nodes - 1)
            for w in range(n):
                if known_N[w] == 0 and level[w] < 0:
                    known_N[w] = 1
        room[:] = kept
    return refused_N


@njit(cache=True, nogil=True)
def forced_by(p: NamedTuple, v: int, limit: int, order_N: np.ndarray, side_N: np.ndarray, forced_N: np.ndarray) -> int:
    """Set `forced_N` to what must be DONE or UNDONE when v runs within a limit; return the least bytes at v.

    `order_N` keeps `before`. `side_N` is set to what is before and after v anyway; nothing is forced where even the
    least is above the limit.
    """
    n, s_all = len(side_N), len(p.bytes_S)
    nodes, edges = n + 2 * s_all + 2, 2 * (s_all + 2 * len(p.operations) + len(p.before))
    side_N[:] = sides_at(p, v)
    network, room = np.empty((edges, 2), np.int32), np.empty(edges, np.int64)
    head, counts = np.full(nodes, -1, np.int32), np.zeros(1, np.int64)
    total = p.work_N[v] + network_of(p, side_N, network, room, head, counts)
    network, room = network[: counts[0]], room[: counts[0]]
    level, place, path = np.empty(nodes, np.int64), np.empty(nodes, np.int64), np.empty(nodes, np.int64)
    while layers_from(network, room, head, level, place, nodes - 2, nodes - 1):
        total += push(network, room, head, level, place, path, nodes - 2, nodes - 1, NO_LIMIT)
    forced_N[:] = FREE
    if total <= limit:
        cannot_N = refused(network, room, head, side_N, order_N, limit - total, False, p.first_a, p.after)
        forced_N[cannot_N] = UNDONE
        cannot_N = refused(network, room, head, side_N, order_N[::-1].copy(), limit - total, True, p.first_b, p.before)
        forced_N[cannot_N] = DONE
    return total


@njit(cache=True, nogil=True)
def lowest_steps(p: NamedTuple) -> np.ndarray:
    """Return bytes_N: the least that is there when each operation runs, its work included, whatever the order."""
    bytes_N = np.empty(len(p.work_N), np.int64)
    for v in range(len(bytes_N)):
        bytes_N[v] = p.work_N[v] + lowest_state(p, sides_at(p, v), False)[0]
    return bytes_N
