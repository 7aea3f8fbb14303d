"""Files of plain NumPy arrays, .npz and .npy: opened without pickle, damage named in one line."""

import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from moe_replay.traces.errors import InputError

# What NumPy and zipfile were seen to raise on damaged files. No bare Exception: our own slips must show.
DAMAGE = (
    OSError, ValueError, TypeError, EOFError, LookupError, RuntimeError, MemoryError, OverflowError, SyntaxError,
    struct.error, tokenize.TokenError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


@contextmanager
def opened_arrays(path: Path, plain: bool = False) -> Iterator[np.lib.npyio.NpzFile | np.ndarray]:
    """Open an .npz of plain arrays, or, if `plain`, an .npy; InputError for anything else.

    Also for what shows only as an array is read.
    """
    try:
        opened = np.load(path, allow_pickle=False)
        if isinstance(opened, np.ndarray):
            if plain:
                yield opened
                return
            raise InputError(f"{path}: one plain array, allowed an .npz file with named arrays")
        with opened as held:
            yield held
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except InputError:
        raise
    except DAMAGE as error:
        raise InputError(f"{path}: not a whole .npz file of plain arrays ({str(error)[:80]})") from None
