"""The columns of a trace's Parquet file: one row per (token, layer).

Scores are split into byte streams, ids use dictionaries, columns of running numbers are delta-encoded: of the layouts
tried these read fastest, and none was smaller by more than a few percent.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from moe_replay.traces.errors import InputError
from moe_replay.traces.selections import FIELDS, LAYER_FIELDS, SEQUENCE_FIELDS, SLOT_FIELDS, TOKEN_FIELDS, Trace

ROW_COLUMNS = {"row": np.int32, "layer": np.int16}
BLOCK_ROWS = 512
COMPRESSION_LEVEL = 3


def column_of(name: str) -> str:
    """Return a field's column: `sequence` for `sequence_T`, `expert` (to be numbered) for `experts_TLK`."""
    return {"experts_TLK": "expert", "scores_TLK": "score"}.get(name) or name.rsplit("_", 1)[0]


@dataclass(frozen=True)
class Layout:
    """The columns of a trace's file: which fields it has, for how many layers and slots."""

    layers: int
    slots: int
    present: tuple[str, ...]

    @property
    def columns(self) -> dict[str, np.dtype]:
        """The columns in the order of the file, with their types."""
        names = [name for name in (*TOKEN_FIELDS, *LAYER_FIELDS, *SEQUENCE_FIELDS) if name in self.present]
        numbered = [name for name in SLOT_FIELDS if name in self.present]
        return (
            ROW_COLUMNS
            | {column_of(name): FIELDS[name] for name in names}
            | {f"{column_of(name)}_{slot}": FIELDS[name] for name in numbered for slot in range(self.slots)}
        )

    @property
    def schema(self) -> pa.Schema:
        """The Arrow schema; no column may hold nulls."""
        return pa.schema([
            pa.field(name, pa.string() if dtype is np.str_ else pa.from_numpy_dtype(dtype), nullable=False)
            for name, dtype in self.columns.items()
        ])  # fmt: skip

    @property
    def encodings(self) -> dict[str, str]:
        """The columns that do not use a dictionary, with their encoding."""
        answers = {column_of(name) for name in SEQUENCE_FIELDS}  # a few values each, in no order
        numbers = [
            name for name, dtype in self.columns.items() if dtype in (np.int32, np.int64) and name not in answers
        ]
        floats = [name for name, dtype in self.columns.items() if dtype is np.float32]
        return dict.fromkeys(numbers, "DELTA_BINARY_PACKED") | dict.fromkeys(floats, "BYTE_STREAM_SPLIT")

    def table(self, trace: Trace, first_row: int) -> pa.Table:
        """Return the rows of a piece of a trace whose first token is number `first_row`."""
        arrays = [np.repeat(np.arange(first_row, first_row + trace.T, dtype=np.int32), trace.L)]
        arrays.append(np.tile(np.arange(trace.L, dtype=np.int16), trace.T))
        names = [name for name in (*TOKEN_FIELDS, *LAYER_FIELDS, *SEQUENCE_FIELDS) if name in self.present]
        arrays += [per_row(trace, name) for name in names]
        arrays += [slot_N for name in SLOT_FIELDS if name in self.present for slot_N in by_slot(getattr(trace, name))]
        return pa.Table.from_arrays([pa.array(values) for values in arrays], schema=self.schema)


def by_slot(values_TLK: np.ndarray) -> np.ndarray:
    """Return a field's slots one after another, [K, T * L]; copied in blocks that fit the processor's cache."""
    values_NK = values_TLK.reshape(-1, values_TLK.shape[2])
    values_KN = np.empty(values_NK.shape[::-1], values_NK.dtype)
    for start in range(0, len(values_NK), BLOCK_ROWS):
        values_KN[:, start : start + BLOCK_ROWS] = values_NK[start : start + BLOCK_ROWS].T
    return values_KN


def per_row(trace: Trace, name: str) -> np.ndarray:
    """Return a field of tokens, layers or sequences with one entry per row (token, layer)."""
    values = getattr(trace, name)
    if name in LAYER_FIELDS:
        return values.reshape(-1)
    if name in SEQUENCE_FIELDS:
        values = values[np.searchsorted(trace.sequences_S, trace.sequence_T)]
    return np.repeat(values, trace.L)


def open_writer(path: Path, layout: Layout) -> pq.ParquetWriter:
    """Return a writer. Parquet's own types say all, so the Arrow schema is left out: one thing less to be damaged."""
    return pq.ParquetWriter(
        path, layout.schema, compression="zstd", compression_level=COMPRESSION_LEVEL, write_page_checksum=True,
        use_dictionary=[name for name in layout.columns if name not in layout.encodings],
        column_encoding=layout.encodings, write_statistics=["row", "layer", "sequence", "step"], store_schema=False,
    )  # fmt: skip


def check_schema(path: Path, schema: pa.Schema, layout: Layout) -> None:
    """Refuse columns of other names, types or order than the header promises."""
    expected = layout.schema
    for name in expected.names:
        if name not in schema.names:
            raise InputError(f"{path}: column {name} is missing")
    for found in schema:
        if found.name not in expected.names:
            raise InputError(f"{path}: column {found.name!r:.40} is unknown; known: {', '.join(expected.names)}")
        wanted = expected.field(found.name)
        if (found.type, found.nullable) != (wanted.type, wanted.nullable):
            is_now = f"{found.type} with nulls" if found.nullable else found.type
            raise InputError(f"{path}: column {found.name} is {is_now}, expected {wanted.type} without nulls")
    if schema.names != expected.names:
        raise InputError(f"{path}: columns are in another order: {', '.join(schema.names)}")
