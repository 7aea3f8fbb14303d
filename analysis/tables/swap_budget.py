"""Do plans keep their budgets? What `simulate plan` promised beside what `collect swap-profile --plans` measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from moe_replay.analysis.reading.configurations import NOT_SAID
from moe_replay.analysis.reading.csv_logs import MEASURES, read_csv_log
from moe_replay.analysis.reading.inputs import Inputs
from moe_replay.analysis.reading.log_sets import SWAP_PLANS, SWAP_VERIFIED, LogSet
from moe_replay.analysis.tables.swap_tradeoff import read_about
from moe_replay.analysis.written_tables import hole_row, holes, write_claims, write_tables
from moe_replay.simulate.policies.memory.knowledge_source import HELD_OUT, HINDSIGHT

NAME = "swap_budget"
ABOUT = SWAP_VERIFIED.replace(".csv", ".json")
NORMAL = 1.96
PLAN_COLUMNS = {
    "memory_budget": (0, 1e15), "latency_budget": None, "search": None, "slots": None, "period": (0, 2**31),
    "predicted_loss": (0, 1000), "predicted_latency_ms": (0, 1e9), "predicted_memory_bytes": (0, 1e15),
    "seconds": (0, 1e6),
}  # fmt: skip
MEASURED_COLUMNS = {
    "slots": None, "period": (0, 2**31), "loss": (-100, 1000), "loss_error": (0, 100), "latency_ms": (0, 1e9),
    "memory_bytes": (0, 1e15), "measure": MEASURES, "quality": (0, 1000),
}  # fmt: skip


def build_swap_budget(inputs: Inputs, out: Path) -> list[str]:
    """Write the table `swap_budget` and its claim; sets without plans are left out."""
    rows: list[dict] = []
    for log_set in inputs.sets:
        if (log_set.folder / SWAP_PLANS).exists():
            rows += budget_rows(inputs, log_set)
    rows = rows or [hole_row("all sets", None, f"no set holds {SWAP_PLANS}")]
    used = inputs.used(SWAP_PLANS) | inputs.used(SWAP_VERIFIED) | inputs.used(ABOUT)
    table = write_tables(out, {NAME: rows}, used)[NAME]
    write_claims(out, {NAME: budget_claim(table)})
    return holes(table)


def budget_rows(inputs: Inputs, log_set: LogSet) -> list[dict]:
    """Return a row per plan of a set: budget, promise, measurement, and what was violated."""
    plans, reason = inputs.read(log_set, SWAP_PLANS, lambda path: read_csv_log(path, PLAN_COLUMNS))
    measured, other = inputs.read(log_set, SWAP_VERIFIED, lambda path: read_csv_log(path, MEASURED_COLUMNS))
    if plans is None or measured is None:
        return [hole_row(log_set.name, None, reason or other)]
    if "known" not in measured:
        about, _ = inputs.read(log_set, ABOUT, read_about)
        measured["known"] = known_by_command(about or {})
    for table in (plans, measured):
        table["slots"] = table["slots"].astype(str)
    joined = plans.merge(measured, on=["slots", "period"], how="left")
    if joined["latency_ms"].isna().any():
        return [hole_row(log_set.name, plans, f"{SWAP_VERIFIED} lacks a plan of {SWAP_PLANS}")]
    latency_budget = pd.to_numeric(joined["latency_budget"], errors="coerce").fillna(np.inf)
    joined["loss_half_width"] = NORMAL * joined["loss_error"]
    joined["memory_kept"] = joined["memory_bytes"] <= joined["memory_budget"]
    joined["latency_kept"] = joined["latency_ms"] <= latency_budget
    joined.insert(0, "reason", "")
    joined.insert(0, "status", "ok")
    joined.insert(0, "set", log_set.name)
    return joined.to_dict("records")


def known_by_command(about: dict) -> str:
    """Return what a measurement without the column `known` knew of importance, from the command that made it.

    Importance then came from `--known`, by default the very trace that was served.
    """
    words = str(about.get("provenance", {}).get("command", "")).split()
    given = {option: words[words.index(option) + 1 :][:1] for option in ("--known", "--trace") if option in words}
    if "--trace" not in given:
        return NOT_SAID
    return HELD_OUT if given.get("--known", given["--trace"]) != given["--trace"] else HINDSIGHT


def budget_claim(rows: pd.DataFrame) -> dict:
    """Return the sentence: how many plans kept both budgets when executed, which search won, how far off it was."""
    fine = rows[rows["status"] == "ok"] if "loss" in rows else rows.iloc[:0]
    if fine.empty:
        return {"claim": "No plan was measured.", "numbers": {}}
    kept = fine["memory_kept"] & fine["latency_kept"]
    by_search = fine.pivot_table(
        index=["set", "memory_budget", "latency_budget"], columns="search", values="predicted_loss", dropna=False
    ).dropna()
    gap = (by_search["genetic"] / by_search["exact"] - 1).max() if {"genetic", "exact"} <= set(by_search) else np.nan
    off = (fine["predicted_loss"] - fine["loss"]).abs()
    latency_off = (fine["predicted_latency_ms"] / fine["latency_ms"] - 1).abs()
    numbers = {
        "plans": len(fine), "kept": int(kept.sum()), "largest_gap_of_genetic": gap, "median_loss_error": off.median(),
        "median_latency_error": latency_off.median(), "slowest_search_s": fine["seconds"].max(),
    }  # fmt: skip
    broken = [
        f"{row['search']} at {row['memory_budget'] / 1e6:.1f} MB"
        + (f", {row['latency_budget']:g} ms" if pd.notna(row["latency_budget"]) else "")
        + f" ({'memory' if not row['memory_kept'] else 'latency'})"
        for row in fine[~kept].to_dict("records")
    ]
    numbers["better_than_uniform"] = ahead = lead_of_exact(fine)
    said = ", ".join(f"{loss:.3f} against {plain:.3f} at {memory / 1e6:.0f} MB" for memory, loss, plain in ahead)
    return {
        "claim": f"{numbers['kept']} of {len(fine)} plans kept both budgets when executed"
        + (f" (broken: {'; '.join(broken)})" if broken else "")
        + f". The exact search promises up to {gap:.1%} less loss than the genetic one; promised and measured loss "
        f"differ by {off.median():.3f} in the middle, latency by {latency_off.median():.1%}; no search took longer "
        f"than {fine['seconds'].max():.1f} s. Measured loss of the exact plan against all layers alike: {said}.",
        "numbers": numbers,
    }


def lead_of_exact(rows: pd.DataFrame) -> list[tuple[float, float, float]]:
    """Return (memory budget, measured loss of the exact plan, of all layers alike) at the loosest latency budgets."""
    budget = pd.to_numeric(rows["latency_budget"], errors="coerce").fillna(np.inf)
    loose = rows[budget == budget.groupby(rows["set"]).transform("max")]
    by_search = loose.pivot_table(index="memory_budget", columns="search", values="loss")
    if not {"exact", "uniform"} <= set(by_search):
        return []
    pairs = by_search[["exact", "uniform"]].dropna()
    return [(float(memory), float(row["exact"]), float(row["uniform"])) for memory, row in pairs.iterrows()]
