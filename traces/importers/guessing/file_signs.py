"""What a file says of itself at a first look: names of arrays, keys, columns. Nothing in it is run."""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from moe_replay.traces.errors import InputError
from moe_replay.traces.file.parquet import DAMAGE, HEADER_KEY
from moe_replay.traces.importers.reading.array_file import DAMAGE as ARRAY_DAMAGE
from moe_replay.traces.importers.reading.array_file import opened_arrays
from moe_replay.traces.importers.reading.torch_file import arrays_in, torch_value
from moe_replay.traces.importers.tables.column_fields import normal
from moe_replay.traces.importers.tables.column_files import OWN_FILE

HEAD = 2**16  # bytes at the start of a text


@dataclass(frozen=True)
class Signs:
    """`form` of the file (npz, pt, parquet, gguf, json, csv, bin, ...), names in it, and dimensions of its arrays."""

    form: str
    names: tuple[str, ...] = ()
    dimensions: dict[str, int] = field(default_factory=dict)

    def has(self, *names: str) -> bool:
        """Return whether all of these names are there."""
        return set(names) <= set(self.names)


def signs_of(path: Path) -> Signs:
    """Return what a file says of itself; InputError for a missing file, and one that says nothing."""
    try:
        with path.open("rb") as held:
            head = held.read(HEAD)
    except OSError:
        raise InputError(f"{path}: no such file") from None
    if not head:
        raise InputError(f"{path}: empty, so nothing tells what it is")
    if head[:2] == b"PK":
        return zipped(path)
    if head[:4] == b"GGUF":
        return Signs("gguf")
    if head[:4] == b"PAR1":
        return parquet_signs(path)
    if head[:6] == b"\x93NUMPY":
        with opened_arrays(path, plain=True) as array:
            return Signs("npy", ("array",), {"array": np.ndim(array)})
    if path.suffix == ".pt":
        return pickled(path)
    return text_signs(path, head)


def zipped(path: Path) -> Signs:
    """Return the signs of an .npz or of a file of torch.save, which both are zip files."""
    try:
        with zipfile.ZipFile(path) as held:
            members = held.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        raise InputError(f"{path}: begins like a zip file, but is not whole") from None
    if any(name.endswith("data.pkl") for name in members):
        return pickled(path)
    with opened_arrays(path) as held:
        shapes = {name: len(shape_of(held, name)) for name in held.files}
    return Signs("npz", tuple(shapes), shapes)


def shape_of(held: np.lib.npyio.NpzFile, name: str) -> tuple[int, ...]:
    """Return the shape of an array from its header alone, where it can be found there."""
    member = name if name in held.zip.namelist() else f"{name}.npy"
    try:
        with held.zip.open(member) as stream:
            version = np.lib.format.read_magic(stream)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            return read(stream)[0]
    except ARRAY_DAMAGE:
        return ()


def pickled(path: Path) -> Signs:
    """Return the keys of a file of torch.save, and those of its first sample or record, as `samples.tokens`."""
    value = torch_value(path)
    content = value if isinstance(value, dict) else {"samples": value} if isinstance(value, list) else {"array": value}
    arrays = {name: each.ndim for name, each in arrays_in(content).items()}
    names = [str(name) for name in content]
    for name, each in content.items():
        inner = each[0] if isinstance(each, list) and each and isinstance(each[0], dict) else each
        if isinstance(inner, dict):
            names += [f"{name}.{key}" for key in inner]
    return Signs("pt", tuple(names), arrays)


def parquet_signs(path: Path) -> Signs:
    """Return the columns of a Parquet file."""
    try:
        schema = pq.read_schema(path)
    except DAMAGE as error:
        raise InputError(f"{path}: not a whole Parquet file ({str(error)[:60]})") from None
    if HEADER_KEY in (schema.metadata or {}):
        raise InputError(f"{path}: {OWN_FILE}")
    return Signs("parquet", tuple(normal(name) for name in schema.names))


def text_signs(path: Path, head: bytes) -> Signs:
    """Return the keys of JSON or JSON Lines, or the columns of CSV; `bin` for what is no text."""
    try:
        text = head.decode("utf-8-sig", "strict" if len(head) < HEAD else "ignore")
    except UnicodeDecodeError:
        return Signs("bin")
    if "\0" in text:
        return Signs("bin")
    first = next((line.strip() for line in text.splitlines() if line.strip() and line[0] != "#"), "")
    if first[:1] in ("{", "["):
        return json_signs(path, text)
    separator = max(",\t;|", key=first.count)
    names = tuple(normal(word.strip('"')) for word in first.split(separator))
    return Signs("csv", names)


def json_signs(path: Path, text: str) -> Signs:
    """Return the keys of the first objects of JSON Lines, or of the object, or of a list's first one."""
    values, lines = [], [line for line in text.splitlines() if line.strip()]
    for line in lines[:20]:
        try:
            values.append(json.loads(line))
        except (ValueError, RecursionError):
            break
    form = "jsonl" if values else "json"
    if not values:
        try:
            values = [json.loads(path.read_text(encoding="utf-8-sig"))]
        except (OSError, ValueError, RecursionError) as error:
            raise InputError(f"{path}: begins like JSON, but is not whole ({str(error)[:60]})") from None
    names = []
    for value in values:
        value = value[0] if isinstance(value, list) and value and isinstance(value[0], dict) else value
        if isinstance(value, dict):
            names += value
            names += [f"{name}.{key}" for name, each in value.items() for key in inner_keys(each)]
    depth = {"array": nesting(values[0])} if isinstance(values[0], list) else {}
    return Signs(form, tuple(dict.fromkeys(map(str, names))), depth)


def inner_keys(value: object) -> list[str]:
    """Return the keys of an object, or of a list's first one."""
    value = value[0] if isinstance(value, list) and value else value
    return list(value) if isinstance(value, dict) else []


def nesting(value: object) -> int:
    """Return how deep lists are nested, by their first entries."""
    found = 0
    while isinstance(value, list) and value:
        value, found = value[0], found + 1
    return found
