"""Throughput and latency against queue size B: executed, simulated and in theory, one row per point."""

import numpy as np
import pandas as pd

from moe_replay.analysis.estimates.queue_theory import Routing, theory_row
from moe_replay.analysis.estimates.replications import by_configuration, combined, steady
from moe_replay.analysis.reading.log_sets import LogSet
from moe_replay.analysis.reading.run_pairs import RunPair
from moe_replay.analysis.reading.seed_tables import Replicated
from moe_replay.analysis.reading.setting_words import describe_config
from moe_replay.traces.errors import InputError
from moe_replay.traces.runs.cost_table import CostTable
from moe_replay.traces.runs.run_statistics import RunStatistics
from moe_replay.traces.runs.run_window import WHOLE_RUN
from moe_replay.traces.runs.time_statistics import TOKEN_TIMES

POINT = ["set", "source", "scheduler", "arrivals", "setting", "departures"]
ORDER = ("set", "source", "scheduler", "arrivals", "in_flight", "load", "departures", "queue_size", "max_step")
VALUES = ("throughput_per_s", "latency_mean_ms", "latency_p50_ms", "latency_p95_ms", "forced_batches", "sequences")
DRAWN = ("throughput_per_s", "latency_p50_ms", "latency_p95_ms")
ALWAYS = (*ORDER, "setting", "rate_per_s", *VALUES, "status", "reason")
THEORY = "theory"


def measured_rows(
    log_set: LogSet, pairs: list[RunPair], used_k: int | None, replicated: Replicated | None = None
) -> list[dict]:
    """Return one row per source and configuration, replications combined; unreadable runs keep a row each.

    Simulated rows come from `replicated`, many seeds of every configuration, where there are any.
    """
    rows, replicated = [], replicated or Replicated()
    for source in ("executed", "simulated"):
        many = source == "simulated" and bool(replicated.runs)
        runs = replicated.runs if many else [pair.statistics[source] for pair in pairs if source in pair.statistics]
        for group in by_configuration(runs):
            told = describe_config(group[0].config, used_k)
            row = {"set": log_set.name, "source": source, **told, **of_passes(steady(combined(group)))}
            rows.append(row | run_ends(group, row))
        rows += [
            {
                "set": log_set.name,
                "source": source,
                "run": pair.name,
                "status": "failed",
                "reason": pair.problem[source],
            }
            for pair in pairs
            if source in pair.problem
        ]
    failed = {"set": log_set.name, "source": "simulated", "status": "failed"}
    return rows + [{**failed, "run": run, "reason": reason} for run, reason in replicated.problem.items()]


def of_passes(row: dict) -> dict:
    """Return a row without TTFT and TPOT: records that are shipped do not tell them, and B is about passes here."""
    return {name: value for name, value in row.items() if not name.startswith(TOKEN_TIMES)}


def run_ends(runs: list[RunStatistics], row: dict) -> dict[str, float]:
    """Return the least and the most over runs of what is drawn, of windows or of whole runs as the row's means are.

    Of two runs these are the runs themselves.
    """
    values = pd.DataFrame([run.whole if row["values_of"] == WHOLE_RUN else run.values for run in runs])
    values = values.reindex(columns=DRAWN).where(pd.Series(row)[list(DRAWN)].notna(), axis=1)
    ends = {"least": values.min(), "most": values.max()}
    return {f"{name}_{end}": float(found[name]) for name in DRAWN for end, found in ends.items()}


def hole_rows(rows: list[dict]) -> list[dict]:
    """Return a `missing` row for every point that the grid implies and no run covers.

    The grid of one set, source and mode is every setting (N or load) times every queue size that any run of it has.
    """
    plain = [row for row in rows if row.get("scheduler") == "queues" and row["departures"] == ""]
    holes = []
    for group in sorted({(row["set"], row["source"], row["arrivals"]) for row in plain}):
        members = [row for row in plain if (row["set"], row["source"], row["arrivals"]) == group]
        sizes = sorted({row["queue_size"] for row in members})
        for one in {row["setting"]: row for row in members}.values():
            present = {row["queue_size"] for row in members if row["setting"] == one["setting"]}
            kept = {name: one[name] for name in [*POINT, "in_flight", "load", "rate_per_s"]}
            holes += [
                kept | {"queue_size": size, "status": "missing", "reason": "no complete run of this point"}
                for size in sizes
                if size not in present
            ]
    return holes


def theory_rows(rows: list[dict], costs: CostTable | None, routing: Routing | None, reason: str) -> list[dict]:
    """Return a theory row for every plain point (queues, one device, closed or Poisson) of a set's rows.

    Without a cost table or a trace each is `missing` with `reason`.
    """
    points: dict[tuple, dict] = {}
    for row in rows:
        if row.get("scheduler") == "queues" and row["departures"] == "" and row["arrivals"] in ("closed", "poisson"):
            points.setdefault((row["arrivals"], row["setting"], row["queue_size"]), row)
    made = []
    for row in points.values():
        kept = {name: row[name] for name in [*POINT, "in_flight", "load", "rate_per_s", "queue_size"]}
        kept |= {"source": THEORY, "interval": "theory (no contention)", "replications": 0}
        if costs is None or routing is None:
            made.append(kept | {"status": "missing", "reason": reason})
        else:
            made.append(kept | theory_or_reason(costs, routing, kept))
    return made


def theory_or_reason(costs: CostTable, routing: Routing, kept: dict) -> dict:
    """Return the theory of a point, or why there is none: a batch of this size was never measured."""
    try:
        return theory_row(costs, routing, kept)
    except InputError as error:
        return {"status": "missing", "reason": str(error)}


def queue_size_table(rows: list[dict]) -> pd.DataFrame:
    """Return the rows as one table in a stable order; it has the columns of `ALWAYS` even if every row is a hole."""
    table = pd.DataFrame(rows)
    table = table.reindex(columns=list(dict.fromkeys([*table.columns, *ALWAYS])))
    return table.sort_values(list(ORDER), kind="stable", na_position="last").reset_index(drop=True)


def saturated(table: pd.DataFrame, name: str, source: str) -> pd.DataFrame:
    """Return the plain closed-loop points of one set and source at its largest N, by ascending queue size."""
    chosen = plain_points(table, name, source, "closed")
    return chosen[chosen["in_flight"] == chosen["in_flight"].max()].sort_values("queue_size")


def plain_points(table: pd.DataFrame, name: str, source: str, mode: str) -> pd.DataFrame:
    """Return the plain queue points of one set, source and mode that have a result, one per setting and queue size.

    Of runs that differ only in how many sequences they serve, the longest counts.
    """
    chosen = table[
        (table["set"] == name) & (table["source"] == source) & (table["arrivals"] == mode)
        & (table["scheduler"] == "queues") & (table["departures"] == "")
        & table["status"].isin(["ok", "unstable", "short"])
    ]  # fmt: skip
    return chosen.sort_values("sequences", kind="stable").drop_duplicates(["setting", "queue_size"], keep="last")


def fully_used_from(points: pd.DataFrame, share: float = 0.95) -> float:
    """Return the smallest queue size that reaches `share` of the largest saturated throughput; NaN without points."""
    if points.empty:
        return float("nan")
    enough = points["throughput_per_s"] >= share * points["throughput_per_s"].max()
    return float(points.loc[enough, "queue_size"].min())


def tradeoff_rows(table: pd.DataFrame, name: str, source: str) -> list[dict]:
    """Return, per load and queue size, what the machine delivers at most and what a sample takes at this load."""
    closed = saturated(table, name, source).set_index("queue_size")["throughput_per_s"]
    rows = plain_points(table, name, source, "poisson").sort_values(["load", "queue_size"])
    kept = ["set", "source", "load", "queue_size", "latency_p50_ms", "latency_p50_ms_low", "latency_p50_ms_high",
            "latency_p95_ms", "status"]  # fmt: skip
    rows = rows.reindex(columns=kept)
    return rows.assign(saturated_throughput_per_s=rows["queue_size"].map(closed)).to_dict("records")


def step_rows(table: pd.DataFrame, name: str, source: str) -> list[dict]:
    """Return, per load and doubling of B, the throughput gained and the latency paid.

    Gain is of the saturated throughput. Latency is the median and the mean at the stated load, NaN where one end is
    unstable; `ms_per_percent` is the median paid per percent of throughput gained, NaN where nothing is gained.
    """
    closed = saturated(table, name, source).set_index("queue_size")["throughput_per_s"]
    rows = []
    for load, points in plain_points(table, name, source, "poisson").groupby("load"):
        at = points.set_index("queue_size").sort_index()
        for before, after in zip(at.index[:-1], at.index[1:], strict=True):
            gain = (closed.get(after, np.nan) / closed.get(before, np.nan) - 1) * 100
            p50 = at["latency_p50_ms"]
            rows.append({
                "set": name, "source": source, "load": load, "from_queue_size": before, "to_queue_size": after,
                "throughput_gain_percent": gain,
                "latency_p50_from_ms": p50[before], "latency_p50_to_ms": p50[after],
                "latency_p50_ratio": p50[after] / p50[before],
                "latency_mean_ratio": at["latency_mean_ms"][after] / at["latency_mean_ms"][before],
                "ms_per_percent": (p50[after] - p50[before]) / gain if gain > 0 else np.nan,
                "status": "ok" if np.isfinite(p50[after] - p50[before]) else "unstable", "reason": "",
            })  # fmt: skip
    return rows
