"""Columns as a file may hold them where that takes less room: under other names, and exactly reversible.

A device starts a batch when the one before has ended, and a queue is ready when some batch has ended. So a batch's
start is stored as the time since the row before ended, its end as how long it took, and the time at which it was
asked for as how many ends lie between that moment and its own row: half of the room. A column that goes with another
(a pass's step with its sequence) is stored in the order of the other's values, where it hardly changes.
"""

import numpy as np

STORED = {"start_ns": "idle_ns", "end_ns": "lasting_ns", "ready_ns": "ready_after", "asked_ns": "asked_after"}


def relative(columns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the columns with their times told by the rows before, under the names in `STORED`.

    They need `start_ns`, `end_ns` and `ready_ns` or `asked_ns`, int64; ValueError if one is asked for after its start.
    """
    asked = "ready_ns" if "ready_ns" in columns else "asked_ns"
    start_ns, end_ns = columns["start_ns"], columns["end_ns"]
    previous_ns = np.concatenate([np.zeros(1, np.int64), end_ns])[: len(end_ns)]
    stored = {
        "start_ns": start_ns - previous_ns, "end_ns": end_ns - start_ns,
        asked: ends_between(columns[asked], np.sort(end_ns), start_ns),
    }  # fmt: skip
    return {STORED[name] if name in stored else name: stored.get(name, values) for name, values in columns.items()}


def absolute(columns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the columns that `relative` was given; LookupError where a column or a row that one names is missing."""
    names = {stored: name for name, stored in STORED.items()}
    found = {names.get(name, name): values for name, values in columns.items()}
    end_ns = np.cumsum(found["start_ns"] + found["end_ns"])
    start_ns = end_ns - found["end_ns"]
    asked = "ready_ns" if "ready_ns" in found else "asked_ns"
    after, rows = found[asked], np.arange(len(end_ns))
    asked_ns = start_ns + after
    equal = np.flatnonzero(after > 0)
    asked_ns[equal] = np.sort(end_ns)[rows[equal] - after[equal]]
    return found | {"start_ns": start_ns, "end_ns": end_ns, asked: asked_ns}


def ends_between(asked_ns: np.ndarray, ends_ns: np.ndarray, start_ns: np.ndarray) -> np.ndarray:
    """Return how many places before its own row the end that equals a time is, among all ends in order, int64.

    Where there is none, minus the time until the row's start: never positive, so both stay apart.
    """
    if (asked_ns > start_ns).any():
        raise ValueError("times run backwards")
    rows = np.arange(len(ends_ns))
    place = np.searchsorted(ends_ns, asked_ns)
    equal = place < rows
    equal[equal] = ends_ns[place[equal]] == asked_ns[equal]
    return np.where(equal, rows - place, asked_ns - start_ns)


def reordered(columns: dict[str, np.ndarray], orders: dict[str, str]) -> dict[str, np.ndarray]:
    """Return the columns, each that `orders` names in the order of the other's values and called after it.

    Rows of equal values keep their order.
    """
    return {
        name_by(name, orders.get(name)): values[order_of(columns[orders[name]])] if name in orders else values
        for name, values in columns.items()
    }


def restored(columns: dict[str, np.ndarray], orders: dict[str, str]) -> dict[str, np.ndarray]:
    """Return the columns that `reordered` was given; LookupError where one is missing."""
    names, found = {name_by(name, other): name for name, other in orders.items()}, {}
    for stored, values in columns.items():
        name = names.get(stored, stored)
        found[name] = values
        if name in orders:
            found[name] = np.empty_like(values)
            found[name][order_of(columns[orders[name]])] = values
    return found


def name_by(name: str, other: str | None) -> str:
    """Return what a column is called that is stored in the order of another: `step by sequence`."""
    return f"{name} by {other}" if other else name


def order_of(values: np.ndarray) -> np.ndarray:
    """Return the rows in the order of their values; equal ones keep their order."""
    if len(values) and values.min() >= 0 and values.max() < 1 << 16:
        values = values.astype(np.uint16)  # sorted by their digits, ten times faster
    return np.argsort(values, kind="stable")
