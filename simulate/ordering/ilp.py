"""Integer programming: a second, independent way to the optimum of small graphs (scipy's milp, which is HiGHS).

`done[v, t]` says that operation v has run by step t, `there[s, t]` that storage s is there at step t. A storage is
there at t if it has been made by t and one of its users has not run before t. The peak is minimised.
"""

from __future__ import annotations

import math
from functools import reduce

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array

from moe_replay.simulate.ordering.decomposition.edge_model import reach_of
from moe_replay.simulate.ordering.lpmf import least_peak_first
from moe_replay.simulate.ordering.order_bounds import cut_bound
from moe_replay.simulate.ordering.order_result import OrderResult, all_edges, peak_of
from moe_replay.simulate.ordering.touches import touches_of
from moe_replay.traces.errors import InputError
from moe_replay.traces.training_graphs.training_graph import TrainingGraph

LARGEST = 60  # operations: 30 random ones take HiGHS about 40 s, real ones are easier


def order(graph: TrainingGraph, seconds: float = 60, seed: int = 0) -> OrderResult:
    """Return the best order that HiGHS finds, with its bound; InputError for more than LARGEST operations.

    Where the time runs out before it has found one, the greedy order is returned with the bound.
    """
    if graph.N > LARGEST:
        raise InputError(f"{graph.N} operations, allowed for ilp: at most {LARGEST}")
    touches = touches_of(graph)
    greedy_N, bound = least_peak_first(touches), cut_bound(touches)
    program = Program(graph)
    answer = program.solve(bound, peak_of(graph, greedy_N), seconds)
    found_N, by = greedy_N, "lpmf"
    if answer.x is not None:
        done_NT = answer.x[: graph.N**2].reshape(graph.N, graph.N) > 0.5
        candidate_N = np.argsort(-done_NT.sum(axis=1), kind="stable").astype(np.int32)
        if peak_of(graph, candidate_N) <= peak_of(graph, greedy_N):
            found_N, by = candidate_N, "ilp"
    peak = peak_of(graph, found_N)
    if answer.mip_dual_bound is not None and np.isfinite(answer.mip_dual_bound):
        # Rounded up, since all sizes are whole multiples of the unit, but never by a solver's tolerance.
        units = math.ceil(answer.mip_dual_bound - 1e-6 * max(1.0, abs(answer.mip_dual_bound)))
        bound = max(bound, min(peak, units * program.unit))
    return OrderResult(found_N, peak, bound, f"{by}; ilp")


class Program:
    """The rows of the program: sums of columns that are at least a number."""

    def __init__(self, graph: TrainingGraph) -> None:
        self.graph, self.N = graph, graph.N
        sizes = [*graph.bytes_S.tolist(), *graph.work_N.tolist()]
        self.unit = reduce(math.gcd, sizes) or 1
        self.rows, self.columns, self.values, self.least = [], [], [], []
        self.add_order()
        self.add_storages()
        self.add_peak()

    def done(self, operation: int, step: int) -> int:
        """Return the column that says whether an operation has run by a step."""
        return operation * self.N + step

    def there(self, storage: int, step: int) -> int:
        """Return the column that says whether a storage is there at a step."""
        return self.N * self.N + storage * self.N + step

    def at_least(self, terms: list[tuple[int, float]], least: float) -> None:
        """Add a row: the sum of (column, factor) is at least so much."""
        self.rows += [len(self.least)] * len(terms)
        self.columns += [column for column, _ in terms]
        self.values += [value for _, value in terms]
        self.least.append(least)

    def add_order(self) -> None:
        """One operation runs at each step, none before what it needs, and what is done stays done."""
        for step in range(self.N):
            terms = [(self.done(v, step), 1.0) for v in range(self.N)]
            self.at_least(terms, step + 1)
            self.at_least([(column, -1.0) for column, _ in terms], -(step + 1))
        for step in range(1, self.N):
            for v in range(self.N):
                self.at_least([(self.done(v, step), 1.0), (self.done(v, step - 1), -1.0)], 0)
            for before, after in all_edges(self.graph).tolist():
                self.at_least([(self.done(before, step - 1), 1.0), (self.done(after, step), -1.0)], 0)

    def add_storages(self) -> None:
        """A storage is there once it is made, until its last user, or its producer where it has none, has run."""
        graph = self.graph
        for s in range(graph.S):
            producer, users = int(graph.producer_S[s]), graph.users(s).tolist()
            enders = [None] if graph.kept_S[s] else users or [producer]
            for step in range(self.N):
                for ender in enders:
                    terms, least = [(self.there(s, step), 1.0)], 0 if producer >= 0 else 1
                    if producer >= 0:
                        terms.append((self.done(producer, step), -1.0))
                    if ender is not None and ender >= 0 and step:
                        terms.append((self.done(ender, step - 1), 1.0))
                    if ender is None or ender >= 0:
                        self.at_least(terms, least)

    def add_peak(self) -> None:
        """The last column, the peak in units, is at least what is there at every step and the work of who runs."""
        graph, peak = self.graph, self.N * self.N + self.graph.S * self.N
        sizes, work = graph.bytes_S // self.unit, graph.work_N // self.unit
        for step in range(self.N):
            terms = [(peak, 1.0)]
            terms += [(self.there(s, step), -float(sizes[s])) for s in range(graph.S)]
            terms += [(self.done(v, step), -float(work[v])) for v in np.flatnonzero(work).tolist()]
            terms += [(self.done(v, step - 1), float(work[v])) for v in np.flatnonzero(work).tolist() if step]
            self.at_least(terms, 0)

    def solve(self, low: int, high: int, seconds: float):  # noqa: ANN201  scipy's own result
        """Return what HiGHS finds with a peak of `low` to `high` bytes."""
        graph, many = self.graph, self.N * self.N + self.graph.S * self.N + 1
        reach_NN = reach_of(all_edges(graph), self.N)
        lower, upper = np.zeros(many), np.ones(many)
        for v in range(self.N):
            upper[self.done(v, 0) : self.done(v, int(reach_NN[:, v].sum()))] = 0
            lower[self.done(v, self.N - 1 - int(reach_NN[v].sum())) : self.done(v, self.N - 1) + 1] = 1
        lower[-1], upper[-1] = low // self.unit, high // self.unit
        integral = np.zeros(many)
        integral[: self.N * self.N] = 1
        matrix = csr_array((self.values, (self.rows, self.columns)), shape=(len(self.least), many))
        cost = np.zeros(many)
        cost[-1] = 1
        return milp(
            cost, integrality=integral, bounds=Bounds(lower, upper), constraints=LinearConstraint(matrix, self.least),
            options={"time_limit": seconds, "mip_rel_gap": 0},
        )  # fmt: skip
