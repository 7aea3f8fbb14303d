import numpy as np
import pytest
from graph_worlds import checked, optimum, random_graph, relabelled, reversed_graph, rows_of_graph

from moe_replay.simulate.ordering import random_orders
from moe_replay.simulate.ordering.order_policies import ORDERS, order
from moe_replay.simulate.ordering.order_result import peak_of
from moe_replay.simulate.ordering.touches import touches_of
from moe_replay.traces.errors import InputError
from moe_replay.traces.training_graphs.training_graph import training_graph

EXACT = ("best",)
TAKES_ALL = ("captured", "random", "lpmf", "bfs", "dfs", "cuts", "windows", "best")


@pytest.mark.parametrize("name", TAKES_ALL)
def test_every_policy_gives_an_order_never_below_the_optimum_or_its_own_bound(name):
    for seed in range(12):
        graph = random_graph(seed, 3 + seed % 6)
        result = checked(graph, ORDERS[name](graph, 5, seed))
        assert result.lower_bound <= optimum(graph) <= result.peak, seed


def test_best_is_the_optimum_on_hundreds_of_small_graphs():
    """Proved each time, and what is proved is what trying every order gives."""
    for seed in range(300):
        graph = random_graph(seed, 1 + seed % 9, density=0.15 + 0.05 * (seed % 5))
        result = checked(graph, order(graph, "best", 20))
        assert result.proved, seed
        assert result.peak == optimum(graph), seed


def test_relabelling_changes_no_optimum():
    draws = np.random.default_rng(1)
    for seed in range(20):
        graph = random_graph(seed, 14)
        other = relabelled(graph, random_orders.random_order(touches_of(graph), draws))
        results = [checked(each, order(each, "best", 20)) for each in (graph, other)]
        assert results[0].proved
        assert results[0].peak == results[1].peak == results[1].lower_bound


def test_time_turned_round_changes_no_peak():
    draws = np.random.default_rng(2)
    for seed in range(20):
        graph = random_graph(seed, 10)
        storages = [(a, b, False, users[:1]) for a, b, _, users in rows_of_graph(graph) if users and b >= 0]
        rows = [("op", "kind", "forward", int(each)) for each in graph.work_N]
        graph = training_graph("chain", rows, storages, graph.edge_E2.tolist())
        turned = reversed_graph(graph)
        order_N = random_orders.random_order(touches_of(graph), draws)
        assert peak_of(graph, order_N) == peak_of(turned, graph.N - 1 - order_N[::-1])
        assert order(graph, "best", 20).peak == order(turned, "best", 20).peak == optimum(graph)


def test_chain_and_binary_tree_have_the_peaks_that_theory_says():
    """A chain needs the largest in + work + out; a complete binary in-tree of height h with unit outputs h + 2."""
    sizes = [3, 8, 2, 9, 1]
    chain = training_graph(
        "chain",
        [(f"{v}", "x", "forward", v) for v in range(6)],
        [(size, v, False, [v + 1]) for v, size in enumerate(sizes)],
    )
    found = order(chain, "best", 5)
    assert found.proved
    assert found.peak == max((sizes[v - 1] if v else 0) + v + (sizes[v] if v < 5 else 0) for v in range(6))
    for height in (1, 2, 3, 4):
        leaves = 2**height
        operations, storages, level = [], [], list(range(leaves))
        operations = leaves
        while len(level) > 1:
            above = []
            for left, right in zip(level[::2], level[1::2], strict=True):
                storages += [(1, left, False, [operations]), (1, right, False, [operations])]
                above.append(operations)
                operations += 1
            level = above
        storages.append((1, level[0], True, []))
        tree = training_graph("tree", [(f"{v}", "x", "forward", 0) for v in range(operations)], storages)
        found = order(tree, "best", 20)
        assert found.proved
        assert found.peak == height + 2


def test_the_same_seed_gives_the_same_order():
    graph = random_graph(3, 40)
    for name in ("random", "cuts", "best"):
        first, second = (ORDERS[name](graph, 20, 7) for _ in range(2))
        assert first.order_N.tolist() == second.order_N.tolist()


def test_an_unknown_policy_is_refused_with_the_known_ones():
    with pytest.raises(InputError, match="unknown order policy 'bets'; known: best, bfs, captured"):
        order(random_graph(0, 3), "bets")
