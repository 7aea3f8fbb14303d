"""What a MoE layer takes in a serving framework, by tokens, expert-parallel devices and spread of the load.

A kernel computes all experts that a device has together, so there is no time of one expert in it: this is no cost
table for queues, caches or single batches. It says what a layer takes on the slowest device where loads are equal, or
spread by a stated law, at measured numbers of tokens; between two of them it is taken to be straight.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa

from moe_replay.traces.errors import InputError
from moe_replay.traces.file.mixed_table import load_mixed, save_mixed

KIND = "served-times"
LAYER, BALANCED = "layer", "balanced"
# Types of weights, as serving frameworks call them, that have a published rate: by the name they have here.
ROOFLINE_TYPES = {"bfloat16": "bfloat16", "float16": "float16", "fp8": "float8", "fp8_block": "float8"}
COLUMNS = {
    "part": pa.string(),  # layer: experts, choice of experts, sum of results; dispatch, combine: exchange of tokens
    "kernel": pa.string(),
    "devices": pa.int32(),  # that the experts are split over
    "tokens": pa.int32(),  # of a layer: on all devices together; of an exchange: at home on one device
    "spread": pa.string(),  # of selections over experts
    "took_ns": pa.int64(),  # on the device with most selections
}


@dataclass(frozen=True, eq=False)
class ServedTimes:
    """A table of the columns above. Its header tells `device`, `framework`, `model` (experts, k, width, hidden, dtype),
    what was `measured`, and the `source` of the numbers with its `license`.

    InputError for rows without time or tokens, two rows for the same, and devices without balanced rows.
    """

    table: pa.Table
    header: dict

    def __post_init__(self) -> None:
        if self.table.schema.remove_metadata() != pa.schema(COLUMNS.items()):
            raise InputError(f"served times: columns are {', '.join(self.table.column_names)}")
        if self.table.num_rows == 0 or min(self.column("took_ns").min(), self.column("tokens").min()) < 1:
            raise InputError("served times: needs at least one row, tokens >= 1 and took_ns >= 1")
        keys = list(zip(*(self.table[name].to_pylist() for name in COLUMNS if name != "took_ns"), strict=True))
        layers = [(devices, tokens, spread) for part, _, devices, tokens, spread in keys if part == LAYER]
        for found in (keys, layers):
            if len(set(found)) < len(found):
                again = next(each for each in found if found.count(each) > 1)
                raise InputError(f"served times: {' '.join(map(str, again))} was measured twice, allowed once")
        if lacking := {devices for devices, _, _ in layers} - set(self.devices):
            raise InputError(f"served times: nothing balanced on {min(lacking)} devices, allowed: some for each")

    def column(self, name: str) -> np.ndarray:
        """Return a column as an array."""
        return self.table[name].to_numpy(zero_copy_only=False)

    @cached_property
    def devices(self) -> list[int]:
        """The numbers of devices that balanced layers were measured on, ascending."""
        return sorted(set(self.column("devices")[self.rows(LAYER, BALANCED)].tolist()))

    @cached_property
    def spreads(self) -> list[str]:
        """The spreads that layers were measured under, balanced first."""
        found = set(self.column("spread")[self.column("part") == LAYER].tolist())
        return [BALANCED, *sorted(found - {BALANCED})]

    def rows(self, part: str, spread: str) -> np.ndarray:
        """Return which rows are of a part under a spread."""
        return (self.column("part") == part) & (self.column("spread") == spread)

    def curve(self, devices: int, spread: str = BALANCED) -> tuple[np.ndarray, np.ndarray]:
        """Return (tokens ascending, ns) of a layer; InputError where it was not measured."""
        chosen = self.rows(LAYER, spread) & (self.column("devices") == devices)
        if not chosen.any():
            allowed = f"{', '.join(map(str, self.devices))} devices, {', '.join(self.spreads)}"
            raise InputError(f"{self.name}: no {spread} layer on {devices} devices was measured; allowed: {allowed}")
        return sorted_curve(self.column("tokens")[chosen], self.column("took_ns")[chosen])

    def layer_ns(self, devices: int, spread: str, tokens: int) -> float:
        """Return what a layer takes, straight between measured numbers of tokens; InputError beyond them."""
        measured, took_ns = self.curve(devices, spread)
        if not measured[0] <= tokens <= measured[-1]:
            raise InputError(
                f"{self.name}: {tokens:,} tokens on {devices} devices were not measured; allowed: "
                f"{measured[0]}..{measured[-1]:,} (times are never extrapolated)"
            )
        return float(np.interp(tokens, measured, took_ns))

    def exchange_ns(self, devices: int, tokens: float) -> dict[str, float]:
        """Return {kernel: ns} of all parts of an exchange where a device has so many tokens.

        Kernels whose every part was not measured there are left out; so the result is empty without measurements.
        """
        found, parts = {}, set(self.column("part").tolist()) - {LAYER}
        own = (self.column("devices") == devices) & (self.column("part") != LAYER)
        for kernel in sorted(set(self.column("kernel")[own].tolist())):
            times = []
            for part in parts:
                chosen = own & (self.column("kernel") == kernel) & (self.column("part") == part)
                measured, took_ns = sorted_curve(self.column("tokens")[chosen], self.column("took_ns")[chosen])
                if chosen.any() and measured[0] <= tokens <= measured[-1]:
                    times.append(float(np.interp(tokens, measured, took_ns)))
            if len(times) == len(parts):
                found[kernel] = sum(times)
        return found

    @property
    def name(self) -> str:
        """The model's name and the engine."""
        return f"{self.header['model']['name']} ({self.header['framework']}, {self.header['device']})"

    def save(self, path: Path | str) -> None:
        """Write the table as Parquet."""
        save_mixed(path, self.table, self.header, KIND)


def sorted_curve(tokens: np.ndarray, took_ns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return both, ascending in tokens."""
    order = np.argsort(tokens)
    return tokens[order], took_ns[order]


def load_served(path: Path | str) -> ServedTimes:
    """Return the table in a file; InputError if it is not one."""
    table, header = load_mixed(path, KIND)
    try:
        return ServedTimes(table.replace_schema_metadata(None), header)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
