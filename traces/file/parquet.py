"""Parquet tables with a JSON header: zstd, page checksums, a digest of the header and of every column."""

import contextlib
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from moe_replay.traces.command_line.files import replacing
from moe_replay.traces.errors import InputError
from moe_replay.traces.file.stored_forms import absolute, relative, reordered, restored

HEADER_KEY = b"moe-replay"
LEVEL = 9
SMALLEST = 19  # the level for what is kept for good: 4 % smaller, read as fast, written seven times slower
ASCENDING = 0.99  # of the steps from row to row
FEW_ROWS = 65536  # reading these takes less time than handing them to threads
# What pyarrow and json were seen to raise on files with flipped bytes. No bare Exception: our own slips must show.
DAMAGE = (OSError, ValueError, LookupError, TypeError, OverflowError, MemoryError, RecursionError, pa.ArrowException)


def column_digest(values: np.ndarray) -> str:
    """Return a digest of one column: its type, its shape and its bytes."""
    values = np.ascontiguousarray(values)
    state = hashlib.sha256(f"{values.dtype.str}{values.shape}".encode())
    state.update(values.view(np.uint8).reshape(-1).data)
    return state.hexdigest()[:32]


def header_digest(header: dict) -> str:
    """Return a digest of a header, whatever the order of its keys; its own entry `header_digest` does not count."""
    rest = {key: value for key, value in header.items() if key != "header_digest"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()[:32]


def sealed(header: dict, kind: str) -> dict[bytes, bytes]:
    """Return Parquet metadata that holds a header, its kind and its digest as JSON."""
    header = {**header, "kind": kind}
    header["header_digest"] = header_digest(header)
    return {HEADER_KEY: json.dumps(header, sort_keys=True).encode()}


def unsealed(path: Path | str, metadata: dict | None, kind: str) -> dict:
    """Return the header in Parquet metadata; InputError if there is none, it was changed, or it is of another kind."""
    if HEADER_KEY not in (metadata or {}):
        raise InputError(f"{path}: a Parquet file, but not one of moe-replay: it has no moe-replay header")
    with damage_refused(path):
        header = json.loads(metadata[HEADER_KEY])
    if not isinstance(header, dict) or header.get("header_digest") != header_digest(header):
        raise InputError(f"{path}: the header does not match its own digest: the file was changed")
    if header.get("kind") != kind:
        raise InputError(f"{path}: holds {header.get('kind')!r}, expected {kind!r}")
    return header


@contextlib.contextmanager
def damage_refused(path: Path | str) -> Iterator[None]:
    """Turn what reading a missing, damaged or foreign file raises into one line."""
    try:
        yield
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except DAMAGE as error:
        raise InputError(f"{path}: not a whole Parquet file of moe-replay ({str(error)[:80]})") from None


def write_table(
    path: Path | str, columns: dict[str, np.ndarray], header: dict, kind: str,
    relative_times: bool = False, orders: dict[str, str] | None = None, level: int = LEVEL,
) -> None:  # fmt: skip
    """Write equally long columns and a header; the file appears whole or not at all.

    `kind` says what the table is (`passes`, `batches`, `costs`); `read_table` refuses another kind. `relative_times`
    and `orders` (column: the one in whose order it is stored) choose forms of `traces.file.stored_forms`; `read_table`
    gives the columns as they are here, and digests are of these. `level` is zstd's.
    """
    header = {**header, "column_digests": {name: column_digest(values) for name, values in columns.items()}}
    if orders:
        columns, header = reordered(columns, orders), {**header, "orders": orders}
    if relative_times:
        columns, header = relative(columns), {**header, "relative_times": True}
    table = pa.table({name: column_of(values) for name, values in columns.items()})
    encodings = {name: encoding for name, values in columns.items() if (encoding := encoding_of(values))}
    with (
        replacing(path) as temporary,
        pq.ParquetWriter(
            temporary, table.schema, compression="zstd", compression_level=level, write_page_checksum=True,
            use_dictionary=False, column_encoding=encodings, write_statistics=False, store_schema=False,
        ) as writer,
    ):  # fmt: skip
        writer.write_table(table)
        writer.add_key_value_metadata(sealed(header, kind))


def encoding_of(values: np.ndarray) -> str | None:
    """Return what a column is encoded as before it is compressed, None: as it is.

    Of the shipped records each was the smallest for its kind of column: differences where numbers ascend, bytes apart
    where they do not, and nothing where they repeat from afar (ends of passes), which zstd finds by itself.
    """
    if values.dtype.kind not in "iu":
        return None
    if values.dtype.itemsize >= 4 and np.count_nonzero(np.diff(values) >= 0) > ASCENDING * len(values):
        return "DELTA_BINARY_PACKED"
    return None if values.dtype == np.int64 and len(values) > 2 * len(np.unique(values)) else "BYTE_STREAM_SPLIT"


def read_table(path: Path | str, kind: str) -> tuple[dict[str, np.ndarray], dict]:
    """Return (columns, header) of a table that `write_table` wrote, every digest checked; InputError otherwise."""
    with damage_refused(path), pq.ParquetFile(path, page_checksum_verification=True) as opened:
        header = unsealed(path, opened.schema_arrow.metadata, kind)
        table = opened.read(use_threads=opened.metadata.num_rows > FEW_ROWS)
        columns = {name: values_of(table[name]) for name in table.column_names}
        if header.pop("relative_times", False):
            columns = absolute(columns)
        columns = restored(columns, dict(header.pop("orders", {})))
    verify(path, columns, header, kind)
    return columns, header


def column_of(values: np.ndarray) -> pa.Array:
    """Return values as a column, numbers without copying them and, as `values_of`, without pandas."""
    if values.dtype == bool:
        return pa.Array.from_buffers(
            pa.bool_(), len(values), [None, pa.py_buffer(np.packbits(values, bitorder="little"))]
        )
    if values.dtype.kind not in "iuf":
        return pa.array(values)
    numbers = pa.py_buffer(np.ascontiguousarray(values))
    return pa.Array.from_buffers(pa.from_numpy_dtype(values.dtype), len(values), [None, numbers])


def values_of(column: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """Return the values of a column, which may not be written to; ArrowInvalid where one is missing.

    pyarrow's own way imports pandas, which nothing here needs: half a second in which Ctrl-C may get lost.
    """
    if isinstance(column, pa.ChunkedArray):
        column = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    if column.null_count:
        raise pa.ArrowInvalid(f"{column.null_count} values are missing")
    if pa.types.is_boolean(column.type):
        return np.from_dlpack(column.cast(pa.uint8())).view(bool)
    if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
        return np.from_dlpack(column)
    return column.to_numpy(zero_copy_only=False)


def verify(path: Path | str, columns: dict[str, np.ndarray], header: dict, kind: str) -> None:
    """Refuse a table whose columns do not have the digests they were written with."""
    found = {name: column_digest(values) for name, values in columns.items()}
    for name in sorted(found.keys() | header["column_digests"].keys()):
        if found.get(name) != header["column_digests"].get(name):
            raise InputError(f"{path}: column {name} does not match its digest: the file was changed")
