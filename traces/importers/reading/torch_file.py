"""Files of `torch.save`: read with weights only, so that nothing in them runs, and written; torch comes when needed."""

import io
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np

from moe_replay.traces.command_line.number_limits import narrowed
from moe_replay.traces.errors import InputError
from moe_replay.traces.importers.reading.saved_arrays import ARRAY_PARTS, SavedArray

DAMAGE = (
    OSError,
    ValueError,
    EOFError,
    RuntimeError,
    LookupError,
    TypeError,
    AttributeError,
    pickle.UnpicklingError,
    struct.error,
    zipfile.BadZipFile,
)
UNPICKLER = "WeightsUnpickler error: "
LARGEST_RANK = 32767  # ranks are int16 in a trace


def save_torch(content: dict, path: Path) -> None:
    """Write a dictionary of arrays and plain values with torch.save; InputError where torch is not installed."""
    try:
        import torch
    except ImportError:
        raise InputError(f"{path}: a .pt file needs PyTorch, which is not installed") from None
    tensors = {k: torch.from_numpy(v) if isinstance(v, np.ndarray) else v for k, v in content.items()}
    made = io.BytesIO()
    torch.save(tensors, made)  # not to the file: what torch says of a full disk tells nobody what is wrong
    path.write_bytes(made.getbuffer())


def torch_content(path: Path) -> dict:
    """Return the dictionary in a .pt file; InputError for anything else, or where torch is not installed."""
    content = torch_value(path)
    if not isinstance(content, dict):
        raise InputError(f"{path}: holds a {type(content).__name__}, allowed a dictionary")
    return content


def torch_value(path: Path) -> object:
    """Return what a .pt file holds: tensors, NumPy arrays (as `SavedArray`) and plain values; nothing in it runs.

    InputError for anything else, or where torch is not installed.
    """
    try:
        import torch
    except ImportError:
        raise InputError(f"{path}: a .pt file needs PyTorch, which is not installed") from None
    try:
        with torch.serialization.safe_globals(ARRAY_PARTS):
            return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except DAMAGE as error:
        raise InputError(f"{path}: not a whole .pt file of tensors and plain values ({reason(error)})") from None


def array_of(value: object) -> np.ndarray | None:
    """Return a tensor, a saved array or a (nested) list of numbers as an array; None for anything else."""
    if isinstance(value, SavedArray):
        return value.values
    if hasattr(value, "numpy"):
        value = value.float() if str(value.dtype) == "torch.bfloat16" else value
        return value.numpy()
    if not isinstance(value, list | tuple):
        return None
    try:
        found = np.asarray(value)
    except (ValueError, TypeError, OverflowError):
        return None
    return found if found.dtype.kind in "iuf" else None


def arrays_in(value: object) -> dict[str, np.ndarray]:
    """Return the arrays of a dictionary by name; a single array is called `array`."""
    named = value if isinstance(value, dict) else {"array": value}
    found = {str(name): array_of(each) for name, each in named.items()}
    return {name: each for name, each in found.items() if each is not None}


def reason(error: Exception) -> str:
    """Return what an error of torch.load says; its unpickler's own words come after a page of advice."""
    said = " ".join(str(error).split()).rpartition(UNPICKLER)[2]
    return said.partition(" Check the documentation")[0].partition(". ")[0][:120] or type(error).__name__


def whole_numbers(place: str, content: dict, key: str, dimensions: int) -> np.ndarray:
    """Return content[key], a tensor or (nested) list of whole numbers, as int64; InputError for anything else."""
    if not isinstance(content, dict) or key not in content:
        raise InputError(f"{place}: {key} is missing")
    value = content[key].values if isinstance(content[key], SavedArray) else content[key]
    try:
        values = np.asarray(value.numpy() if hasattr(value, "numpy") else value)
    except (ValueError, TypeError, RuntimeError) as error:
        raise InputError(f"{place}: {key} is no array ({str(error)[:60]})") from None
    if isinstance(value, list) and not value:
        values = values.astype(np.int64)  # an empty list says no type
    if values.dtype.kind not in "iu" or values.ndim != dimensions:
        found = f"{values.dtype} of {values.ndim} dimensions"
        raise InputError(f"{place}: {key} is {found}, allowed whole numbers of {dimensions}")
    return narrowed(f"{place}: {key}", values, np.int64)


def pass_and_rank(place: str, record: dict) -> tuple[int, int]:
    """Return a record's forward_pass_id and rank; InputError for a rank that cannot be."""
    number, rank = (int(whole_numbers(place, record, key, 0)) for key in ("forward_pass_id", "rank"))
    if not 0 <= rank <= LARGEST_RANK:
        raise InputError(f"{place}: rank is {rank}, allowed 0..{LARGEST_RANK}")
    return number, rank
