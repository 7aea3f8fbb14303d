"""Executed exchanges between devices: when every message began and was there, and in the header the fitted links."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from moe_replay.traces.errors import InputError
from moe_replay.traces.file.mixed_table import load_mixed

KIND, PREDICTED = "ports", "predicted-ports"  # of the tables of executed messages and of predicted ones
CALIBRATION, CHECK = "calibration", "check"
KEYS = {"way": pa.string(), "devices": pa.int16(), "purpose": pa.string(), "pattern": pa.string()}
ENDS = {"source": pa.int16(), "destination": pa.int16(), "bytes": pa.int64()}
TIMES = {"start_ns": pa.int64(), "end_ns": pa.int64()}  # since the exchange began
EXECUTED_COLUMNS = KEYS | {"repetition": pa.int16()} | ENDS | TIMES
PREDICTED_COLUMNS = KEYS | ENDS | TIMES


@dataclass(frozen=True, eq=False)
class Exchange:
    """One exchange among `bytes_DD`.shape[0] devices: bytes from each device (row) to each other one (column).

    `way` says how it was executed, `purpose` whether a link was fitted to it or it is what the fit is checked on.
    """

    way: str
    purpose: str
    pattern: str
    bytes_DD: np.ndarray

    @property
    def keys(self) -> tuple[str, int, str, str]:
        """The values of `KEYS`."""
        return self.way, len(self.bytes_DD), self.purpose, self.pattern


def port_table(rows: list[tuple], columns: dict[str, pa.DataType]) -> pa.Table:
    """Return a table of messages from rows in the order of its columns."""
    values = list(zip(*rows, strict=True)) or [()] * len(columns)
    arrays = [pa.array(each, kind) for each, kind in zip(values, columns.values(), strict=True)]
    return pa.table(arrays, names=list(columns))


def load_port_log(path: Path | str) -> tuple[pa.Table, dict]:
    """Return (messages, header) that `collect ports` wrote; InputError for anything else."""
    table, header = load_mixed(path, KIND)
    lacking = [name for name in EXECUTED_COLUMNS if name not in table.column_names]
    if lacking or "links" not in header:
        raise InputError(
            f"{path}: lacks {', '.join(lacking) or 'links in its header'}; allowed: what collect ports wrote"
        )
    return table, header


def exchanges_in(table: pa.Table) -> Iterator[Exchange]:
    """Yield every exchange of a table of executed messages once, in the order of the table."""
    found: dict[tuple, np.ndarray] = {}
    for row in zip(*(table[name].to_pylist() for name in (*KEYS, *ENDS)), strict=True):
        keys, (source, destination, size) = row[: len(KEYS)], row[len(KEYS) :]
        devices = keys[1]
        found.setdefault(keys, np.zeros((devices, devices), np.int64))[source, destination] = size
    for (way, _, purpose, pattern), bytes_DD in found.items():
        yield Exchange(way, purpose, pattern, bytes_DD)
