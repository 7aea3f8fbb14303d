"""Small graphs for tests of orders: random ones, relabelled and reversed ones, and the optimum of all orders."""

from functools import cache

import numpy as np

from moe_replay.simulate.ordering.order_result import all_edges, memory_at
from moe_replay.traces.training_graphs.training_graph import PHASES, training_graph


def random_graph(seed, operations, density=0.25, work=True):
    """A graph with shared storages, inputs, kept ones, unused ones, work and further edges, now and then each."""
    draws = np.random.default_rng(seed)
    storages = []
    for v in range(operations):
        for _ in range(draws.integers(0, 3)):
            users = [u for u in range(v + 1, operations) if draws.random() < density]
            storages.append((int(draws.integers(0, 12)), v, bool(draws.random() < 0.1), users))
    for _ in range(draws.integers(0, 3)):
        users = [u for u in range(operations) if draws.random() < 0.2]
        storages.append((int(draws.integers(0, 9)), -1, bool(draws.random() < 0.2), users))
    pairs = [(a, b) for a in range(operations) for b in range(a + 1, operations)]
    edges = [pair for pair in pairs if draws.random() < 0.05]
    works = draws.integers(0, 6, operations) * (draws.random(operations) < 0.3) * work
    rows = [(f"op{v}", "kind", PHASES[v % 4], int(works[v])) for v in range(operations)]
    return training_graph(f"random {seed}", rows, storages, edges)


def rows_of_graph(graph):
    return [
        (int(graph.bytes_S[s]), int(graph.producer_S[s]), bool(graph.kept_S[s]), graph.users(s).tolist())
        for s in range(graph.S)
    ]


def relabelled(graph, order):
    """The same graph, captured in another order: operation order[i] is number i."""
    number = {int(old): new for new, old in enumerate(order)}
    rows = [(graph.names_N[old], "kind", PHASES[graph.phase_N[old]], int(graph.work_N[old])) for old in order]
    storages = [
        (size, number.get(producer, -1), kept, sorted(number[user] for user in users))
        for size, producer, kept, users in rows_of_graph(graph)
    ]
    edges = [(number[a], number[b]) for a, b in graph.edge_E2.tolist()]
    return training_graph(graph.name, rows, storages[::-1], edges[::-1])


def reversed_graph(graph):
    """Time turned round, for a graph whose storages have one user at most: the user makes it, the producer uses it."""
    last = graph.N - 1
    rows = [(name, "kind", "forward", int(work)) for name, work in zip(graph.names_N, graph.work_N, strict=True)][::-1]
    storages = []
    for size, producer, kept, users in rows_of_graph(graph):
        assert len(users) == 1
        assert producer >= 0
        assert not kept
        storages.append((size, last - users[0], False, [last - producer]))
    return training_graph(graph.name, rows, storages, [(last - b, last - a) for a, b in graph.edge_E2.tolist()])


def optimum(graph):
    """The least peak of all orders, by dynamic programming over all states."""
    before = dict.fromkeys(range(graph.N), 0)
    for a, b in all_edges(graph).tolist():
        before[b] |= 1 << a
    touches = []
    for size, producer, kept, users in rows_of_graph(graph):
        mask = sum(1 << v for v in users) | (1 << producer if producer >= 0 else 0)
        if mask or kept:
            touches.append((size, mask, producer < 0, kept))
    full = (1 << graph.N) - 1

    def held(done, running):
        """Bytes while `running` runs, which is on both sides."""
        total = 0
        for size, mask, from_start, kept in touches:
            began = from_start or mask & (done | running)
            total += size if began and (kept or mask & ~done) else 0
        return total

    @cache
    def least(done):
        if done == full:
            return 0
        ready = [v for v in range(graph.N) if not done >> v & 1 and before[v] & ~done == 0]
        return min(max(held(done, 1 << v) + int(graph.work_N[v]), least(done | 1 << v)) for v in ready)

    return least(0)


def checked(graph, result):
    """Assert what every policy's answer must hold, and return it."""
    assert sorted(result.order_N.tolist()) == list(range(graph.N))
    assert memory_at(graph, result.order_N).max() == result.peak  # refuses what is no order of the graph
    assert result.lower_bound <= result.peak
    assert result.proved == (result.lower_bound == result.peak)
    return result
