import numpy as np
import pytest
from graph_worlds import checked, optimum, random_graph, reversed_graph

from moe_replay.simulate.ordering.decomposition import hybrid, liu, series_parallel
from moe_replay.simulate.ordering.decomposition.edge_model import bridge_in, edge_model, reduced
from moe_replay.simulate.ordering.order_policies import order
from moe_replay.traces.errors import InputError
from moe_replay.traces.training_graphs.training_graph import training_graph

WHEATSTONE = [(0, 1), (0, 2), (1, 2), (1, 3), (2, 3)]


def graph_of(operations, edges, work=()):
    """Edges (before, after) or (before, after, bytes), each a storage of one user."""
    rows = [(f"n{v}", "x", "forward", work[v] if v < len(work) else 0) for v in range(operations)]
    return training_graph("edges", rows, [(size[0] if size else 1, a, False, [b]) for a, b, *size in edges])


def series_parallel_graph(seed, splits):
    """A random one: an edge is divided, or doubled with a node on it, again and again; then numbered in order."""
    draws = np.random.default_rng(seed)
    edges, nodes = [(0, 1)], 2
    for _ in range(splits):
        a, b = edges[draws.integers(len(edges))]
        if draws.random() < 0.5:
            edges.remove((a, b))
        edges += [(a, nodes), (nodes, b)]
        nodes += 1
    place, waits = {}, [sum(b == v for _, b in edges) for v in range(nodes)]
    ready = [v for v in range(nodes) if not waits[v]]
    for v in ready:
        place[v] = len(place)
        for _, b in [edge for edge in edges if edge[0] == v]:
            waits[b] -= 1
            ready += [b] * (not waits[b])
    work = draws.integers(0, 4, nodes).tolist()
    return graph_of(nodes, [(place[a], place[b], int(draws.integers(0, 10))) for a, b in edges], work)


def test_series_parallel_graphs_get_their_optimum():
    for seed in range(150):
        graph = series_parallel_graph(seed, 1 + seed % 9)
        found = checked(graph, series_parallel.order(graph))
        assert found.proved
        assert found.peak == optimum(graph), seed


def test_large_series_parallel_graphs_agree_with_the_search():
    for seed in range(3):
        graph = series_parallel_graph(seed, 60)
        assert series_parallel.order(graph).peak == order(graph, "best", 30).lower_bound


def test_whatever_it_takes_it_orders_optimally():
    taken = 0
    for seed in range(200):
        graph = random_graph(seed, 2 + seed % 7, density=0.12)
        try:
            found = series_parallel.order(graph)
        except InputError:
            continue
        taken += 1
        assert found.peak == optimum(graph), seed
    assert taken > 50


def test_a_wheatstone_bridge_is_found_and_named():
    graph = graph_of(4, WHEATSTONE)
    assert bridge_in(reduced(edge_model(graph)), 4) == (0, 1, 2, 3)
    with pytest.raises(InputError, match="n0 before n1 and n2, n1 before n2, both before n3"):
        series_parallel.order(graph)
    longer = graph_of(9, [(0, 1), (1, 2), (1, 3), (2, 4), (4, 5), (3, 5), (4, 6), (5, 7), (6, 7), (7, 8)])
    assert bridge_in(reduced(edge_model(longer)), 9) == (1, 4, 5, 7)
    assert len(reduced(edge_model(longer))) == 7  # the bridge's five, and one from the start and one to the end


def test_the_bridges_of_random_graphs_are_bridges():
    """Paths between the four exist, and the middle edge is no detour."""
    import networkx as nx

    found = 0
    for seed in range(80):
        graph = random_graph(seed, 12, density=0.15)
        core = reduced(edge_model(graph, is_reduced=True))
        bridge = bridge_in(core, graph.N)
        assert (len(core) > 1) or bridge is None
        if bridge is not None:
            found += 1
            net, (a, b, c, d) = nx.DiGraph(core.keys()), bridge
            assert net.has_edge(b, c)
            for above, pair in ((net, (a, b, c)), (net.reverse(), (d, c, b))):
                wide = above.copy()
                wide.add_edges_from([(pair[1], "end"), (pair[2], "end")])
                wide.remove_edges_from([(b, c), (c, b)])
                assert len(list(nx.node_disjoint_paths(wide, pair[0], "end"))) >= 2
    assert found > 20


def test_transitive_reduction_makes_a_graph_series_parallel():
    rows = [(f"n{v}", "x", "forward", 0) for v in range(4)]
    storages = [(1, v, False, [v + 1]) for v in range(3)]
    graph = training_graph("skips", rows, storages, [(0, 2), (1, 3)])
    assert len(reduced(edge_model(graph))) > 1
    assert series_parallel.order(graph).peak == 2


def test_trees_get_their_optimum_both_ways():
    for seed in range(100):
        draws, nodes = np.random.default_rng(seed), 2 + seed % 8
        edges = [(v, int(draws.integers(v + 1, nodes)), int(draws.integers(0, 12))) for v in range(nodes - 1)]
        graph = graph_of(nodes, edges, draws.integers(0, 5, nodes).tolist())
        for each in (graph, reversed_graph(graph)):
            found = checked(each, liu.order(each))
            assert found.proved
            assert found.peak == optimum(each), seed


def test_what_is_no_tree_is_refused():
    with pytest.raises(InputError, match="no tree: n0 has several successors and n2 several predecessors"):
        liu.order(graph_of(4, WHEATSTONE))


def test_hybrid_orders_keep_the_chains_of_series_parallel_parts():
    for seed in range(60):
        graph = random_graph(seed, 8)
        found = checked(graph, hybrid.order(graph, 10))
        assert found.peak >= optimum(graph)
        step = {int(operation): at for at, operation in enumerate(found.order_N)}
        assert all(step[a] < step[b] for a, b in hybrid.chain_edges(graph).tolist())


def test_a_series_parallel_graph_with_a_shared_storage_is_refused():
    rows = [(f"n{v}", "x", "forward", 0) for v in range(4)]
    shared = training_graph("shared", rows, [(1, 0, False, [1, 2]), (1, 1, False, [3]), (1, 2, False, [3])])
    with pytest.raises(InputError, match="storage 0 has several users"):
        series_parallel.order(shared)
