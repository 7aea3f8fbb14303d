"""Predicted against executed, configuration by configuration: the table behind every claim about the simulator."""

import numpy as np
import pandas as pd

from moe_replay.analysis.estimates.replications import configuration_key
from moe_replay.analysis.reading.log_sets import LogSet
from moe_replay.analysis.reading.run_pairs import RunPair
from moe_replay.analysis.reading.setting_words import describe_config

METRICS = {"throughput": "throughput_per_s", "latency_p50": "latency_p50_ms", "latency_p95": "latency_p95_ms"}


def fidelity_rows(log_set: LogSet, pairs: list[RunPair], used_k: int | None, partial: bool) -> list[dict]:
    """Return one row per executed run: errors of the simulated throughput and latency, and whether the order agrees.

    An executed run whose simulation is missing stays, with a reason. It is `skipped` where the same configuration
    was simulated under another seed, or where `partial` says that only a part of the grid was asked for.
    """
    simulated = {
        configuration_key(pair.statistics["simulated"].config) for pair in pairs if "simulated" in pair.statistics
    }
    return [
        fidelity_row(log_set, pair, used_k, simulated, partial)
        for pair in pairs
        if "executed" in pair.statistics or "executed" in pair.problem
    ]


def fidelity_row(log_set: LogSet, pair: RunPair, used_k: int | None, simulated: set, partial: bool) -> dict:
    """Return the row of one executed run."""
    row = {"set": log_set.name, "run": pair.name}
    if "executed" not in pair.statistics:
        return row | {"status": "failed", "reason": f"executed: {pair.problem['executed']}"}
    executed = pair.statistics["executed"]
    row |= describe_config(executed.config, used_k)
    row |= {f"executed_{name}": executed.steady_values[column] for name, column in METRICS.items()}
    row["lateness_mean_us"] = pair.lateness_ns.get("mean", np.nan) / 1e3
    row["own_share_percent"] = pair.own_share.get("share", np.nan) * 100
    if "simulated" in pair.statistics:
        return row | errors(executed.steady_values, pair) | {"status": "ok", "reason": executed.reason}
    if "simulated" in pair.problem:
        return row | {"status": "failed", "reason": f"simulated: {pair.problem['simulated']}"}
    if partial or configuration_key(executed.config) in simulated:
        return row | {"status": "skipped", "reason": "not simulated in this part of the grid"}
    return row | {"status": "missing", "reason": "no simulated run of this configuration"}


def errors(executed: dict[str, float], pair: RunPair) -> dict:
    """Return simulated values and their signed errors in percent of the executed ones, and the comparison of orders."""
    simulated = pair.statistics["simulated"].steady_values
    row: dict = {"identical": pair.identical, "first_difference": pair.first_difference}
    for name, column in METRICS.items():
        error = (simulated[column] / executed[column] - 1) * 100 if executed[column] > 0 else np.nan
        row |= {f"simulated_{name}": simulated[column], f"{name}_error_percent": error}
    return row


def fidelity_summary(table: pd.DataFrame) -> pd.DataFrame:
    """Return, per set, scheduler and arrivals, and over all: errors and how many orders agree.

    Errors of a metric are the mean of the signed ones (bias: positive where simulated is too high), the median of
    their sizes, and the worst.
    """
    if table.empty or "throughput_error_percent" not in table:
        return pd.DataFrame(
            [{"set": "all", "arrivals": "all", "status": "missing", "reason": "no run was both executed and simulated"}]
        )
    compared = table[table["status"] == "ok"]
    groups = [
        ((name, scheduler, how), rows)
        for (name, scheduler, how), rows in compared.groupby(["set", "scheduler", "arrivals"])
    ]
    groups += [
        (("all", scheduler, how), rows) for (scheduler, how), rows in compared.groupby(["scheduler", "arrivals"])
    ]
    return pd.DataFrame([summary_row(key, rows) for key, rows in [*groups, (("all", "all", "all"), compared)]])


def summary_row(key: tuple[str, str, str], rows: pd.DataFrame) -> dict:
    """Return one row of the summary."""
    row = dict(zip(("set", "scheduler", "arrivals"), key, strict=True)) | {"runs": len(rows)}
    for name in METRICS:
        signed = rows[f"{name}_error_percent"]
        error = signed.abs()
        row |= {f"{name}_bias_percent": signed.mean(), f"{name}_median_percent": error.median()}
        row |= {f"{name}_worst_percent": error.max()}
    comparable = rows[rows["identical"] != "n.a."]
    row |= {"order_comparable": len(comparable), "order_identical": int((comparable["identical"] == "yes").sum())}
    return row | {"status": "ok", "reason": ""}


def fidelity_claim(table: pd.DataFrame, summary: pd.DataFrame) -> dict:
    """Return the sentence and the numbers of the fidelity figure."""
    whole = summary.iloc[-1].to_dict()
    if whole["status"] != "ok" or not whole["runs"]:
        return {
            "claim": "No run was both executed and simulated, so nothing can be said about fidelity.",
            "numbers": {},
        }
    order = "no run has an order that is free of durations"
    if whole["order_comparable"]:
        order = (
            f"{whole['order_identical']} of {whole['order_comparable']} runs whose order cannot depend on durations "
            "ran exactly the same batches in the same order"
        )
    found = {
        name: (
            f"{whole[f'{name}_median_percent']:.1f} % (worst {whole[f'{name}_worst_percent']:.1f} %, "
            f"bias {whole[f'{name}_bias_percent']:+.1f} %)"
        )
        for name in METRICS
    }
    claim = (
        f"Over {whole['runs']} executed runs the simulator predicts throughput with a median error of "
        f"{found['throughput']}, p50 latency with {found['latency_p50']} and p95 latency with {found['latency_p95']}; "
        f"{order}."
    )
    missing = int((~table["status"].isin(["ok", "skipped"])).sum())
    if missing:
        claim += f" {missing} executed runs could not be compared: see the reasons in the table."
    return {"claim": claim, "numbers": {key: value for key, value in whole.items() if key not in ("status", "reason")}}
