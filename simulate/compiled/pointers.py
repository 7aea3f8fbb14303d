"""Records that point at arrays: what compiled functions hand on instead of dozens of arrays, each with its counter.

A record (`Pointed.record`) keeps the address and the shape of every array beside its own fields. Inside compiled code
the functions of its layout turn them back into an array or one of its records (`arrays`); outside, `Pointed` keeps
the arrays alive and checks their types. Passing them one by one, or in a tuple, made functions slow to compile, and
slow: every call counted references.
"""

from __future__ import annotations

import numpy as np

from moe_replay.simulate.compiled.bounds import form_of

Arrays = dict[str, tuple[np.dtype, int]]  # {name: (element type, dimensions)}


def pointers_field(arrays: Arrays) -> tuple[str, str, tuple[int]]:
    """Return the field in which a record keeps the address, then the shape, of every array."""
    return "pointers", "i8", (sum(1 + dimensions for _, dimensions in arrays.values()),)


def place_of(arrays: Arrays, name: str) -> int:
    """Return where in that field the address of an array is."""
    before = list(arrays)[: list(arrays).index(name)]
    return sum(1 + arrays[other][1] for other in before)


class Pointed:
    """A record and the arrays it points at; both live as long as this does."""

    def __init__(self, dtype: np.dtype, arrays: Arrays, **fields: float) -> None:
        self.record = np.zeros(1, form_of(dtype))
        self.arrays, self.held = arrays, {}
        for name, value in fields.items():
            self.record[name] = value

    def put(self, **arrays: np.ndarray) -> None:
        """Let the record point at these arrays; TypeError for another type, shape or layout than was declared."""
        for name, array in arrays.items():
            dtype, dimensions = self.arrays[name]
            flags = array.flags
            if array.dtype != dtype or array.ndim != dimensions or not (flags.c_contiguous and flags.writeable):
                raise TypeError(f"{name} is {array.dtype} in {array.ndim} dimensions, declared {dtype} in {dimensions}")
            self.held[name] = array
            place = place_of(self.arrays, name)
            self.record["pointers"][0, place : place + 1 + dimensions] = array.ctypes.data, *array.shape

    def __getitem__(self, name: str) -> np.ndarray:
        return self.held[name]

    def __getattr__(self, name: str) -> float:
        return self.record[name][0]
