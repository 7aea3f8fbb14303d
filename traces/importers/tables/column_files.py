"""Files of named columns, read whole into memory as columns: no row is ever a Python object.

CSV (commas, tabs, semicolons or bars; a byte order mark, comments at the top and repeated headers are no data), JSON
Lines, JSON (a list of objects, or an object of columns), Parquet, and the arrays of an .npz or a .pt of equal length.
"""

import codecs
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.json as pa_json
import pyarrow.parquet as pq

from moe_replay.traces.errors import InputError
from moe_replay.traces.file.parquet import DAMAGE, HEADER_KEY
from moe_replay.traces.importers.reading.array_file import opened_arrays
from moe_replay.traces.importers.reading.torch_file import arrays_in, torch_value

OWN_FILE = "already a file of moe-replay, which every command reads as it is"
SEPARATORS = ",\t;|"
BAD = (*DAMAGE, pa.ArrowException, ValueError, TypeError, OverflowError, RecursionError)
SUFFIXES = (".csv", ".tsv", ".txt", ".json", ".jsonl", ".ndjson", ".parquet", ".npz", ".pt")


@dataclass(frozen=True)
class TableFile:
    """A file's columns, in lower case, and at which rows a header was repeated: there another file was appended."""

    path: Path
    columns: dict[str, pa.Array]
    appended: tuple[int, ...] = ()

    @property
    def rows(self) -> int:
        """How many rows it has."""
        return len(next(iter(self.columns.values())))


def read_table(path: Path) -> TableFile:
    """Return a file's columns; InputError for a file that is missing, empty, damaged, or no table."""
    if path.suffix not in SUFFIXES:
        raise InputError(f"{path}: a file of unknown kind, allowed {', '.join(SUFFIXES)}")
    appended = ()
    if path.suffix in (".npz", ".pt"):
        table = array_columns(path)
    elif path.suffix == ".parquet":
        table = opened_parquet(path)
    elif path.suffix in (".json", ".jsonl", ".ndjson"):
        table = json_columns(path, content_of(path), lines=path.suffix != ".json")
    else:
        table, appended = csv_columns(path, content_of(path))
    names = [name.strip().lower() for name in table.column_names]
    if len(twice := {name for name in names if names.count(name) > 1}):
        raise InputError(f"{path}: two columns are called {min(twice)!r}, allowed: each once")
    if not names or not table.num_rows:
        raise InputError(f"{path}: no rows, allowed at least one")
    columns = {name: plain(table.column(at)) for at, name in enumerate(names)}
    return TableFile(path, columns, appended)


def plain(column: pa.ChunkedArray) -> pa.Array:
    """Return a column in one piece, its values spelled out."""
    one = column.combine_chunks()
    one = one.combine_chunks() if isinstance(one, pa.ChunkedArray) else one
    return one.dictionary_decode() if pa.types.is_dictionary(one.type) else one


def content_of(path: Path) -> bytes:
    """Return the bytes of a text file without its byte order mark; InputError where it is empty or no UTF-8."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(
            f"{path}: {'no such file' if isinstance(error, FileNotFoundError) else error.strerror}"
        ) from None
    try:
        content.decode()
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not text in UTF-8 (byte {error.start}), allowed UTF-8") from None
    if b"\0" in content:
        raise InputError(f"{path}: not text, allowed a table in UTF-8")
    content = content.removeprefix(codecs.BOM_UTF8)
    if not content.strip():
        raise InputError(f"{path}: empty, allowed a table with at least one row")
    return content


def opened_parquet(path: Path) -> pa.Table:
    """Return a Parquet file's table."""
    try:
        table = pq.read_table(path)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except BAD as error:
        raise InputError(f"{path}: not a whole Parquet file ({first_line(error)})") from None
    if HEADER_KEY in (table.schema.metadata or {}):  # its layers are places, not the model's numbers
        raise InputError(f"{path}: {OWN_FILE}")
    return table


def array_columns(path: Path) -> pa.Table:
    """Return the arrays of an .npz or a .pt with as many entries as the longest one; the others are no columns."""
    if path.suffix == ".npz":
        with opened_arrays(path) as held:
            arrays = {name: held[name] for name in held.files}
    else:
        arrays = arrays_in(torch_value(path))
    sizes = [len(each) for each in arrays.values() if each.ndim]
    rows = max(sizes, default=0)
    columns = {name: listed(each) for name, each in arrays.items() if each.ndim and len(each) == rows}
    try:
        return pa.table(columns)
    except BAD as error:
        raise InputError(f"{path}: arrays are no columns ({first_line(error)})") from None


def listed(values: np.ndarray) -> object:
    """Return an array as a column: every axis but the first becomes lists."""
    flat = pa.array(values.reshape(-1))
    for size in values.shape[:0:-1]:
        flat = pa.FixedSizeListArray.from_arrays(flat, size)
    return flat


def csv_columns(path: Path, content: bytes) -> tuple[pa.Table, tuple[int, ...]]:
    """Return (columns, rows before each header that is repeated); columns without names are called 0, 1, ..."""
    while content.startswith(b"#"):
        content = content.partition(b"\n")[2].lstrip(b"\r\n")
    header = content.partition(b"\n")[0].rstrip(b"\r")
    words = header.decode("utf-8", "replace")
    separator = max(SEPARATORS, key=words.count)
    separator = separator if separator in words else " "
    listed_words = [word.strip().strip('"') for word in words.split(separator)]
    # Columns called 0, 1, 2, ... are a header, too; of two counts or ids nobody can tell, and more are none in order.
    counted = len(listed_words) > 2 and listed_words == [str(at) for at in range(len(listed_words))]
    named = counted or not all(is_number(word) for word in listed_words)
    appended, parts = (), content.split(b"\n" + header) if named else [content]
    if len(parts) > 1 and all(part[:1] in (b"", b"\r", b"\n") for part in parts[1:]):
        appended = tuple(np.cumsum([part.count(b"\n") for part in parts])[:-1].tolist())
        content = b"".join(parts)
    names = None if named else [str(at) for at in range(len(listed_words))]
    options = pa_csv.ReadOptions(column_names=names)
    parsing = pa_csv.ParseOptions(delimiter=separator, newlines_in_values=b'"' in content)
    converting = pa_csv.ConvertOptions(strings_can_be_null=True)
    try:
        return pa_csv.read_csv(pa.BufferReader(content), options, parsing, converting), appended
    except BAD as error:
        raise InputError(f"{path}: not a whole CSV file ({first_line(error)})") from None


def is_number(word: str) -> bool:
    """Return whether a word is a number."""
    try:
        float(word)
    except ValueError:
        return False
    return True


def json_columns(path: Path, content: bytes, lines: bool) -> pa.Table:
    """Return the columns of JSON Lines, or of a list of objects or an object of lists."""
    if lines:
        try:
            return pa_json.read_json(pa.BufferReader(content), pa_json.ReadOptions(block_size=max(len(content), 1) + 1))
        except BAD:  # one field of two types, NaN, ...: line by line, which also names the line that is at fault
            return table_of(path, objects(path, content.splitlines()))
    value = loaded(str(path), content)
    if isinstance(value, dict):
        inner = [each for each in value.values() if isinstance(each, list) and each and isinstance(each[0], dict)]
        if len(inner) == 1:
            value = inner[0]
    if isinstance(value, list) and all(isinstance(each, dict) for each in value):
        return table_of(path, value)
    if isinstance(value, dict) and value and all(isinstance(each, list) for each in value.values()):
        return table_of(path, value)
    found = f"a {type(value).__name__}"
    raise InputError(f"{path}: holds {found}, allowed a list of objects, or an object of lists: columns")


def objects(path: Path, lines: list[bytes]) -> list[dict]:
    """Return the object of every line that is not empty."""
    values = [(at, loaded(f"{path}: line {at}", line)) for at, line in enumerate(lines, 1) if line.strip()]
    for at, value in values:
        if not isinstance(value, dict):
            raise InputError(f"{path}: line {at}: is a {type(value).__name__}, allowed an object")
    return [value for _, value in values]


def loaded(place: str, content: bytes) -> object:
    """Return a JSON value; InputError, naming the place, for anything else."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{place}: not whole JSON ({str(error)[:60]})") from None


def table_of(path: Path, value: list[dict] | dict[str, list]) -> pa.Table:
    """Return the table of objects or of columns; a column of which the values are of several types is left out."""
    if isinstance(value, list):
        names = dict.fromkeys(name for each in value for name in each)
        value = {name: [each.get(name) for each in value] for name in names}
    columns = {}
    for name, column in value.items():
        try:
            columns[name] = pa.array(column)
        except BAD:  # found missing only where it is asked for
            continue
    try:
        return pa.table(columns)
    except BAD as error:
        raise InputError(f"{path}: no columns of equal length ({first_line(error)})") from None


def first_line(error: Exception) -> str:
    """Return the beginning of what another library says, in one line."""
    return " ".join(str(error).split())[:80]
