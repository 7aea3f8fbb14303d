"""Profiles: measured configurations of slots per layer and update period, as `collect swap-profile` writes them."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from moe_replay.traces.errors import InputError

COLUMNS = ("slots", "period", "loss", "loss_error", "latency_ms", "memory_bytes", "experts", "k")
MEASURED = ("slots_NL", "period_N", "loss_N", "latency_ms_N", "memory_bytes_N")
NO_PERIOD = 0  # residents stay
LOWEST = {
    "period": 0, "loss": -math.inf, "loss_error": 0, "latency_ms": 0, "memory_bytes": 0, "experts": 1, "k": 1,
}  # fmt: skip
WHOLE = ("period", "experts", "k")


@dataclass(frozen=True)
class Profile:
    """N measured configurations: `slots_NL`, `period_N` (passes; 0: residents stay), and what they gave.

    `loss_N` is how much worse quality is than with all experts, `latency_ms_N` the mean of a pass, `memory_bytes_N`
    what lies on the device.
    """

    slots_NL: np.ndarray
    period_N: np.ndarray
    loss_N: np.ndarray
    latency_ms_N: np.ndarray
    memory_bytes_N: np.ndarray
    experts: int
    k: int

    @property
    def layers(self) -> int:
        """The number L of layers."""
        return self.slots_NL.shape[1]

    def only(self, chosen_N: np.ndarray) -> Profile:
        """Return some of the configurations."""
        return Profile(*(getattr(self, name)[chosen_N] for name in MEASURED), self.experts, self.k)

    @property
    def periods(self) -> list[int]:
        """The update periods that were measured, ascending; 0 where residents stay."""
        return sorted(set(self.period_N.tolist()))


def read_profiles(paths: Sequence[Path | str]) -> Profile:
    """Return the configurations of several CSV files as one profile; InputError where they are of different models."""
    parts = [read_profile(path) for path in paths]
    first = parts[0]
    for path, part in zip(paths, parts, strict=True):
        if (part.layers, part.experts, part.k) != (first.layers, first.experts, first.k):
            raise InputError(
                f"{path}: {part.layers} layers of {part.experts} experts, k {part.k}; allowed {first.layers} of "
                f"{first.experts}, k {first.k}, as in {paths[0]}"
            )
    return Profile(
        *(np.concatenate([getattr(part, name) for part in parts]) for name in MEASURED), first.experts, first.k
    )


def read_profile(path: Path | str) -> Profile:
    """Return the configurations in a CSV file; InputError names the file, the row and what is wrong."""
    rows = rows_of(path)
    slots = [numbers_of(path, number, row["slots"]) for number, row in enumerate(rows)]
    if len({len(each) for each in slots}) > 1:
        raise InputError(f"{path}: slots of {sorted({len(each) for each in slots})} layers, allowed one model's")
    values = {name: [number_of(path, i, name, row[name]) for i, row in enumerate(rows)] for name in COLUMNS[1:]}
    experts, k = (int(one_model(path, name, values[name])) for name in ("experts", "k"))
    if k > experts:
        raise InputError(f"{path}: k is {k}, allowed 1..{experts}, the experts of a layer")
    for row, each in enumerate(slots):
        if max(each) > experts:
            raise InputError(f"{path}: row {row}: slots is {max(each)}, allowed 1..{experts}, the experts of a layer")
    return Profile(
        np.array(slots), np.array(values["period"], np.int64), np.array(values["loss"]), np.array(values["latency_ms"]),
        np.array(values["memory_bytes"]), experts, k,
    )  # fmt: skip


def rows_of(path: Path | str) -> list[dict[str, str]]:
    """Return the rows of a CSV file with all columns of a profile; InputError where it is none, or cut short."""
    try:
        with open(path, newline="") as opened:
            rows = list(csv.DictReader(opened))
    except OSError:
        raise InputError(f"{path}: no such file") from None
    except (ValueError, csv.Error):
        raise InputError(f"{path}: not a CSV table; allowed: what `collect swap-profile` wrote") from None
    if not rows or (absent := [name for name in COLUMNS if name not in rows[0]]):
        raise InputError(f"{path}: {'holds no rows' if not rows else f'column {absent[0]} is missing'}")
    for number, row in enumerate(rows):
        if None in row or None in row.values():
            raise InputError(f"{path}: row {number}: has fewer or more values than the {len(rows[0])} columns")
    return rows


def one_model(path: Path | str, name: str, values: list[float]) -> float:
    """Return the value that all rows share; InputError where one differs."""
    for row, value in enumerate(values):
        if value != values[0]:
            raise InputError(f"{path}: row {row}: {name} is {value:g}, allowed {values[0]:g}, as in row 0")
    return values[0]


def numbers_of(path: Path | str, row: int, text: str) -> list[int]:
    """Return slots per layer from `4.8.16`; InputError where that is something else."""
    if not all(part.isdecimal() and int(part) > 0 for part in text.split(".")):
        raise InputError(f"{path}: row {row}: slots is {text!r}, allowed numbers >= 1 with points between: 4.8.16")
    return [int(part) for part in text.split(".")]


def number_of(path: Path | str, row: int, name: str, text: str) -> float:
    """Return a number of a column; InputError where it is none, too small, or not whole where it counts something."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    whole, low = name in WHOLE, LOWEST[name]
    if not math.isfinite(value) or value < low or (whole and value != int(value)):
        kind = "a whole number" if whole else "a number"
        limit = "" if low == -math.inf else f" >= {low}"
        raise InputError(f"{path}: row {row}: {name} is {text!r}, allowed {kind}{limit}")
    return value


def text_of(slots_L: list[int] | np.ndarray) -> str:
    """Return slots per layer as profiles and plans write them."""
    return ".".join(str(int(each)) for each in slots_L)
