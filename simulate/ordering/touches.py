"""A training graph as the searches see it: who comes before whom, who touches what, in rows that kernels can walk.

Rows (`Rows`) hold lists of different lengths: those of i are `items[first[i]:first[i + 1]]`. Unlike a graph's, these
storages have no producer: a storage is there from its first touch to its last, whoever that is, so that the reverse of
a problem is a problem again, with the same peaks in reverse.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

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
    def constant(self) -> int:
        """Bytes that are there at every step of every order."""
        return int(self.bytes_S[self.from_start_S & self.to_end_S].sum())


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
        work_N=graph.work_N, from_start_S=graph.producer_S[there_S] < 0, to_end_S=graph.kept_S[there_S],
    )  # fmt: skip
