"""The checked form of compiled code is asked for here, and what it says of an access beyond an array's bounds.

In that form (`checking`) every access of every array is held to its bounds, also where it would only overwrite a
neighbour. A record asks for it by a mark among its fields: numba compiles apart what is given a record of another type.
"""

from __future__ import annotations

import os

import numpy as np

VARIABLE = "MOE_REPLAY_CHECKED"  # of the environment: 1 asks for the checked form, 0 or none for the usual one
MARK = "checked"


def asked_for() -> bool:
    """Say whether the checked form is asked for."""
    return os.environ.get(VARIABLE, "0") not in ("", "0")


def form_of(record: np.dtype) -> np.dtype:
    """Return the type of a record in the form that is to run."""
    # In front: numba takes a record with more fields behind those of another for one of the same kind.
    return forms_of(record)[asked_for()]


def forms_of(record: np.dtype) -> tuple[np.dtype, np.dtype]:
    """Return the types of a record in the usual and in the checked form."""
    return record, np.dtype([(MARK, "i8"), *record.descr])


def beyond(name: str, index: int, length: int) -> str:
    """Return what is said of an access that was refused."""
    return f"{name}[{index}] is out of bounds, it has {length} places"
