"""Parquet tables whose columns hold text, missing values or lists too: a JSON header, checksums, digests per column."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from moe_replay.traces.command_line.files import replacing
from moe_replay.traces.errors import InputError
from moe_replay.traces.file.parquet import damage_refused, sealed, unsealed, values_of


def save_mixed(path: Path | str, table: pa.Table, header: dict, kind: str) -> None:
    """Write a table and a header; the file appears whole or not at all, and equal tables give equal bytes.

    `kind` says what the table is; `load_mixed` refuses another kind.
    """
    digests = {name: mixed_digest(table[name].combine_chunks()) for name in table.column_names}
    table = table.replace_schema_metadata(sealed({**header, "column_digests": digests}, kind))
    with replacing(path) as temporary:
        pq.write_table(table, temporary, compression="zstd", compression_level=9, write_page_checksum=True)


def load_mixed(path: Path | str, kind: str) -> tuple[pa.Table, dict]:
    """Return (table, header) that `save_mixed` wrote, every digest checked; InputError otherwise."""
    with damage_refused(path), pq.ParquetFile(path, page_checksum_verification=True) as opened:
        header = unsealed(path, opened.schema_arrow.metadata, kind)
        table = opened.read()
        found = {name: mixed_digest(table[name].combine_chunks()) for name in table.column_names}
    for name in sorted(found.keys() | header["column_digests"].keys()):
        if found.get(name) != header["column_digests"].get(name):
            raise InputError(f"{path}: column {name} does not match its digest: the file was changed")
    return table, header


def mixed_header(path: Path | str, kind: str) -> dict:
    """Return the header alone of a table that `save_mixed` wrote; InputError if it is damaged or of another kind."""
    with damage_refused(path), pq.ParquetFile(path) as opened:
        return unsealed(path, opened.schema_arrow.metadata, kind)


def mixed_digest(column: pa.Array) -> str:
    """Return a digest of one column: its type, which of its values are missing, and the others."""
    listed = pa.types.is_list(column.type)
    kind = "list" if listed else str(column.type)  # what a list calls its items changes on the way through a file
    state = hashlib.sha256(f"{kind} {len(column)}".encode())
    state.update(np.packbits(values_of(column.is_null())).tobytes())
    present = column.drop_null()
    if listed:
        state.update(values_of(pc.list_value_length(present)).tobytes())
        state.update(mixed_digest(present.flatten()).encode())
    elif pa.types.is_string(column.type):
        state.update(json.dumps(present.to_pylist()).encode())
    else:
        state.update(values_of(present).tobytes())
    return state.hexdigest()[:32]
