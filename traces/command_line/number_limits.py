"""Numbers that a user gives: what fits where, and in words what does not."""

from __future__ import annotations

import math

import numpy as np

from moe_replay.traces.errors import InputError

LAST_NS = 2**63 - 1  # a clock of whole ns in 64 bits, 292 years
LARGEST = 2**63 - 1  # of an integer
MOST = 2**31 - 1  # of what is counted: record tables number passes in 32 bits
MOST_EXPERTS = 2**15 - 1  # traces number them in 16 bits
MOST_LAYERS = 2**15 - 2  # record tables too, with what follows the last one
MOST_DEVICES = MOST_SLOTS = 2**15 - 2  # they number devices and slots in 16, one of each more than there are


def whole_ns(name: str, value: float, ns_per_unit: float) -> int:
    """Return a time in whole ns, rounded once; InputError, naming it, where it is not finite or passes 64 bits."""
    checked(name, value)
    if not abs(value) * ns_per_unit < LAST_NS:
        raise InputError(f"{name}: {value:g} is {value * ns_per_unit:g} ns, allowed: less than {LAST_NS:,} ns")
    return round(value * ns_per_unit)


def narrowed(name: str, values: np.ndarray, kind: type) -> np.ndarray:
    """Return whole numbers in a narrower type; InputError, naming one, where it does not hold them: none wraps."""
    limits = np.iinfo(kind)
    values = np.asarray(values)
    if values.size and not (limits.min <= int(values.min()) and int(values.max()) <= limits.max):
        found = int(values.max()) if int(values.max()) > limits.max else int(values.min())
        raise InputError(f"{name}: {found} is not allowed; allowed: {limits.min:,}..{limits.max:,}")
    return values.astype(kind)


def checked(name: str, value: float, infinite: bool = False) -> float:
    """Return a number; InputError, naming it, for nan, for an infinity unless allowed, and beyond 64 bits."""
    if isinstance(value, int):
        if abs(value) > LARGEST:
            raise InputError(f"{name}: {str(value)[:25]} is not allowed; allowed: integers up to {LARGEST:,}")
    elif math.isnan(value) or (math.isinf(value) and not infinite):
        raise InputError(f"{name}: {value} is not allowed here; allowed: finite numbers{' or inf' * infinite}")
    return value
