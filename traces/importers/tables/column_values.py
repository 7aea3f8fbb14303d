"""Values of columns as arrays: whole numbers, numbers, lists of either, names; what is none is refused with its row."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from moe_replay.traces.errors import InputError
from moe_replay.traces.file.checks import such
from moe_replay.traces.importers.tables.column_files import BAD, TableFile, first_line

BRACKETS = "[](){} \t"
BETWEEN = r"[\s,;|/]+"
PHASES = {
    "prefill": 0, "prompt": 0, "encode": 0, "extend": 0, "pp": 0, "context": 0, "0": 0,
    "decode": 1, "decoding": 1, "generate": 1, "generation": 1, "gen": 1, "tg": 1, "1": 1,
}  # fmt: skip
LARGEST_WHOLE = 2.0**53  # beyond, floating point skips whole numbers


def is_list(values: pa.Array) -> bool:
    """Return whether a column holds lists."""
    kind = values.type
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def is_text(values: pa.Array) -> bool:
    """Return whether a column holds text."""
    return pa.types.is_string(values.type) or pa.types.is_large_string(values.type)


def without_nulls(table: TableFile, name: str) -> pa.Array:
    """Return a column; InputError for the first row in which it holds nothing."""
    values = table.columns[name]
    if count := values.null_count:
        row = int(np.argmax(values.is_null().to_numpy(zero_copy_only=False)))
        raise InputError(f"{table.path}: row {row + 1}: {name} is empty, allowed a value ({such(count)})")
    return values


def whole(table: TableFile, name: str) -> np.ndarray:
    """Return a column of whole numbers, int64; text is read as numbers, and 3.0 is 3."""
    return whole_array(f"{table.path}: column {name}", without_nulls(table, name))


def whole_array(place: str, values: pa.Array) -> np.ndarray:
    """Return values without nulls as int64; InputError, with the row, for what is no whole number."""
    numbers = numeric(place, values)
    if numbers.dtype.kind == "f":
        wrong = ~((np.abs(numbers) <= LARGEST_WHOLE) & (numbers == np.floor(numbers)))
        if wrong.any():
            row = int(wrong.argmax())
            raise InputError(f"{place}: row {row + 1} is {numbers[row]:g}, allowed whole numbers ({such(wrong.sum())})")
    if numbers.dtype == np.uint64 and numbers.size and numbers.max() > np.iinfo(np.int64).max:
        raise InputError(f"{place}: {numbers.max()} is too large, allowed numbers in 64 bits")
    return numbers.astype(np.int64)


def numeric(place: str, values: pa.Array) -> np.ndarray:
    """Return values as an array of integers or of floating point."""
    if is_text(values):
        try:
            values = pc.cast(pc.utf8_trim_whitespace(values), pa.float64())
        except BAD as error:
            raise InputError(f"{place}: text, allowed numbers ({first_line(error)})") from None
    if not (pa.types.is_integer(values.type) or pa.types.is_floating(values.type)):
        raise InputError(f"{place}: holds {values.type}, allowed numbers")
    return values.to_numpy(zero_copy_only=False)


def lists(table: TableFile, name: str) -> tuple[np.ndarray, pa.Array]:
    """Return (length of every row's list, all their entries); text such as `[3, 1]` or `3 1` is a list, too."""
    values = without_nulls(table, name)
    if is_text(values):
        inner = pc.utf8_trim(values, BRACKETS)
        values = pc.split_pattern_regex(pc.utf8_trim(inner, BRACKETS), BETWEEN)
    if not is_list(values):
        raise InputError(f"{table.path}: column {name} holds {values.type}, allowed lists of numbers")
    length_R = pc.list_value_length(values).to_numpy(zero_copy_only=False).astype(np.int64)
    entries = pc.list_flatten(values)
    if entries.null_count:
        raise InputError(f"{table.path}: column {name} has {entries.null_count} nulls in its lists, allowed none")
    return length_R, entries


def depth(values: pa.Array) -> int:
    """Return how deep a column's lists are nested; text is a list of depth 1."""
    if is_text(values):
        return 1
    kind, found = values.type, 0
    while pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        kind, found = kind.value_type, found + 1
    return found


def equal_lists(place: str, values: pa.Array) -> tuple[pa.Array, int]:
    """Return (entries, length) of lists that are all equally long; InputError with the first that is not."""
    length_R = pc.list_value_length(values).to_numpy(zero_copy_only=False)
    if not len(length_R):
        raise InputError(f"{place}: holds no lists, allowed at least one")
    if (length_R != length_R[0]).any():
        row = int((length_R != length_R[0]).argmax())
        found = f"list {row + 1} has {length_R[row]} entries"
        raise InputError(f"{place}: {found}, allowed {length_R[0]} as in the first")
    return pc.list_flatten(values), int(length_R[0])


def codes(values: pa.Array) -> tuple[np.ndarray, list]:
    """Return (number of every row's value, -1 for none, the values in the order in which they first appear)."""
    encoded = pc.dictionary_encode(values)
    return encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64), encoded.dictionary.to_pylist()


def layer_numbers_of(table: TableFile, name: str) -> np.ndarray:
    """Return the layer of every row: a number, or the only number in a name such as `model.layers.3.mlp.gate`."""
    values = without_nulls(table, name)
    if not is_text(values):
        return whole(table, name)
    code_R, texts = codes(values)
    numbers = np.empty(len(texts), np.int64)
    for at, text in enumerate(texts):
        digits = "".join(each if each.isascii() and each.isdigit() else " " for each in text).split()
        if len(digits) != 1 or len(digits[0]) > 9:
            raise InputError(f"{table.path}: column {name} has {text!r:.40}, allowed a name with one number: the layer")
        numbers[at] = int(digits[0])
    if len(np.unique(numbers)) < len(texts):
        raise InputError(f"{table.path}: column {name} calls one layer by two names, allowed: one")
    return numbers[code_R]


def phases(table: TableFile, name: str) -> np.ndarray:
    """Return the phase of every row: 0 prefill, 1 decode."""
    values = pc.cast(without_nulls(table, name), pa.string())
    code_R, texts = codes(values)
    known = [PHASES.get(str(text).strip().lower()) for text in texts]
    if None in known:
        found = texts[known.index(None)]
        raise InputError(f"{table.path}: column {name} has {found!r:.40}, allowed {', '.join(PHASES)}")
    return np.array(known, np.int8)[code_R]
