"""Serving at operating points: throughput and latency of fixed and dynamic K under the same arrivals.

A set's `serving/NAME/` holds the executed runs of the trace `rules/NAME.trace.parquet`; the simulated ones are under
the same name. Points differ in their rule for K alone: model, device, queue size and arrivals are the same.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from moe_replay.analysis.estimates.replications import by_configuration, combined, steady
from moe_replay.analysis.reading.inputs import Inputs
from moe_replay.analysis.reading.log_sets import RULES, SERVING, LogSet
from moe_replay.analysis.reading.run_pairs import RunPair, read_pair
from moe_replay.analysis.reading.seed_tables import Replicated
from moe_replay.analysis.reading.setting_words import describe_config
from moe_replay.analysis.written_tables import hole_row, holes, write_claims, write_tables
from moe_replay.traces.errors import InputError
from moe_replay.traces.file.trace_file import load_trace
from moe_replay.traces.routes import routed_tokens
from moe_replay.traces.runs.run_records import run_names
from moe_replay.traces.selections import Trace

SERVED = "delta_k_serving"
KEPT = ("throughput_per_s", "latency_p50_ms", "latency_p95_ms", "utilisation", "fill")


def build_serving(inputs: Inputs, out: Path) -> list[str]:
    """Write `delta_k_serving`: one row per point, arrivals and source."""
    rows = [row for log_set in inputs.of_images for row in serving_rows(inputs, log_set)]
    if not rows:
        rows = [hole_row(log_set.name, None, f"no {SERVING} runs") for log_set in inputs.of_images]
    written = write_tables(out, {SERVED: rows}, inputs.served())
    write_claims(out, {SERVED: serving_claim(written[SERVED])})
    return holes(written[SERVED])


def serving_rows(inputs: Inputs, log_set: LogSet) -> list[dict]:
    """Return every row of a set, points by mean K; a point whose trace or runs cannot be read keeps one row."""
    folder = log_set.folder / SERVING
    names = sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    rows = []
    for name in names:
        try:
            point = point_of(log_set, name)
        except InputError as error:
            rows.append({**hole_row(log_set.name, True, str(error).replace(f"{log_set.folder}/", "")), "point": name})
            continue
        folder = log_set.simulated / SERVING / name if log_set.simulated else None
        replicated = inputs.replicated(f"{log_set.name}/{SERVING}/{name}/", folder)
        rows += point_rows(point, pairs_of(inputs, log_set, name), replicated)
    return sorted(rows, key=lambda row: (row.get("mean_k", 0), row.get("setting", ""), row.get("source", "")))


def point_of(log_set: LogSet, name: str) -> dict:
    """Return what a point is: its rule, mean K and accuracy, from its trace."""
    trace = load_trace(log_set.folder / RULES / f"{name}.trace.parquet")
    rule = trace.header.notes.get("k_rule")
    return {
        "set": log_set.name, "point": name, "rule": rule or f"fixed k={trace.header.model.used_k}",
        "dynamic": rule is not None, "mean_k": mean_k(trace),
        "accuracy_percent": accuracy_percent(trace),
    }  # fmt: skip


def mean_k(trace: Trace) -> float:
    """Return the experts per token, over the rows (token, layer) that have a route."""
    return float((trace.experts_TLK >= 0).sum() / max(routed_tokens(trace).sum(), 1))


def accuracy_percent(trace: Trace) -> float:
    """Return the share of right predictions; NaN where the trace does not hold labels and predictions."""
    if trace.label_S is None or trace.prediction_S is None:
        return float("nan")
    return float(np.mean(trace.label_S == trace.prediction_S)) * 100


def pairs_of(inputs: Inputs, log_set: LogSet, name: str) -> list[RunPair]:
    """Return the runs of one point."""
    executed = log_set.folder / SERVING / name
    simulated = log_set.simulated / SERVING / name if log_set.simulated else None
    names = sorted({run for folder in (executed, simulated) if folder and folder.is_dir() for run in run_names(folder)})
    pairs = [read_pair(run, executed, simulated) for run in names]
    inputs.note_runs(f"{log_set.name}/{SERVING}/{name} ", pairs)
    return pairs


def point_rows(point: dict, pairs: list[RunPair], replicated: Replicated) -> list[dict]:
    """Return one row per arrivals and source; the simulated one tells how many comparable runs were identical.

    Simulated times come from `replicated`, many seeds of every configuration, where there are any.
    """
    problems = [(pair.name, reason) for pair in pairs for reason in pair.problem.values()]
    problems += replicated.problem.items()
    rows = [{**point, "status": "failed", "reason": f"{name}: {reason}"} for name, reason in problems]
    for source in ("executed", "simulated"):
        many = replicated.runs if source == "simulated" else []
        for runs in by_configuration(many or [pair.statistics[source] for pair in pairs if source in pair.statistics]):
            config, found = describe_config(runs[0].config, None), steady(combined(runs))
            kept = {f"{name}{end}": found[f"{name}{end}"] for name in KEPT for end in ("", "_low", "_high")
                    if f"{name}{end}" in found}  # fmt: skip
            alike = [pair.identical for pair in pairs if pair.statistics.get("executed", None) is not None]
            rows.append({
                **point, "source": source, **{key: config[key] for key in ("arrivals", "setting", "queue_size")},
                "replications": found["replications"], **kept,
                "identical_runs": alike.count("yes"), "comparable_runs": len(alike) - alike.count("n.a."),
                "status": found["status"], "reason": found["reason"],
            })  # fmt: skip
    return rows


def serving_claim(table: pd.DataFrame) -> dict:
    """Return the sentence: what fewer experts per sample bring in throughput, and what they cost in waiting."""
    served = table[table["status"] == "ok"] if "status" in table else table
    if served.empty:
        return {"claim": "No operating point was served.", "numbers": {}}
    sentences = [set_sentence(name, rows) for name, rows in served.groupby("set", sort=False)]
    return {"claim": " ".join(sentences), "numbers": {}}


def set_sentence(name: str, rows: pd.DataFrame) -> str:
    """Return one set's sentence: the dynamic point nearest a mean K of 2 against the fixed one with most experts."""
    executed = rows[rows["source"] == "executed"]
    own = executed[~executed["dynamic"]].sort_values("mean_k")
    dynamic = executed[executed["dynamic"]].sort_values("mean_k")
    if own.empty or dynamic.empty:
        return f"{name}: fixed and dynamic points were not both served."
    full, point = own.iloc[-1]["point"], dynamic.iloc[(dynamic["mean_k"] - 2).abs().argsort().iloc[0]]["point"]
    parts = []
    for (_, setting), both in executed[executed["point"].isin([full, point])].groupby(["arrivals", "setting"]):
        one, other = (both[both["point"] == chosen] for chosen in (full, point))
        if len(one) and len(other):
            parts.append(f"{setting}: {compared(one.iloc[0], other.iloc[0])}")
    first, second = (executed[executed["point"] == chosen].iloc[0] for chosen in (full, point))
    return (
        f"{name}: {second['rule']} (mean K {second['mean_k']:.2f}, accuracy {second['accuracy_percent']:.1f} %) "
        f"against {first['rule']} ({first['accuracy_percent']:.1f} %), executed at B={first['queue_size']:.0f}: "
        f"{'; '.join(parts)}. Simulated throughput is off by {worst_error(rows):.1f} % at most, "
        f"{identical_text(rows)}."
    )


def compared(full: pd.Series, point: pd.Series) -> str:
    """Return throughput where it is free to vary, latency where arrivals are given."""
    if full["arrivals"] == "closed":
        return f"{point['throughput_per_s']:.0f} against {full['throughput_per_s']:.0f} samples/s"
    return (
        f"median latency {point['latency_p50_ms']:.0f} against {full['latency_p50_ms']:.0f} ms at "
        f"{point['utilisation']:.0%} against {full['utilisation']:.0%} busy"
    )


def worst_error(rows: pd.DataFrame) -> float:
    """Return the largest absolute error of simulated throughput in closed loops, in percent."""
    closed = rows[rows["arrivals"] == "closed"]
    both = closed.pivot_table(index=["point", "setting"], columns="source", values="throughput_per_s")
    if not {"executed", "simulated"} <= set(both):
        return float("nan")
    return float((both["simulated"] / both["executed"] - 1).abs().max() * 100)


def identical_text(rows: pd.DataFrame) -> str:
    """Return how many of the comparable runs ran the simulated batches."""
    points = rows[rows["source"] == "simulated"].drop_duplicates("point")
    same, all_of_them = points["identical_runs"].sum(), points["comparable_runs"].sum()
    return f"{same:.0f} of {all_of_them:.0f} comparable runs ran exactly the simulated batches"
