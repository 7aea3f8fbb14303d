"""NumPy arrays inside files of torch.save, without NumPy's own unpickling: parts of our own stand in for its names.

The weights-only reader of torch takes no NumPy array. Here the five names that a pickled array consists of mean classes
and functions that accept a number type, a shape and bytes, and nothing else: no object array, no code.
"""

import re

import numpy as np

NUMBERS = re.compile(r"[<>|=]?(b1|[iu][1248]|f[248])")


class SavedType:
    """The type of a saved array: NumPy's short name, and the byte order that its state tells."""

    def __init__(self, name: str, *_: object) -> None:
        if not isinstance(name, str) or not NUMBERS.fullmatch(name):
            raise ValueError(f"an array of {name!r:.20}, allowed numbers")
        self.dtype = np.dtype(name)

    def __setstate__(self, state: tuple) -> None:
        """Take the byte order."""
        if state[1] in ("<", ">"):
            self.dtype = self.dtype.newbyteorder(state[1])


class SavedArray:
    """An array of numbers, `values`, as it was saved."""

    def __init__(self, *_: object) -> None:
        self.values = np.empty(0)

    def __setstate__(self, state: tuple) -> None:
        """Take shape, type, order and bytes; ValueError where they do not fit each other."""
        _, shape, kind, fortran, content = state
        if not isinstance(kind, SavedType) or not isinstance(content, bytes):
            raise ValueError("an array of objects, allowed numbers")
        flat = np.frombuffer(content, kind.dtype)
        self.values = flat.reshape(shape, order="F" if fortran else "C")


def saved_array(_kind: object, *_rest: object) -> SavedArray:
    """Return an array that its state fills."""
    return SavedArray()


def saved_number(kind: SavedType, content: bytes) -> float | int:
    """Return a NumPy scalar as a plain number."""
    return np.frombuffer(content, kind.dtype)[0].item()


def encoded(text: str, encoding: str) -> bytes:
    """Return the bytes of a text in Latin 1, as which older pickles keep bytes."""
    if encoding != "latin1":
        raise ValueError(f"text in {encoding!r:.20}, allowed latin1")
    return text.encode(encoding)


# Both names of NumPy's module: the second is that of version 1.
MODULES = ("numpy._core.multiarray", "numpy.core.multiarray")
ARRAY_PARTS = [
    *((saved_array, f"{module}._reconstruct") for module in MODULES),
    *((saved_number, f"{module}.scalar") for module in MODULES),
    (SavedArray, "numpy.ndarray"),
    (SavedType, "numpy.dtype"),
    (encoded, "_codecs.encode"),
]
