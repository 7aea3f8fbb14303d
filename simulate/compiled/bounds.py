"""What the checked form of compiled code says of an access beyond an array's bounds; that form is asked for here.

In the checked form (`checking`) every access of every array is held to its bounds, also where it would only overwrite a
neighbour. It is compiled apart and kept apart (`machine_code`), and about half as fast.
"""

from __future__ import annotations

import ctypes
import os

VARIABLE = "MOE_REPLAY_CHECKED"  # of the environment: 1 asks for the checked form, 0 or none for the usual one
CHECKED = "_checked"  # ends the names of its entries
OUT_OF_BOUNDS = 100  # status of a function whose access is out of bounds; those that called it return it, too


class Overrun(ctypes.Structure):
    """An access that was refused; the pointer to an exception of a function with that status points here."""

    _fields_ = (("name", ctypes.c_char_p), ("index", ctypes.c_int64), ("length", ctypes.c_int64))

    def __str__(self) -> str:
        return f"{self.name.decode()}[{self.index}] is out of bounds, it has {self.length} places"


def form_of(name: str) -> str:
    """Return the name of the form of an entry that is to run."""
    return name + CHECKED if os.environ.get(VARIABLE, "0") not in ("", "0") else name


def usual_form_of(name: str) -> str:
    """Return the name of an entry in its usual form, by that of either."""
    return name.removesuffix(CHECKED)
