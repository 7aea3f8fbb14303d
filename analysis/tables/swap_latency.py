"""Executed runs with expert memory beside their simulations: misses, latency, memory on the device, quality."""

from __future__ import annotations

import numpy as np
import pandas as pd

from moe_replay.analysis.estimates.intervals import half_width
from moe_replay.analysis.reading.configurations import NOT_SAID
from moe_replay.analysis.reading.inputs import Inputs
from moe_replay.analysis.reading.log_sets import MEMORY_EXECUTED, MEMORY_SIMULATED, LogSet
from moe_replay.analysis.written_tables import hole_row
from moe_replay.simulate.config.memory_config import MASKED, MemoryConfig
from moe_replay.simulate.config.run_config import RunConfig
from moe_replay.traces.command_line.files import sha256_of
from moe_replay.traces.errors import InputError
from moe_replay.traces.runs.run_records import RunRecords, load_run, run_names
from moe_replay.traces.runs.run_statistics import PARTS

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
    return beside_resident(rows)


def beside_resident(rows: list[dict]) -> list[dict]:
    """Return the rows, each with the mean latency of the runs with all experts resident and as many in flight."""
    means: dict[int | None, list[float]] = {}
    for row in rows:
        if row.get("cache") == RESIDENT:
            means.setdefault(row["in_flight"], []).append(row["executed_mean_ms"])
    for row in rows:
        if "executed_mean_ms" in row:
            row["resident_mean_ms"] = float(np.mean(means.get(row["in_flight"], [np.nan])))
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
        "known": header.get("known", NOT_SAID if memory else ""),
        "device_bytes": header.get("device_bytes", np.nan), "passes": len(executed.passes["end_ns"]),
        "transfers": 0 if executed.transfers is None else len(executed.transfers["link"]),
        **{f"quality_{measure}": value for measure, value in header.get("quality", {}).items()},
        **statistics(executed, "executed"), "executed_mean_half_ms": half_width(means_of_parts(took_ms(executed))),
    }  # fmt: skip
    try:
        simulated = load_run(log_set.simulated / MEMORY_SIMULATED, name) if log_set.simulated else None
    except InputError:
        simulated = None
    if simulated is None:
        return row
    if row["known"] == NOT_SAID:  # an execution that did not note it was repeated with the same knowledge
        row["known"] = simulated.header.get("known", NOT_SAID)
    return {
        **row, **statistics(simulated, "simulated"), "same_order": same(executed.batches, simulated.batches, ORDER),
        "same_transfers": same_transfers(executed, simulated), **hit_difference(executed, simulated, memory),
        "error": statistics(simulated, "")["_p50_ms"] / row["executed_p50_ms"] - 1,
        "mean_error": statistics(simulated, "")["_mean_ms"] / row["executed_mean_ms"] - 1,
    }  # fmt: skip


def statistics(records: RunRecords, source: str) -> dict:
    """Return latency of the passes in ms, hit ratio and lost gate mass of a run."""
    latency_ms, counts = took_ms(records), records.header.get("memory", {})
    return {
        f"{source}_p50_ms": float(np.median(latency_ms)), f"{source}_mean_ms": float(latency_ms.mean()),
        f"{source}_p95_ms": float(np.percentile(latency_ms, 95)),
        f"{source}_hit_ratio": counts["hits"] / counts["accesses"] if counts else np.nan,
        f"{source}_lost_mass": counts.get("lost_mass", np.nan),
    }  # fmt: skip


def took_ms(records: RunRecords) -> np.ndarray:
    """Return the latency of every pass, in the order in which they ended."""
    passes = records.passes
    return ((passes["end_ns"] - passes["arrival_ns"]) / 1e6)[np.argsort(passes["end_ns"], kind="stable")]


def means_of_parts(values: np.ndarray) -> np.ndarray:
    """Return the means of consecutive tenths of a run: neighbours depend on each other, tenths hardly."""
    return np.array([part.mean() for part in np.array_split(values, PARTS) if len(part)])


def hit_difference(executed: RunRecords, simulated: RunRecords, memory: MemoryConfig | None) -> dict:
    """Return how much higher the simulated hit ratio is, with the half-width of its interval over tenths of the runs.

    Under masked gating what runs is resident, so that batches tell no hits from misses: there is no interval there.
    """
    if memory is None:
        return {"hit_difference": np.nan, "hit_difference_half": np.nan}
    first, second = (records.header["memory"] for records in (executed, simulated))
    difference = second["hits"] / second["accesses"] - first["hits"] / first["accesses"]
    if memory.miss in MASKED:
        return {"hit_difference": difference, "hit_difference_half": np.nan}
    parts = [means_of_parts(hits_in_order(records)) for records in (simulated, executed)]
    return {"hit_difference": difference, "hit_difference_half": half_width(parts[0] - parts[1])}


def hits_in_order(records: RunRecords) -> np.ndarray:
    """Return whether each batch of an expert met its weights, 0 or 1, in the order in which they started."""
    return records.batches["hit"][records.batches["block"] > 0].astype(float)


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
    errors, moved = found["error"].abs(), found[found["transfers"] > 0]
    apart = found.loc[found["hit_difference"].abs().idxmax()] if found["hit_difference"].notna().any() else None
    numbers = {
        "runs": len(found), "median_error": errors.median(), "largest_error": errors.max(), "moved": len(moved),
        "same_transfers": int(moved["same_transfers"].sum()),
        "largest_hit_ratio_difference": np.nan if apart is None else abs(apart["hit_difference"]),
    }  # fmt: skip
    return (
        f"Simulated against executed median latency: error {errors.median():.1%} in the middle, {errors.max():.1%} "
        f"at worst, over {len(found)} runs. Of {len(moved)} that moved experts {numbers['same_transfers']} moved the "
        f"very same in the same order; hit ratios differ by at most {numbers['largest_hit_ratio_difference']:.4f}.",
        numbers,
    )
