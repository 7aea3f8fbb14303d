"""Load traces: how many selections each expert got, from logs that hold counts only; no tokens, no order.

Letters: S iterations (forward calls or training steps), R ranks, M microbatches, L MoE layers, E experts.
"""

import hashlib
import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from moe_replay.traces.command_line.number_limits import LARGEST
from moe_replay.traces.command_line.provenance import SCHEMA_VERSION
from moe_replay.traces.errors import InputError
from moe_replay.traces.file.parquet import DAMAGE, HEADER_KEY, column_digest, read_table, write_table
from moe_replay.traces.header import ModelInfo, check_keys, make_plain

KIND = "loads"
ID_COLUMNS = {"iteration": np.int64, "rank": np.int32, "microbatch": np.int32, "layer": np.int32, "expert": np.int32}
NUMBERED = ("iteration", "rank")  # as the log has them; the others count from 0
HEADER_KEYS = ("model", "data", "provenance", "notes", "schema")


@dataclass(frozen=True, eq=False, kw_only=True)
class LoadTrace:
    """Selections per iteration, rank, microbatch, layer and expert; checked, and its arrays cannot be written to.

    load_SRMLE    int64  selections, >= 0
    iteration_S   int64  the source's numbers of its iterations, ascending
    rank_R        int32  the source's numbers of its ranks, ascending (one rank 0 where it summed over ranks)

    `model.layer_ids` are the model's own numbers of the L layers. `data` holds name, digest and note, None where
    unknown. Raises InputError naming place, value and what is allowed.
    """

    model: ModelInfo
    data: dict
    load_SRMLE: np.ndarray
    iteration_S: np.ndarray
    rank_R: np.ndarray
    provenance: dict = field(default_factory=dict)
    notes: dict = field(default_factory=dict)

    def __post_init__(self) -> None:
        make_plain(self)
        for name, kind, dimensions in (
            ("load_SRMLE", np.int64, 5),
            ("iteration_S", np.int64, 1),
            ("rank_R", np.int32, 1),
        ):
            values = getattr(self, name)
            if not isinstance(values, np.ndarray) or values.dtype != kind or values.ndim != dimensions:
                raise InputError(f"{name}: allowed an array of {np.dtype(kind)} with {dimensions} dimensions")
            view = values.view()
            view.flags.writeable = False
            object.__setattr__(self, name, view)
        check_shape(self)
        check_numbers(self)

    @cached_property
    def load_LE(self) -> np.ndarray:
        """Selections of every expert with weights, in all iterations, ranks and microbatches together (int64)."""
        return self.load_SRMLE.sum((0, 1, 2))[:, : self.model.real_experts]

    @cached_property
    def used_S(self) -> np.ndarray:
        """Which iterations have selections; an engine that idles, say, leaves some without."""
        return self.load_SRMLE.any((1, 2, 3, 4))

    @cached_property
    def digest(self) -> str:
        """A digest of the counts, their numbers and the model; who recorded them, and when, does not count."""
        arrays = {name: column_digest(getattr(self, name)) for name in ("load_SRMLE", "iteration_S", "rank_R")}
        content = json.dumps({"arrays": arrays, "model": self.model.to_json()}, sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:32]

    @property
    def ids(self) -> dict[str, np.ndarray]:
        """The numbers of every axis of the counts, by column, each along its own axis."""
        named = {"iteration": self.iteration_S, "rank": self.rank_R}
        sizes = dict(zip(ID_COLUMNS, self.load_SRMLE.shape, strict=True))
        numbers = {name: named.get(name, np.arange(size, dtype=ID_COLUMNS[name])) for name, size in sizes.items()}
        return {name: along(each, name) for name, each in numbers.items()}

    def save(self, path: Path | str) -> None:
        """Write one row per count as Parquet: iteration, rank, microbatch, layer (0..L-1), expert, selections."""
        shape = self.load_SRMLE.shape
        columns = {name: np.broadcast_to(ids, shape).ravel() for name, ids in self.ids.items()}
        columns["selections"] = self.load_SRMLE.ravel()
        header = {
            "model": self.model.to_json(), "data": self.data, "provenance": self.provenance, "notes": self.notes,
            "schema": SCHEMA_VERSION,
        }  # fmt: skip
        write_table(path, columns, header, KIND)


def along(numbers: np.ndarray, name: str) -> np.ndarray:
    """Return the numbers of an axis in a shape of five axes, in which they run along their own."""
    return numbers.reshape([-1 if axis == name else 1 for axis in ID_COLUMNS])


def check_shape(loads: LoadTrace) -> None:
    """Refuse counts whose shape does not fit the ids and the model."""
    shape = loads.load_SRMLE.shape
    expected = (len(loads.iteration_S), len(loads.rank_R), shape[2], loads.model.layers, loads.model.experts)
    if shape != expected or 0 in shape:
        raise InputError(f"load_SRMLE has shape {shape}, allowed {expected}, none of them 0")


def check_numbers(loads: LoadTrace) -> None:
    """Refuse ids that do not ascend from 0 or above, and counts below zero."""
    for name in ("iteration_S", "rank_R"):
        values = getattr(loads, name)
        if values[0] < 0 or (values[1:] <= values[:-1]).any():
            raise InputError(f"{name} is {values.tolist()!s:.60}, allowed ascending numbers >= 0")
    total = float(loads.load_SRMLE.sum(dtype=np.float64))
    if not total < LARGEST:
        raise InputError(f"selections sum to {total:.4g}, allowed less than {LARGEST:,} in all")
    low = loads.load_SRMLE < 0
    if count := int(low.sum()):
        at = tuple(int(index) for index in np.unravel_index(int(low.argmax()), low.shape))
        place = f"iteration {loads.iteration_S[at[0]]}, rank {loads.rank_R[at[1]]}, microbatch {at[2]}, layer {at[3]}"
        found = f"{place}, expert {at[4]}: selections are {loads.load_SRMLE[at]}"
        raise InputError(f"{found}, allowed >= 0 ({count} such count{'s' if count > 1 else ''})")


def read_loads(path: Path | str) -> LoadTrace:
    """Return the load trace in a file, every digest and value checked; InputError in one line otherwise."""
    columns, header = read_table(path, KIND)
    try:
        return from_columns(columns, {name: value for name, value in header.items() if name in HEADER_KEYS})
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def from_columns(columns: dict[str, np.ndarray], header: dict) -> LoadTrace:
    """Return the load trace of a table's columns; InputError unless its rows are a full grid in order."""
    kinds = ID_COLUMNS | {"selections": np.int64}
    if {name: values.dtype for name, values in columns.items()} != kinds:
        raise InputError(f"columns are {', '.join(columns)!s:.120}, allowed {', '.join(kinds)} as whole numbers")
    check_keys("", header, HEADER_KEYS, HEADER_KEYS)
    model = ModelInfo.from_json(header["model"])
    if header["schema"] != SCHEMA_VERSION:
        raise InputError(f"header: schema is {header['schema']!r:.20}, allowed {SCHEMA_VERSION}")
    ids = {name: np.unique(columns[name]) for name in ID_COLUMNS}
    shape = tuple(len(each) for each in ids.values())
    for name, found in ids.items():
        numbers = found if name in NUMBERED else np.arange(len(found))
        expected = np.broadcast_to(along(numbers, name), shape)
        if columns[name].size != expected.size or (columns[name] != expected.ravel()).any():
            raise InputError(f"column {name}: rows are not a full grid of {', '.join(ID_COLUMNS)}")
    return LoadTrace(
        model=model,
        load_SRMLE=columns["selections"].reshape(shape),
        iteration_S=ids["iteration"],
        rank_R=ids["rank"],
        **{name: header[name] for name in ("data", "provenance", "notes")},
    )


def holds_loads(path: Path | str) -> bool:
    """Return whether a file says that it is a load trace; what cannot be read says nothing."""
    try:
        header = json.loads((pq.read_schema(path).metadata or {})[HEADER_KEY])
        return header["kind"] == KIND
    except DAMAGE:
        return False
