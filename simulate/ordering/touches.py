"""A training graph as the searches see it: who comes before whom, who touches what, in rows that kernels can walk.

Rows (`Rows`) hold lists of different lengths: those of i are `items[first[i]:first[i + 1]]`. Unlike a graph's, these
storages have no producer: a storage is there from its first touch to its last, whoever that is, so that the reverse of
a problem is a problem again, with the same peaks in reverse.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np

from moe_replay.simulate.ordering.order_result import all_edges
from moe_replay.traces.training_graphs.training_graph import TrainingGraph


@dataclass(frozen=True, eq=False)
class Rows:
    """Lists of whole numbers of different lengths: `first` int64 [R + 1], `items` int32."""

    first: np.ndarray
    items: np.ndarray

    def __getitem__(self, row: int) -> np.ndarray:
        return self.items[self.first[row] : self.first[row + 1]]

    @property
    def lengths(self) -> np.ndarray:
        """How many items each row has."""
        return np.diff(self.first)


def rows_of(row_X: np.ndarray, item_X: np.ndarray, rows: int) -> Rows:
    """Return the rows of pairs (row, item); items ascend within a row."""
    sorted_X = np.lexsort((item_X, row_X))
    first = np.concatenate([[0], np.cumsum(np.bincount(row_X, minlength=rows))])
    return Rows(first.astype(np.int64), np.ascontiguousarray(item_X[sorted_X], np.int32))


class Arrays(NamedTuple):
    """The arrays of `Touches` as kernels take them: rows of before, after, storages and operations, then the rest."""

    first_b: np.ndarray
    before: np.ndarray
    first_a: np.ndarray
    after: np.ndarray
    first_s: np.ndarray
    storages: np.ndarray
    first_o: np.ndarray
    operations: np.ndarray
    bytes_S: np.ndarray
    work_N: np.ndarray
    from_start_S: np.ndarray
    to_end_S: np.ndarray


@dataclass(frozen=True, eq=False)
class Touches:
    """Operations 0..N-1 and storages 0..S-1.

    `before`, `after`: the operations that must run before (after) each; `storages`: what each operation touches;
    `operations`: who touches each storage. `from_start_S`, `to_end_S`: there before the first, after the last step.
    """

    before: Rows
    after: Rows
    storages: Rows
    operations: Rows
    bytes_S: np.ndarray
    work_N: np.ndarray
    from_start_S: np.ndarray
    to_end_S: np.ndarray

    @property
    def N(self) -> int:
        """The number of operations."""
        return len(self.work_N)

    @property
    def S(self) -> int:
        """The number of storages."""
        return len(self.bytes_S)

    def reversed(self) -> Touches:
        """Return the same with time running backwards; an order and its reverse have equal peaks."""
        return Touches(
            self.after, self.before, self.storages, self.operations, self.bytes_S, self.work_N, self.to_end_S,
            self.from_start_S,
        )  # fmt: skip

    @cached_property
    def arrays(self) -> Arrays:
        """The same, as kernels take it."""
        rows = (self.before, self.after, self.storages, self.operations)
        flat = [array for each in rows for array in (each.first, each.items)]
        return Arrays(*flat, self.bytes_S, self.work_N, self.from_start_S, self.to_end_S)

    @property
    def at_start(self) -> int:
        """Bytes that are there before the first step."""
        return int(self.bytes_S[self.from_start_S].sum())

    @cached_property
    def order_N(self) -> np.ndarray | None:
        """Operations in an order that keeps `before`, int32; None where none does: they wait in a circle."""
        waits_N = self.before.lengths.tolist()
        ready = [operation for operation in range(self.N) if not waits_N[operation]]
        for operation in ready:  # grows
            for later in self.after[operation].tolist():
                waits_N[later] -= 1
                if not waits_N[later]:
                    ready.append(later)
        return np.array(ready, np.int32) if len(ready) == self.N else None

    def with_edges(self, edge_X2: np.ndarray) -> Touches:
        """Return the same with further pairs (before, after)."""
        after_X = np.repeat(np.arange(self.N), self.before.lengths)
        own_X2 = np.stack([self.before.items, after_X], axis=1)
        before_X, after_X = np.unique(np.concatenate([own_X2, edge_X2]), axis=0).T
        return replace(self, before=rows_of(after_X, before_X, self.N), after=rows_of(before_X, after_X, self.N))

    def part(self, inside_N: np.ndarray, done_N: np.ndarray) -> tuple[Touches, np.ndarray]:
        """Return (the operations `inside_N` alone, what their numbers there were) once those of `done_N` are done.

        The rest runs later. What is there all the time is one storage, the last, that nobody touches.
        """
        inside_X = np.flatnonzero(inside_N)
        number_N = np.full(self.N, -1, np.int32)
        number_N[inside_X] = np.arange(len(inside_X))
        storage_U = np.repeat(np.arange(self.S), self.operations.lengths)
        operation_U = self.operations.items
        is_inside_U, is_done_U = inside_N[operation_U], done_N[operation_U]
        from_start_S, to_end_S, has_S = self.from_start_S.copy(), self.to_end_S.copy(), np.zeros(self.S, bool)
        from_start_S[storage_U[is_done_U]] = True
        to_end_S[storage_U[~is_done_U & ~is_inside_U]] = True
        has_S[storage_U[is_inside_U]] = True
        always_S = from_start_S & to_end_S
        kept_S = has_S & ~always_S
        number_S = np.cumsum(kept_S) - 1
        kept_U = is_inside_U & kept_S[storage_U]
        storage_U, operation_U = number_S[storage_U[kept_U]], number_N[operation_U[kept_U]]
        return Touches(
            selected(self.before, inside_N, number_N), selected(self.after, inside_N, number_N),
            rows_of(operation_U, storage_U, len(inside_X)), sorted_rows(storage_U, operation_U, kept_S.sum() + 1),
            np.append(self.bytes_S[kept_S], self.bytes_S[always_S].sum()), self.work_N[inside_X],
            np.append(from_start_S[kept_S], True), np.append(to_end_S[kept_S], True),
        ), inside_X  # fmt: skip


def sorted_rows(row_X: np.ndarray, item_X: np.ndarray, rows: int) -> Rows:
    """Return the rows of pairs (row, item) that come by row."""
    first = np.zeros(rows + 1, np.int64)
    np.cumsum(np.bincount(row_X, minlength=rows), out=first[1:])
    return Rows(first, np.ascontiguousarray(item_X, np.int32))


def selected(rows: Rows, inside_N: np.ndarray, number_N: np.ndarray) -> Rows:
    """Return the rows of some operations, with others left out, by new numbers."""
    row_X = np.repeat(np.arange(len(inside_N)), rows.lengths)
    kept_X = inside_N[row_X] & inside_N[rows.items]
    return sorted_rows(number_N[row_X[kept_X]], number_N[rows.items[kept_X]], int(inside_N.sum()))


def touches_of(graph: TrainingGraph) -> Touches:
    """Return the touches of a graph; a storage that is there at no step is left out."""
    edge_X2 = all_edges(graph)
    users_S = np.diff(graph.first_user_S1)
    there_S = (graph.producer_S >= 0) | graph.kept_S | (users_S > 0)
    number_S = np.cumsum(there_S) - 1
    made_S = np.flatnonzero(graph.producer_S >= 0)
    storage_X = number_S[np.concatenate([made_S, np.repeat(np.arange(graph.S), users_S)])]
    operation_X = np.concatenate([graph.producer_S[made_S], graph.user_U])
    return Touches(
        before=rows_of(edge_X2[:, 1], edge_X2[:, 0], graph.N), after=rows_of(edge_X2[:, 0], edge_X2[:, 1], graph.N),
        storages=rows_of(operation_X, storage_X, graph.N),
        operations=rows_of(storage_X, operation_X, int(there_S.sum())), bytes_S=graph.bytes_S[there_S],
        work_N=graph.work_N.copy(), from_start_S=graph.producer_S[there_S] < 0, to_end_S=graph.kept_S[there_S],
    )  # fmt: skip
