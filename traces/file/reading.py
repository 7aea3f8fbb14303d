"""Reading traces: row group by row group, in threads, into arrays of their final size."""

import threading
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from moe_replay.traces.errors import InputError
from moe_replay.traces.file.chunks import chunk_tokens, chunks, in_threads
from moe_replay.traces.file.joining import group
from moe_replay.traces.file.layout import Layout, check_schema, column_of
from moe_replay.traces.file.parquet import damage_refused, unsealed, values_of
from moe_replay.traces.header import Header
from moe_replay.traces.selections import (
    FIELDS,
    LARGEST_ROWS,
    NEEDED,
    SEQUENCE_FIELDS,
    SLOT_FIELDS,
    TOKEN_FIELDS,
    Trace,
    field_leaf,
)

KIND = "trace"
FILE_KEYS = ("tokens", "slots", "digests", "kind", "header_digest")


@dataclass(frozen=True)
class Part:
    """A trace's file whose header has been read: a whole trace, or one part of a recording."""

    path: Path
    metadata: pq.FileMetaData
    header: Header
    layout: Layout
    tokens: int
    digests: dict[str, str]


def open_part(path: Path) -> Part:
    """Return a trace's file with its header checked; InputError if the file is not a whole one."""
    with damage_refused(path), pq.ParquetFile(path) as opened:
        metadata, schema = opened.metadata, opened.schema_arrow
        content = unsealed(path, metadata.metadata, KIND)
        group_rows = [metadata.row_group(index).num_rows for index in range(metadata.num_row_groups)]
    try:
        header = Header.from_json({key: value for key, value in content.items() if key not in FILE_KEYS})
        tokens, layout = described(content, header)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    check_schema(path, schema, layout)
    size = chunk_tokens(layout.layers)
    if len(group_rows) != -(-tokens // size) or sum(group_rows) != tokens * layout.layers:
        raise InputError(f"{path}: holds {sum(group_rows)} rows, expected {tokens} tokens x {layout.layers} layers")
    if any(rows != size * layout.layers for rows in group_rows[:-1]):
        raise InputError(f"{path}: row groups of other sizes than a trace has: the file was written again")
    return Part(path, metadata, header, layout, tokens, content["digests"])


def described(content: dict, header: Header) -> tuple[int, Layout]:
    """Return (tokens, layout) that a file's header states; InputError if they cannot be."""
    tokens, slots, digests = (content.get(key) for key in ("tokens", "slots", "digests"))
    for name, value, high in (("tokens", tokens, LARGEST_ROWS), ("slots", slots, header.model.experts)):
        if type(value) is not int or not 1 <= value <= high:
            raise InputError(f"header: {name} is {value!r:.40}, allowed 1..{high}")
    if not isinstance(digests, dict) or not set(NEEDED) <= digests.keys() <= FIELDS.keys():
        raise InputError(f"header: digests is {digests!r:.80}, allowed one digest for each of {', '.join(FIELDS)}")
    return tokens, Layout(header.model.layers, slots, tuple(name for name in FIELDS if name in digests))


def one_per_token(part: Part, name: str, values_TL: np.ndarray, first_row: int) -> np.ndarray:
    """Return the first layer's entry of every token; InputError if another layer has another."""
    layers = values_TL.shape[1]
    flat = values_TL.reshape(-1)
    differs = flat[1:] != flat[:-1]  # each entry from the one before: many times faster than token by token
    differs[layers - 1 :: layers] = False
    if differs.any():
        at = int(differs.argmax()) // layers
        found = f"row {first_row + at}: {name} is {values_TL[at].tolist()!s:.60}"
        raise InputError(f"{part.path}: {found}, allowed one value in all layers")
    return values_TL[:, 0]


def check_row_numbers(part: Part, rows: slice, row_TL: np.ndarray, layer_TL: np.ndarray) -> None:
    """Refuse rows in another order than row 0, layer 0; row 0, layer 1; ..."""
    shape = row_TL.shape
    row_T, layer_L = np.arange(rows.start, rows.stop, dtype=np.int32), np.arange(shape[1], dtype=np.int16)
    wrong = row_TL.reshape(-1) != np.repeat(row_T, shape[1])
    wrong |= layer_TL.reshape(-1) != np.tile(layer_L, shape[0])
    if wrong.any():
        at, layer = divmod(int(wrong.argmax()), shape[1])
        found = f"row {row_TL[at, layer]}, layer {layer_TL[at, layer]}"
        raise InputError(f"{part.path}: {found} is where row {rows.start + at}, layer {layer} belongs")


@dataclass
class Assembly:
    """The arrays of a trace being read; what is known per sequence is kept per token until all of it is there."""

    layout: Layout
    tokens: int
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    domains: dict[str, int] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def allocate(self) -> None:
        """Make room for every field."""
        sizes = {"T": self.tokens, "L": self.layout.layers, "K": self.layout.slots, "S": self.tokens}
        for name in self.layout.present:
            shape = tuple(sizes[letter] for letter in name.rsplit("_", 1)[1])
            self.arrays[name] = np.empty(shape, np.int32 if name == "domain_S" else FIELDS[name])

    def read(self, part: Part, start: int) -> dict[str, list[bytes]]:
        """Fill in a part's tokens from number `start` on; return the digests of its runs."""
        runs = chunks(part.tokens, self.layout.layers)
        found = in_threads(lambda index: self.read_group(part, index, runs[index], start), range(len(runs)))
        return {name: [leaves[name] for leaves in found] for name in found[0]}

    def read_group(self, part: Part, index: int, rows: slice, start: int) -> dict[str, bytes]:
        """Fill in one row group; return the digest of each field's run."""
        texts = ["domain"] if "domain_S" in self.layout.present else None
        opened = {"metadata": part.metadata, "read_dictionary": texts, "page_checksum_verification": True}
        with damage_refused(part.path), pq.ParquetFile(part.path, **opened) as source:
            table = source.read_row_group(index, use_threads=False).combine_chunks()
        shape = (rows.stop - rows.start, self.layout.layers)
        if table.num_rows != shape[0] * shape[1]:
            raise InputError(f"{part.path}: row group {index} holds {table.num_rows} rows, not those it states")

        def values_TL(column: str) -> np.ndarray:
            return self.numbers(table.column(column).chunk(0)).reshape(shape)

        check_row_numbers(part, rows, values_TL("row"), values_TL("layer"))
        at = slice(start + rows.start, start + rows.stop)
        for name in self.layout.present:
            target, column = self.arrays[name], column_of(name)
            if name in SLOT_FIELDS:
                for slot in range(self.layout.slots):
                    target[at, :, slot] = values_TL(f"{column}_{slot}")
            elif name in TOKEN_FIELDS or name in SEQUENCE_FIELDS:
                target[at] = one_per_token(part, column, values_TL(column), rows.start)
            else:
                target[at] = values_TL(column)
        return {name: field_leaf(name, self.arrays[name][at]) for name in self.arrays if name not in SEQUENCE_FIELDS}

    def numbers(self, column: pa.Array) -> np.ndarray:
        """Return a column as numbers: texts as their place in `domains`."""
        if not pa.types.is_dictionary(column.type):
            return values_of(column)
        with self.lock:
            places = [self.domains.setdefault(text, len(self.domains)) for text in column.dictionary.to_pylist()]
        return np.array(places, np.int32)[values_of(column.indices)]

    def trace(self, header: Header) -> Trace:
        """Return the trace, checked; InputError for an impossible value, or if a sequence has two labels, say."""
        known = [name for name in self.arrays if name in SEQUENCE_FIELDS]
        if known:
            groups = group(self.arrays["sequence_T"])
            texts = np.array(list(self.domains) or [""])
            for name in known:
                meaning = texts if name == "domain_S" else None
                self.arrays[name] = groups.collapse(name, self.arrays[name], meaning)
        return Trace(header=header, **self.arrays)
