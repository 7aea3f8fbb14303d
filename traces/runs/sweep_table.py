"""The results of a sweep: one row per configuration and seed, in the order of its grid, in one Parquet file.

Columns: `run` (the run's name), every field of its configuration (those of its expert memory are empty where all
experts are resident; slots that differ between layers are a list in JSON), `status` (`ok`, `unstable`, `short` or
`failed`) with its `reason`, the `engine`, what is `known`, what the statistics are of (`values_of`: window or whole
run), numbers of the whole run (`WHOLE`), every statistic of `traces.runs.run_statistics`, the batch means of those that
carry intervals as lists (`NAME_parts`), rates and times of the whole run whatever the status (`whole_NAME`), and the
counts of the expert memory (`memory_NAME`). A failed point keeps what is known of it. The header says which column is
what, and the digests of the grid, the trace and the costs. It lives here because `simulate` writes it and `analysis`
reads it.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa

from moe_replay.traces.errors import InputError
from moe_replay.traces.file.mixed_table import load_mixed, save_mixed
from moe_replay.traces.runs.run_records import RunRecords
from moe_replay.traces.runs.run_statistics import RunStatistics, run_statistics

KIND = "sweep"
REPLICATIONS = "replications.parquet"  # the name of a table beside the records of single runs
FAILED = "failed"
WHOLE = ("passes", "makespan_ns", "sojourn_mean_ms")  # first arrival to last end; mean time from arrival to end
TEXTS = ("run", "engine", "known", "status", "reason", "values_of")
GROUPS = ("config", "memory_config", "cluster_config", "whole", "values", "parts", "whole_values", "counts")


@dataclass(frozen=True)
class SweepPoint:
    """The result of one configuration.

    `config` is a RunConfig as a dictionary, `values`, `parts`, `values_of` and `whole_values` (there `whole`) are those
    of RunStatistics, `whole` has the names in `WHOLE`, `counts` are those of the expert memory, with the `transfers`,
    and `known` (none, held-out, hindsight) says where what its policies know beforehand comes from.
    Of a point that failed in the simulation all are empty, of one whose run has no statistics those of RunStatistics.
    """

    run: str
    config: dict
    status: str = FAILED
    reason: str = ""
    engine: str | None = None
    whole: dict[str, float] = field(default_factory=dict)
    values: dict[str, float] = field(default_factory=dict)
    parts: dict[str, list[float]] = field(default_factory=dict)
    whole_values: dict[str, float] = field(default_factory=dict)
    values_of: str | None = None
    counts: dict[str, float] = field(default_factory=dict)
    known: str | None = None

    @property
    def statistics(self) -> RunStatistics:
        """The statistics of the run, as its records gave them; InputError with the reason for a failed point."""
        if self.status == FAILED:
            raise InputError(self.reason)
        parts = {name: np.array(values) for name, values in self.parts.items()}
        return RunStatistics(
            self.config, self.values, parts, self.status, self.reason, self.values_of or "", self.whole_values
        )

    def result(self) -> dict:
        """Return what the point came to, without its name and configuration, as JSON holds it."""
        left_out = ("run", "config")
        return {name: value for name, value in vars(self).items() if name not in left_out}


def measured_point(run: str, records: RunRecords) -> SweepPoint:
    """Return the point of a finished run; one whose window cannot be measured has failed, and keeps the rest."""
    passes = records.passes
    lasted_ns = int(passes["end_ns"].max() - passes["arrival_ns"].min())
    sojourn_ms = float((passes["end_ns"] - passes["arrival_ns"]).mean()) / 1e6
    whole = dict(zip(WHOLE, (len(passes["end_ns"]), lasted_ns, sojourn_ms), strict=True))
    counts = {name: plain(value) for name, value in records.header.get("memory", {}).items()}
    if records.transfers is not None:
        counts["transfers"] = len(records.transfers["link"])
    config, engine, known = (records.header.get(name) for name in ("config", "engine", "known"))
    try:
        found = run_statistics(records)
    except InputError as error:
        return SweepPoint(run, config, FAILED, str(error), engine, whole, counts=counts, known=known)
    values = {name: plain(value) for name, value in found.values.items()}
    parts = {name: [plain(value) for value in part.tolist()] for name, part in found.parts.items()}
    whole_values = {name: plain(value) for name, value in found.whole.items()}
    measured = (values, parts, whole_values, found.values_of)
    return SweepPoint(run, config, found.status, found.reason, engine, whole, *measured, counts, known)


def plain(value: float) -> float:
    """Return a number without NumPy's type, and NaN as the one NaN of Python, whichever bits it came with."""
    value = value.item() if isinstance(value, np.generic) else value
    return value if value == value else float("nan")


def save_sweep(path: Path | str, points: Sequence[SweepPoint], header: dict, types: dict[str, str]) -> None:
    """Write the points of a sweep as one table.

    `types` names the Arrow type of every field of a configuration (`int64`, `string`, ...), so that a field that is
    empty in the whole grid has one too. The header is extended by the table's own `columns`.
    """
    groups = {name: [getattr(point, name, {}) for point in points] for name in GROUPS}
    groups["config"] = [without_parts(point.config) for point in points]
    groups["memory_config"] = [point.config.get("memory") or {} for point in points]
    groups["cluster_config"] = [point.config.get("cluster") or {} for point in points]
    texts = {name: pa.array([getattr(point, name) for point in points], pa.string()) for name in TEXTS}
    kept = {group: keys_of(rows) for group, rows in groups.items()}
    columns = {
        group: {column_name(group, key): column([row.get(key) for row in rows], types.get(key)) for key in kept[group]}
        for group, rows in groups.items()
    }
    settings = {"run": texts.pop("run"), **columns.pop("config"), **columns.pop("memory_config")}
    settings |= columns.pop("cluster_config")
    measured = {name: values for group in columns.values() for name, values in group.items()}
    save_mixed(path, pa.table({**settings, **texts, **measured}), {**header, "columns": kept}, KIND)


def load_sweep(path: Path | str) -> tuple[list[SweepPoint], dict]:
    """Return (points, header) of a sweep's table; InputError if the file is damaged or none."""
    table, header = load_mixed(path, KIND)
    keys = header["columns"]
    return [point_of(row, keys) for row in table.to_pylist()], header


def point_of(row: dict, keys: dict[str, list[str]]) -> SweepPoint:
    """Return the point in one row of the table, `keys` are the header's `columns`."""
    groups = {
        group: {key: row[column_name(group, key)] for key in keys[group] if row[column_name(group, key)] is not None}
        for group in GROUPS[3:]
        if group in keys
    }
    config = {key: row[key] for key in keys["config"]}
    if row.get("cache") is not None:
        config["memory"] = {key: row[key] for key in keys["memory_config"]}
        if isinstance(config["memory"]["slots"], str):
            config["memory"]["slots"] = json.loads(config["memory"]["slots"])
    if row.get("links") is not None:
        config["cluster"] = {key: row[key] for key in keys["cluster_config"]}
    texts = {name: row.get(name) for name in TEXTS}
    return SweepPoint(config=config, **texts, **groups)


def without_parts(config: dict) -> dict:
    """Return the fields of a configuration but its memory and its cluster, which have columns of their own."""
    return {name: value for name, value in config.items() if name not in ("memory", "cluster")}


def keys_of(rows: Iterable[dict]) -> list[str]:
    """Return the keys of all rows, in the order of their first appearance."""
    return list(dict.fromkeys(key for row in rows for key in row))


def column_name(group: str, key: str) -> str:
    """Return the name of a column: batch means and counts of the memory have names of their own."""
    return {"parts": f"{key}_parts", "counts": f"memory_{key}", "whole_values": f"whole_{key}"}.get(group, key)


def column(values: list, kind: str | None) -> pa.Array:
    """Return one column; slots that are a list somewhere are JSON everywhere."""
    if kind and any(isinstance(value, list) for value in values):
        return pa.array([None if value is None else json.dumps(value) for value in values], pa.string())
    return pa.array(values, pa.type_for_alias(kind) if kind else None)
