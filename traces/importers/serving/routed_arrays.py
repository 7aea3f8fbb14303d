"""The value of `routed_experts` in any of its forms, as an array [rows, layers, k].

Nested lists; a flat list; text in base64 of .npy bytes or of raw bytes; an object with `data` in one of these forms
beside `shape`, `dtype` and `start`. What the value does not say of itself may be said beside it
(`routed_experts_dtype`, `..._shape`, `..._start_len`), else by options; where both speak they agree.
"""

import base64
import binascii
import io
from dataclasses import dataclass

import numpy as np

from moe_replay.traces.errors import InputError
from moe_replay.traces.importers.reading.array_file import DAMAGE
from moe_replay.traces.importers.reading.import_source import Options
from moe_replay.traces.selections import LARGEST_ROWS

MAGIC = b"\x93NUMPY"
DATA, SHAPE, DTYPE = "data", "shape", "dtype"
STARTS = ("start", "start_len", "prompt_start")
OBJECT_KEYS = (DATA, SHAPE, DTYPE, *STARTS)
KEY = "routed_experts"


@dataclass(frozen=True)
class Routed:
    """Rows [rows, layers, k] of one sequence, and the token of the first (None: not said).

    `raw_bytes` is how many raw bytes they were read from by the type that the engine usually writes, since nothing said
    which it was; 0 otherwise.
    """

    experts_TLK: np.ndarray
    start: int | None = None
    raw_bytes: int = 0


def routed_array(place: str, holder: dict, options: Options, usual: str | None, key: str = KEY) -> Routed:
    """Return the rows in holder[key], which is not null; `usual` is the type of raw bytes if nothing says it.

    InputError for a value in none of the forms, and for one that contradicts what is said of it.
    """
    value, said = holder[key], {}
    if isinstance(value, dict):
        unknown = [name for name in value if name not in OBJECT_KEYS]
        if unknown or DATA not in value:
            found = f"key {unknown[0]!r:.40}" if unknown else "no data"
            raise InputError(f"{place}: {key} has {found}, allowed an object of {', '.join(OBJECT_KEYS)}")
        said, value = dict(value), value[DATA]
    for name in (SHAPE, DTYPE, *STARTS):
        beside = holder.get(f"{key}_{name}")
        if beside is not None and said.get(name, beside) != beside:
            raise InputError(f"{place}: {key}: {name} is {said[name]!r:.40}, but {key}_{name} {beside!r:.40}")
        said[name] = said.get(name, beside)
    dtype = stated_type(place, key, said[DTYPE], options)
    values, raw = flat_values(place, key, value, dtype, usual)
    experts_TLK = shaped(place, key, values, said[SHAPE], options, raw)
    return Routed(experts_TLK, stated_start(place, key, said), raw if dtype is None else 0)


def stated_type(place: str, key: str, said: object, options: Options) -> np.dtype | None:
    """Return the type that is said of the values, by the file or by --dtype; None where nothing is."""
    names = ((f"{key}_dtype", said), ("--dtype", options.dtype))
    types = [None if each is None else whole_type(place, name, each) for name, each in names]
    if None not in types and types[0] != types[1]:
        raise InputError(f"{place}: {key}_dtype is {said!r:.40}, but --dtype {options.dtype}; allowed: the same")
    return types[0] if types[0] is not None else types[1]


def whole_type(place: str, said_by: str, name: object) -> np.dtype:
    """Return the type of a name such as uint8, int32, torch.int16 or <i4; InputError unless it is of whole numbers."""
    try:
        found = np.dtype(name.removeprefix("torch.")) if isinstance(name, str) else None
    except (TypeError, ValueError, SyntaxError):
        found = None
    if found is None or found.kind not in "iu":
        raise InputError(f"{place}: {said_by} is {name!r:.40}, allowed a type of whole numbers: uint8, int16, int32")
    return found


def stated_start(place: str, key: str, said: dict) -> int | None:
    """Return the token of the first row, where it is said."""
    starts = {said[name] for name in STARTS if said[name] is not None and not isinstance(said[name], (dict, list))}
    if any(isinstance(said[name], (dict, list)) for name in STARTS) or len(starts) > 1:
        raise InputError(f"{place}: {key}: start is said as {sorted(map(str, starts))!s:.40}, allowed one number")
    for start in starts:
        if type(start) is not int or not 0 <= start <= LARGEST_ROWS:
            raise InputError(f"{place}: {key}: start is {start!r:.40}, allowed 0..{LARGEST_ROWS}")
        return start
    return None


def flat_values(
    place: str, key: str, value: object, dtype: np.dtype | None, usual: str | None
) -> tuple[np.ndarray, int]:
    """Return the numbers in a list or a text, and how many raw bytes they were, 0 if none."""
    if isinstance(value, list):
        return listed(place, key, value), 0
    content = decoded(place, key, value)
    if content.startswith(MAGIC):
        values = npy_array(place, key, content)
        if dtype is not None and values.dtype != dtype:
            raise InputError(f"{place}: {key} is {values.dtype}, but {dtype} is said of it; allowed: the same")
        return values, 0
    kind = dtype if dtype is not None else np.dtype(usual) if usual else None
    if kind is None:
        found = f"{key} is no whole .npy array, and nothing says the type of raw bytes"
        raise InputError(f"{place}: {found}; allowed: {key}_dtype beside it, or --dtype")
    if not content or len(content) % kind.itemsize:
        raise InputError(f"{place}: {key} has {len(content)} bytes, allowed a multiple of {kind.itemsize}, of {kind}")
    return np.frombuffer(content, kind), len(content)


def listed(place: str, key: str, value: list) -> np.ndarray:
    """Return the whole numbers in nested lists; InputError for other lists."""
    try:
        values = np.asarray(value)
    except (ValueError, OverflowError, RecursionError):
        raise InputError(f"{place}: {key} has lists of different lengths, allowed [rows, layers, k]") from None
    if values.dtype.kind not in "iu":
        found = "other than whole numbers" if values.size else "no numbers"
        raise InputError(f"{place}: {key} has {found} in its lists, allowed [rows, layers, k] of experts")
    return values


def decoded(place: str, key: str, text: object) -> bytes:
    """Return the bytes of a base64 text; InputError for anything else."""
    if not isinstance(text, str):
        raise InputError(f"{place}: {key} is {text!r:.40}, allowed text in base64, nested lists or an object with data")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InputError(f"{place}: {key} is not base64 ({error})") from None


def npy_array(place: str, key: str, content: bytes) -> np.ndarray:
    """Return the array in .npy bytes; InputError for damaged ones, or another type than whole numbers."""
    try:
        values = np.load(io.BytesIO(content), allow_pickle=False)
    except DAMAGE as error:
        raise InputError(f"{place}: {key} is no whole .npy array ({str(error)[:60]})") from None
    if values.dtype.kind not in "iu":
        raise InputError(f"{place}: {key} is {values.dtype}, allowed whole numbers")
    return values


def shaped(place: str, key: str, values: np.ndarray, shape: object, options: Options, raw: int) -> np.ndarray:
    """Return values as [rows, layers, k]: by the shape that is said, else their own, else by options."""
    layers, k = options.hidden_layers, options.k
    slots = None if k is None else k + (options.shared_slots or 0)
    if shape is not None:
        whole = isinstance(shape, list) and all(type(each) is int and 0 <= each <= LARGEST_ROWS for each in shape)
        if (
            not whole
            or int(np.prod(shape, dtype=object)) != values.size
            or (values.ndim > 1 and [*values.shape] != shape)
        ):
            raise InputError(f"{place}: {key}: shape is {shape!r:.40}, but it holds {values.size} numbers")
        values = values.reshape(shape)
    if values.ndim == 1 and None not in (layers, slots):
        if not values.size or values.size % (layers * slots):
            size, of = (raw, f" x {values.itemsize} bytes") if raw else (values.size, "")
            each = layers * slots * (values.itemsize if raw else 1)
            found = f"{key} has {size} {'bytes' if raw else 'numbers'}, allowed a multiple of {each}"
            raise InputError(f"{place}: {found}: {layers} hidden layers x {slots} experts{of}")
        values = values.reshape(-1, layers, slots)
    if values.ndim == 1:
        needed = "--hidden-layers and --k"
        raise InputError(f"{place}: {key} has {values.size} numbers in a row, without a shape; needed: {needed}")
    for axis, stated, name in ((1, layers, "--hidden-layers"), (2, slots, "--k")):
        if values.ndim == 3 and stated is not None and values.shape[axis] != stated:
            found = f"{key} has shape {values.shape}"
            raise InputError(f"{place}: {found}, but {name} says {stated}; allowed: the same, or no {name}")
    return values
