"""Runs that differ only in their seed, made into one row with intervals."""

from collections.abc import Iterable

import numpy as np

from analysis.intervals import half_width
from traces.run_statistics import INTERVAL_METRICS, RunStatistics


def configuration_key(config: dict) -> tuple:
    """Return what two replications of one configuration have in common: every setting but the seed."""
    return tuple(sorted((name, repr(value)) for name, value in config.items() if name != "seed"))


def by_configuration(runs: Iterable[RunStatistics]) -> list[list[RunStatistics]]:
    """Return the runs in groups of equal settings, in order of first appearance."""
    groups: dict[tuple, list[RunStatistics]] = {}
    for run in runs:
        groups.setdefault(configuration_key(run.config), []).append(run)
    return list(groups.values())


def combined(runs: list[RunStatistics]) -> dict:
    """Return one row for replications of one configuration.

    Every metric is the mean over replications. Those in `INTERVAL_METRICS` also have `_low` and `_high`: the 95 % t
    interval over replications, or, for a single run, over its batch means; `interval` says which. One unstable
    or short replication makes the row so: the others had luck.
    """
    row = {name: float(np.mean([run.values[name] for run in runs])) for name in runs[0].values}
    unstable = next((run for run in runs if run.status != "ok"), None)
    if unstable is not None:
        row |= {name: float("nan") for name in row if name.startswith("latency_")}
    if len(runs) > 1:
        spread = {name: np.array([run.values[name] for run in runs]) for name in INTERVAL_METRICS}
        interval = f"t over {len(runs)} replications"
    else:
        spread = runs[0].parts
        interval = "t over batch means" if spread else "none: the run is too short"
    for name in INTERVAL_METRICS:
        half = half_width(spread[name]) if name in spread else float("nan")
        row |= {f"{name}_low": row[name] - half, f"{name}_high": row[name] + half}
    remark = next((run.reason for run in runs if run.reason), "")
    status, reason = ("ok", remark) if unstable is None else (unstable.status, unstable.reason)
    return {"replications": len(runs), "interval": interval, **row, "status": status, "reason": reason}
