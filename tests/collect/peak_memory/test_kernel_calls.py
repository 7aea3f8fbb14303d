"""Where joint calls end: by hand in a small world, and in random ones no call above its order and no end too many."""

from dataclasses import dataclass

import numpy as np
import pytest

from moe_replay.collect.peak_memory import kernel_calls
from moe_replay.collect.peak_memory.kernel_calls import calls_of, ends_that_keep, memory_of_calls
from moe_replay.collect.peak_memory.scheduler_graph import Piece


@dataclass(frozen=True)
class Kernel:
    """A node: inductor's own code, which joins its neighbours', or an operation of torch's."""

    name: str
    joins: bool = True


@pytest.fixture(autouse=True)
def kernels(monkeypatch):
    monkeypatch.setattr(kernel_calls, "is_joined", lambda node: node.joins)


def test_a_small_world_by_hand():
    """a and b are one call, m runs alone, c and d would be one: 10 of a and 20 of b go before m brings 5.

    c brings 20 and frees 5 of m, d brings 10 while c's are there: apart 25 and 30, together 35.
    """
    a, b, m, c, d = Kernel("a"), Kernel("b"), Kernel("m", joins=False), Kernel("c"), Kernel("d")
    nodes = [a, b, m, c, d]
    pieces = [
        Piece(10, {a, b}), Piece(20, {b}), Piece(5, {m, c}), Piece(20, {c, d}), Piece(10, {d}, kept=True),
        Piece(0, {a}, from_start=True),
    ]  # fmt: skip
    assert calls_of(nodes) == [0, 0, 1, 2, 2]
    assert memory_of_calls(nodes, calls_of(nodes), pieces) == [30, 30, 5, 35, 35]
    assert memory_of_calls(nodes, list(range(5)), pieces) == [10, 30, 5, 25, 30]
    assert ends_that_keep(nodes, pieces) == {c}
    assert calls_of(nodes, {c}) == [0, 0, 1, 2, 3]
    assert memory_of_calls(nodes, calls_of(nodes, {c}), pieces) == [30, 30, 5, 25, 30]


@pytest.mark.parametrize("seed", range(20))
def test_calls_end_where_they_have_to_and_nowhere_else(seed):
    draws = np.random.default_rng(seed)
    nodes = [Kernel(str(place), bool(draws.random() < 0.8)) for place in range(12)]
    pieces = [
        Piece(int(draws.integers(1, 9)), {*draws.choice(nodes, size=draws.integers(1, 4))}, kept, start)
        for kept, start in draws.random((20, 2)) < 0.15
    ]
    limit = max(memory_of_calls(nodes, list(range(len(nodes))), pieces))
    ends = ends_that_keep(nodes, pieces)
    assert max(memory_of_calls(nodes, calls_of(nodes, ends), pieces)) == limit
    for end in ends:
        assert max(memory_of_calls(nodes, calls_of(nodes, ends - {end}), pieces)) > limit


def test_random_worlds_have_both_kinds():
    """Or the test above would prove nothing."""
    draws = np.random.default_rng(0)
    nodes = [Kernel(str(place)) for place in range(12)]
    pieces = [Piece(1, {nodes[place]}) for place in range(12)]
    assert len(ends_that_keep(nodes, pieces)) == 11
    pieces = [Piece(int(draws.integers(1, 9)), {*nodes})]
    assert not ends_that_keep(nodes, pieces)
