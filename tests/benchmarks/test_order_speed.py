"""Seconds to order training graphs: every graph of 60 operations proved, one of 600 ordered, without proof.

    python -m pytest tests/benchmarks/test_order_speed.py -o addopts="" -s

Targets: at most 60 operations in under 60 s, 600 in under 10 s. Printed, not asserted; what is asserted is the work:
the order is one of the graph, its peak is what a replay counts, and where it has to be proved it is.
"""

import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "simulate" / "ordering"))

from graph_worlds import checked, random_graph

from moe_replay.simulate.ordering import best
from moe_replay.simulate.ordering.deadline import compile_searches
from moe_replay.simulate.ordering.order_result import peak_of


@pytest.mark.parametrize("density", [0.01, 0.03, 0.1, 0.3])
def test_sixty_operations_are_proved(density):
    compile_searches()
    for seed in range(5):
        graph, begun = random_graph(seed, 60, density), time.perf_counter()
        found = checked(graph, best.order(graph, 60))
        print(f"60 operations, density {density}, seed {seed}: {time.perf_counter() - begun:.2f} s, {found.by}")
        assert found.proved


@pytest.mark.parametrize("density", [0.003, 0.01])
def test_six_hundred_operations_are_ordered(density):
    compile_searches()
    graph, begun = random_graph(5, 600, density), time.perf_counter()
    found = checked(graph, best.order(graph, 8))
    print(f"600 operations, density {density}: {time.perf_counter() - begun:.2f} s, gap {found.gap:.2%}")
    assert found.peak <= peak_of(graph, range(graph.N))
