"""The graph of one training iteration, as an order of its operations sees it: who touches which bytes.

A storage is a piece of memory: views of it are left out, and their users touch the storage itself. It is there from its
first to its last touch, both included, so that an order's peak is the most, over its steps, of what the running
operation needs for itself and the bytes of all storages that are there. Letters: N operations, S storages, U touches by
users, E edges.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from moe_replay.traces.errors import InputError
from moe_replay.traces.file.parquet import header_digest

PHASES = ("forward", "recomputation", "backward", "optimizer")
FROM_THE_START = -1
LARGEST_BYTES = 2**50  # sums of them fit into 64 bits
LARGEST_GRAPH = 1_000_000


@dataclass(frozen=True, eq=False, kw_only=True)
class TrainingGraph:
    """Operations 0..N-1, in the order in which they were captured; that order keeps every edge.

    `names_N` and `kinds_N` are the operations' names and what they do (`aten.mm.default`), `phase_N` int8 places in
    PHASES, `work_N` int64 bytes that an operation needs while it runs, beside its storages.

    Storages: `bytes_S` int64; `producer_S` int32, the operation that makes it, -1 where it is there from the start;
    `kept_S` bool, whether it is there to the end; `user_U` int32, the other operations that touch it, ascending, those
    of storage s from `first_user_S1[s]` to `first_user_S1[s + 1]`. One without users is there while its producer runs.
    Parameters, optimizer state and the batch, which are there all the time in every order, are not among them.

    `edge_E2` int32: further pairs (before, after), such as readers before an operation that writes in place.
    Raises InputError naming the operation, storage or edge.
    """

    name: str
    names_N: tuple[str, ...]
    kinds_N: tuple[str, ...]
    phase_N: np.ndarray
    work_N: np.ndarray
    bytes_S: np.ndarray
    producer_S: np.ndarray
    kept_S: np.ndarray
    first_user_S1: np.ndarray
    user_U: np.ndarray
    edge_E2: np.ndarray
    notes: dict = field(default_factory=dict)
    provenance: dict = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, dtype in ARRAYS.items():
            array = np.ascontiguousarray(getattr(self, name), dtype)
            array.setflags(write=False)
            object.__setattr__(self, name, array)
        self.check_operations()
        self.check_storages()
        self.check_edges()
        try:
            json.dumps([self.notes, self.provenance], allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise InputError(f"notes or provenance cannot be written as JSON ({error!s:.60})") from None

    def check_operations(self) -> None:
        """Refuse a graph without operations, lists of different lengths, unknown phases and impossible bytes."""
        if not self.name or not 1 <= self.N <= LARGEST_GRAPH:
            raise InputError(f"graph {self.name!r:.40} has {self.N} operations, allowed a name and 1..{LARGEST_GRAPH}")
        for name in ("kinds_N", "phase_N", "work_N"):
            if len(getattr(self, name)) != self.N:
                raise InputError(f"{name} has {len(getattr(self, name))} entries for {self.N} operations")
        refuse(
            "operation", "phase", self.phase_N, (self.phase_N < 0) | (self.phase_N >= len(PHASES)), ", ".join(PHASES)
        )
        refuse("operation", "work", self.work_N, ~within(self.work_N), f"0..{LARGEST_BYTES} bytes")

    def check_storages(self) -> None:
        """Refuse impossible bytes, and users that do not come after the producer in the captured order."""
        if not len(self.producer_S) == len(self.kept_S) == len(self.first_user_S1) - 1 == self.S:
            raise InputError("bytes_S, producer_S, kept_S and first_user_S1 are of different lengths")
        lengths_S = np.diff(self.first_user_S1)
        if self.first_user_S1[0] or self.first_user_S1[-1] != len(self.user_U) or (lengths_S < 0).any():
            raise InputError("first_user_S1 does not divide user_U")
        refuse("storage", "bytes", self.bytes_S, ~within(self.bytes_S), f"0..{LARGEST_BYTES}")
        wrong_S = (self.producer_S < FROM_THE_START) | (self.producer_S >= self.N)
        refuse("storage", "producer", self.producer_S, wrong_S, f"{FROM_THE_START}..{self.N - 1}")
        storage_U = np.repeat(np.arange(self.S), lengths_S)
        before_U = np.roll(self.user_U, 1)
        is_first_U = np.isin(np.arange(len(self.user_U)), self.first_user_S1[:-1])
        before_U[is_first_U] = self.producer_S[storage_U[is_first_U]]
        for at in np.flatnonzero((self.user_U <= before_U) | (self.user_U >= self.N))[:1]:
            raise InputError(
                f"storage {storage_U[at]}: user {self.user_U[at]} after {before_U[at]}, allowed ascending operations "
                f"{before_U[at] + 1}..{self.N - 1}"
            )

    def check_edges(self) -> None:
        """Refuse an edge that leads back in the captured order or leaves the graph."""
        if self.edge_E2.ndim != 2 or self.edge_E2.shape[1] != 2:
            raise InputError(f"edge_E2 has shape {self.edge_E2.shape}, allowed pairs (before, after)")
        before_E, after_E = self.edge_E2.T
        for at in np.flatnonzero((before_E < 0) | (before_E >= after_E) | (after_E >= self.N))[:1]:
            raise InputError(
                f"edge {at}: {before_E[at]} before {after_E[at]}, allowed ascending pairs of 0..{self.N - 1}"
            )

    @property
    def N(self) -> int:
        """The number of operations."""
        return len(self.names_N)

    @property
    def S(self) -> int:
        """The number of storages."""
        return len(self.bytes_S)

    def users(self, storage: int) -> np.ndarray:
        """Return the operations that touch a storage, its producer left out."""
        return self.user_U[self.first_user_S1[storage] : self.first_user_S1[storage + 1]]

    @property
    def digest(self) -> str:
        """A digest of all that decides a peak: bytes, touches and edges; names, notes and provenance are not in it."""
        return header_digest({name: getattr(self, name).tolist() for name in ARRAYS if name != "phase_N"})

    def __repr__(self) -> str:
        return f"TrainingGraph({self.name!r}, {self.N} operations, {self.S} storages, {len(self.edge_E2)} edges)"


ARRAYS = {
    "phase_N": np.int8, "work_N": np.int64, "bytes_S": np.int64, "producer_S": np.int32, "kept_S": np.bool_,
    "first_user_S1": np.int64, "user_U": np.int32, "edge_E2": np.int32,
}  # fmt: skip


def within(bytes_X: np.ndarray) -> np.ndarray:
    """Return which sizes are possible ones."""
    return (bytes_X >= 0) & (bytes_X <= LARGEST_BYTES)


def refuse(what: str, field_name: str, values_X: np.ndarray, wrong_X: np.ndarray, allowed: str) -> None:
    """Raise InputError for the first wrong value, and say how many there are."""
    for at in np.flatnonzero(wrong_X)[:1]:
        raise InputError(
            f"{what} {at}: {field_name} is {values_X[at]}, allowed {allowed} ({wrong_X.sum()} such {what}s)"
        )


def training_graph(
    name: str, operations: Sequence, storages: Sequence, edges: Sequence = (), notes: dict | None = None,
    provenance: dict | None = None,
) -> TrainingGraph:  # fmt: skip
    """Return the graph of plain rows, as its file holds them.

    `operations`: (name, kind, phase by its name, work bytes); `storages`: (bytes, producer or -1, kept, users);
    `edges`: (before, after). InputError for rows of another shape or impossible values.
    """
    try:
        names, kinds, phases, work = zip(*operations, strict=True)
        sizes, producers, kept, users = zip(*storages, strict=True) if storages else ((), (), (), ())
        before, after = zip(*edges, strict=True) if len(edges) else ((), ())
        numbers = [*work, *sizes, *producers, *(user for each in users for user in each), *before, *after]
    except (TypeError, ValueError):
        raise InputError(f"graph {name!r:.40}: rows of another shape than (name, kind, phase, work) or "
                         "(bytes, producer, kept, users) or (before, after)") from None  # fmt: skip
    check_rows(numbers, kept, [*names, *kinds, name], phases)
    return TrainingGraph(
        name=name, names_N=names, kinds_N=kinds, phase_N=np.array([PHASES.index(phase) for phase in phases]),
        work_N=np.array(work), bytes_S=np.array(sizes, np.int64), producer_S=np.array(producers, np.int64),
        kept_S=np.array(kept, bool), first_user_S1=np.cumsum([0, *map(len, users)]),
        user_U=np.array([user for each in users for user in each], np.int64),
        edge_E2=np.array([before, after], np.int64).T, notes=notes or {}, provenance=provenance or {},
    )  # fmt: skip


def check_rows(numbers: list, kept: tuple, texts: list, phases: tuple) -> None:
    """Refuse values of another type, which arrays would take for numbers, and numbers beyond their arrays."""
    for value in numbers:
        if type(value) is not int or abs(value) > LARGEST_BYTES:
            raise InputError(f"{value!r:.40} where a whole number up to {LARGEST_BYTES} is needed")
    for value in kept:
        if type(value) is not bool:
            raise InputError(f"kept is {value!r:.40}, allowed true or false")
    for value in texts:
        if not isinstance(value, str):
            raise InputError(f"{value!r:.40} where a name is needed")
    for value in phases:
        if value not in PHASES:
            raise InputError(f"phase is {value!r:.40}, allowed {', '.join(PHASES)}")
