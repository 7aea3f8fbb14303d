"""Executed runs with expert memory beside their simulations: misses, latency, memory on the device, quality."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.inputs import Inputs
from analysis.log_sets import MEMORY_EXECUTED, MEMORY_SIMULATED, LogSet
from analysis.tables import hole_row
from simulate.policies.config import RunConfig
from traces.errors import InputError
from traces.files import sha256_of
from traces.run_records import RunRecords, load_run, run_names

RESIDENT = "resident"
ORDER = ("layer", "block", "size", "hit", "members_crc")


def memory_executed_rows(inputs: Inputs, log_set: LogSet) -> list[dict]:
    """Return a row per executed run of a set; its simulated columns are empty where it was not simulated."""
    folder, rows = log_set.folder / MEMORY_EXECUTED, []
    for name in run_names(folder):
        try:
            executed = load_run(folder, name)
        except InputError as error:
            reason = str(error).replace(f"{log_set.folder}/", "")
            rows.append({**hole_row(log_set.name, None, reason), "run": name})
            continue
        inputs.note(f"{log_set.name}/{MEMORY_EXECUTED}/{name}", sha256_of(folder / f"{name}.passes.parquet"))
        rows.append(one_row(log_set, name, executed))
    return rows


def one_row(log_set: LogSet, name: str, executed: RunRecords) -> dict:
    """Return the row of one run."""
    header = executed.header
    config = RunConfig.from_dict(header["config"])
    memory = config.memory
    row = {
        "set": log_set.name, "status": "ok", "reason": "", "run": name, "scheduler": config.scheduler,
        "in_flight": config.in_flight, "cache": memory.cache if memory else RESIDENT,
        "slots": memory.slots if memory else np.nan, "miss": memory.miss if memory else "",
        "prefetch": memory.prefetch if memory else "", "period": memory.period if memory else None,
        "device_bytes": header.get("device_bytes", np.nan), "passes": len(executed.passes["end_ns"]),
        **{f"quality_{measure}": value for measure, value in header.get("quality", {}).items()},
        **statistics(executed, "executed"),
    }  # fmt: skip
    try:
        simulated = load_run(log_set.simulated / MEMORY_SIMULATED, name) if log_set.simulated else None
    except InputError:
        simulated = None
    if simulated is None:
        return row
    return {
        **row, **statistics(simulated, "simulated"), "same_order": same(executed.batches, simulated.batches, ORDER),
        "same_transfers": same_transfers(executed, simulated),
        "error": statistics(simulated, "")["_median_ms"] / row["executed_median_ms"] - 1,
        "mean_error": statistics(simulated, "")["_mean_ms"] / row["executed_mean_ms"] - 1,
    }  # fmt: skip


def statistics(records: RunRecords, source: str) -> dict:
    """Return latency of the passes in ms, hit ratio and lost gate mass of a run."""
    took_ms = (records.passes["end_ns"] - records.passes["arrival_ns"]) / 1e6
    counts = records.header.get("memory", {})
    return {
        f"{source}_median_ms": float(np.median(took_ms)), f"{source}_mean_ms": float(took_ms.mean()),
        f"{source}_p95_ms": float(np.percentile(took_ms, 95)),
        f"{source}_hit_ratio": counts["hits"] / counts["accesses"] if counts else np.nan,
        f"{source}_lost_mass": counts.get("lost_mass", np.nan),
    }  # fmt: skip


def same(first: dict[str, np.ndarray], second: dict[str, np.ndarray], columns: tuple[str, ...]) -> bool:
    """Say whether some columns of two record tables are equal."""
    return all(np.array_equal(first[column], second[column]) for column in columns)


def same_transfers(first: RunRecords, second: RunRecords) -> bool:
    """Say whether two runs moved the same experts to the same slots, evicting the same, in the same order."""
    if first.transfers is None or second.transfers is None:
        return first.transfers is second.transfers
    return same(first.transfers, second.transfers, ("layer", "expert", "slot", "victim", "prefetch"))


def fidelity_sentence(rows: pd.DataFrame) -> tuple[str, dict]:
    """Return (how far simulation is from execution, the numbers)."""
    found = rows[rows["status"] == "ok"].dropna(subset=["error"]) if "error" in rows else rows.iloc[:0]
    if found.empty:
        return "No executed run was simulated.", {}
    errors = found["error"].abs()
    apart = (found["executed_hit_ratio"] - found["simulated_hit_ratio"]).abs().max()
    numbers = {
        "runs": len(found), "median_error": errors.median(), "largest_error": errors.max(),
        "same_transfers": int(found["same_transfers"].sum()), "largest_hit_ratio_difference": apart,
    }  # fmt: skip
    return (
        f"Simulated against executed median latency: error {errors.median():.1%} in the middle, {errors.max():.1%} "
        f"at worst, over {len(found)} runs; {numbers['same_transfers']} moved the very same experts in the same order, "
        f"hit ratios differ by at most {apart:.4f}.",
        numbers,
    )
