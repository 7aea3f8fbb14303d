import time

import numpy as np
import pytest
from graph_worlds import optimum, random_graph

from moe_replay.simulate.ordering import best, fusion, ilp
from moe_replay.simulate.ordering.kernels.lowest_state import lowest_state
from moe_replay.simulate.ordering.order_bounds import ALL_ROUNDS, cut_bound, in_work_out, refute, sibling_bound
from moe_replay.simulate.ordering.order_result import peak_of
from moe_replay.simulate.ordering.touches import touches_of
from moe_replay.traces.errors import InputError
from moe_replay.traces.training_graphs.training_graph import training_graph


def later():
    return time.monotonic() + 20


def test_bounds_rise_in_their_order_and_none_passes_the_optimum():
    reached = [0, 0, 0, 0]
    for seed in range(150):
        graph = random_graph(seed, 2 + seed % 8)
        touches, least = touches_of(graph), optimum(graph)
        low = cut_bound(touches)
        pairs = sibling_bound(touches, low, least + 5, later())
        bounds = [in_work_out(touches), low, pairs, sibling_bound(touches, low, least + 5, later(), ALL_ROUNDS)]
        assert bounds == sorted(bounds), seed
        assert bounds[-1] <= least, seed
        assert cut_bound(touches.reversed()) == low
        reached = [many + (bound == least) for many, bound in zip(reached, bounds, strict=True)]
    assert reached[1] < reached[3]  # propagating proves more than cuts do
    assert reached[3] > 100


def test_a_limit_is_refuted_only_below_the_optimum():
    for seed in range(100):
        graph = random_graph(seed, 8)
        least = optimum(graph)
        is_refuted, touches = refute(touches_of(graph), least, later())
        assert not is_refuted
        assert touches.order_N is not None
        # What every order within the limit keeps leaves room for one of that peak.
        rows = [(f"{v}", "x", "forward", int(graph.work_N[v])) for v in range(graph.N)]
        edges = [(int(a), int(b)) for b in range(graph.N) for a in touches.before[b]]
        order_N = touches.order_N.tolist()
        number = {v: at for at, v in enumerate(order_N)}
        storages = [
            (int(graph.bytes_S[s]), number.get(int(graph.producer_S[s]), -1), bool(graph.kept_S[s]),
             sorted(number[int(user)] for user in graph.users(s)))
            for s in range(graph.S)
        ]  # fmt: skip
        kept = [(number[a], number[b]) for a, b in edges]
        assert optimum(training_graph("kept", [rows[v] for v in order_N], storages, kept)) == least


def test_the_lowest_state_is_the_lowest_of_all():
    for seed in range(60):
        graph = random_graph(seed, 7, work=False)
        touches = touches_of(graph)
        held = {}
        for done in range(2**graph.N):
            done_N = (done >> np.arange(graph.N)) & 1 == 1
            if all(done_N[touches.before[v]].all() for v in np.flatnonzero(done_N)):
                held[done] = sum(
                    int(touches.bytes_S[s])
                    for s in range(touches.S)
                    if (touches.from_start_S[s] or done_N[touches.operations[s]].any())
                    and (touches.to_end_S[s] or not done_N[touches.operations[s]].all())
                )
        lowest = min(held.values())
        states = [lowest_state(touches.arrays, np.zeros(graph.N, np.int8), is_largest) for is_largest in (False, True)]
        assert [value for value, _ in states] == [lowest, lowest]
        sizes = [bin(done).count("1") for done, value in held.items() if value == lowest]
        assert [done_N.sum() for _, done_N in states] == [min(sizes), max(sizes)]


def test_siblings_of_which_one_runs_first_bound_what_cuts_do_not():
    """Two operations each need 4 bytes and leave 3; whichever is second runs beside the 3 of the first."""
    rows = [(name, "x", "forward", 0) for name in ("a", "b", "c")]
    graph = training_graph(
        "siblings", [(n, k, p, 4 * (n != "c")) for n, k, p, _ in rows], [(3, 0, False, [2]), (3, 1, False, [2])]
    )
    touches = touches_of(graph)
    assert cut_bound(touches) == 7
    assert optimum(graph) == 10
    assert sibling_bound(touches, 7, 10, later()) == 10


def test_integer_programming_finds_the_same_optima():
    for seed in range(25):
        graph = random_graph(seed, 3 + seed % 5)
        found = ilp.order(graph, 20)
        assert found.proved
        assert found.peak == optimum(graph) == peak_of(graph, found.order_N)
    with pytest.raises(InputError, match="61 operations, allowed for ilp: at most 60"):
        ilp.order(random_graph(0, 61), 1)


def test_a_fused_pair_is_one_operation_and_its_effect_is_that_of_all_orders():
    effects = set()
    for seed in range(12):
        graph = random_graph(seed, 7)
        found = best.order(graph, 10)
        for row in fusion.fusion_rows(graph, found, 5, 10):
            first, second = (int(row[name].removeprefix("op")) for name in ("first", "second"))
            least = optimum(fusion.fused(graph, first, second))
            assert row["effect"] == (
                "raised" if least > found.peak else "lowered" if least < found.peak else "unchanged"
            )
            assert not row["vetoed"] or row["effect"] == "raised"
            effects.add(row["effect"])
    assert effects == {"raised", "unchanged", "lowered"}
