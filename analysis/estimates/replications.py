"""Runs that differ only in their seed, made into one row with intervals."""

from collections.abc import Iterable

import numpy as np

from moe_replay.analysis.estimates.intervals import half_width
from moe_replay.traces.runs.run_statistics import INTERVAL_METRICS, RunStatistics
from moe_replay.traces.runs.run_steadiness import beyond_offered, edge_per_s
from moe_replay.traces.runs.run_window import WHOLE_RUN, WINDOW, is_open
from moe_replay.traces.runs.time_statistics import TIMES, TOKEN_TIMES

OF_EVERY_WINDOW = ("capacity_per_s", "offered_per_s", "offered_load", "backlog_growth")  # never of the window alone


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

    Every metric is the mean over replications. Those with an interval also have `_low` and `_high`: the 95 % t
    interval over replications, or, for a single run, over its batch means; `interval` says which. Under open arrivals
    the interval of a window's throughput also allows for what is in flight at the window's ends.

    One unstable or short replication makes the row so: the others had luck. Then all values are of whole runs (an
    unstable row has no times); statistics that only some of the runs have of the whole are NaN. A row whose throughput
    exceeds what was offered by more than its interval is short too.
    """
    unsteady = next((run for run in runs if run.status != "ok"), None)
    if unsteady is not None:
        status, reason = unsteady.status, unsteady.reason
        return labelled(runs, whole_row(runs, status), whole_spread(runs, status), WHOLE_RUN, status, reason)
    row = means(runs)
    spread = runs[0].parts if len(runs) == 1 else {name: of_all(runs, name) for name in with_interval(runs)}
    remark = next((run.reason for run in runs if run.reason), "")
    found = labelled(runs, row, spread, runs[0].values_of, "ok", remark)
    reason = beyond_offered(row, found["throughput_per_s_low"]) if is_windowed_open(runs[0]) else ""
    if reason:
        return labelled(runs, whole_row(runs, "short"), whole_spread(runs, "short"), WHOLE_RUN, "short", reason)
    return found


def with_interval(runs: list[RunStatistics]) -> list[str]:
    """Return the metrics that have an interval; TTFT and TPOT where the records of all runs tell them."""
    return [*INTERVAL_METRICS, *(name for name in TOKEN_TIMES if name in of_each(runs))]


def of_each(runs: list[RunStatistics]) -> list[str]:
    """Return the names of the values that every run has: some may have been recorded before others were told."""
    return [name for name in runs[0].values if all(name in run.values for run in runs)]


def steady(row: dict) -> dict:
    """Return a row whose times are those of a steady state, NaN where the run has none: what figures may draw."""
    if row["status"] == "ok":
        return row
    return row | {name: float("nan") for name in row if name.startswith(("latency_", "request_", "ttft_", "tpot_"))}


def means(runs: list[RunStatistics]) -> dict[str, float]:
    """Return the means over runs of all their values."""
    return {name: float(np.mean([run.values[name] for run in runs])) for name in of_each(runs)}


def whole_row(runs: list[RunStatistics], status: str) -> dict[str, float]:
    """Return the means over runs of what is known of them as a whole."""
    if all(run.values_of == WHOLE_RUN for run in runs):
        row = means(runs)
    else:
        row = dict.fromkeys(of_each(runs), float("nan")) | {name: means(runs)[name] for name in OF_EVERY_WINDOW}
        told = [name for name in runs[0].whole if all(name in run.whole for run in runs)]
        row |= {name: float(of_whole(runs, name).mean()) for name in told}
    if status == "unstable":
        row |= {name: float("nan") for name in TIMES if name in row}
    return row


def whole_spread(runs: list[RunStatistics], status: str) -> dict[str, np.ndarray]:
    """Return what the intervals of a row about whole runs are taken over; none where one run alone is short."""
    if len(runs) == 1:
        return runs[0].parts if runs[0].values_of == WHOLE_RUN else {}
    kept = with_interval(runs) if status != "unstable" else ("throughput_per_s",)
    return {name: of_whole(runs, name) for name in kept}


def of_whole(runs: list[RunStatistics], name: str) -> np.ndarray:
    """Return a rate or time of every whole run."""
    return np.array([run.whole[name] for run in runs])


def of_all(runs: list[RunStatistics], name: str) -> np.ndarray:
    """Return a metric of every run."""
    return np.array([run.values[name] for run in runs])


def is_windowed_open(run: RunStatistics) -> bool:
    """Whether the values of a run are of a window under arrivals that do not wait for the model."""
    return is_open(run.config) and run.values_of == WINDOW


def labelled(
    runs: list[RunStatistics], row: dict, spread: dict[str, np.ndarray], values_of: str, status: str, reason: str
) -> dict:
    """Return a row with its intervals, and with what it is of."""
    interval = f"t over {len(runs)} replications" if len(runs) > 1 else "t over batch means"
    for name in with_interval(runs):
        half = half_width(spread[name]) if name in spread else float("nan")
        if name == "throughput_per_s" and values_of == WINDOW and is_windowed_open(runs[0]):
            half += float(np.mean([edge_per_s(run.values) for run in runs]))
        row |= {f"{name}_low": row[name] - half, f"{name}_high": row[name] + half}
    return {
        "replications": len(runs), "interval": interval if spread else "none: the run is too short",
        "values_of": values_of, **row, "status": status, "reason": reason,
    }  # fmt: skip
