"""SwapMoE's trade: how much memory and latency are saved at what loss of quality, and which way to choose residents.

Quality is that of the live model under masked gating (`collect swap-quality`), latency that of executed runs on the
recorded trace; both at the same number of slots per layer.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd

from moe_replay.analysis.estimates.intervals import half_width
from moe_replay.analysis.reading.csv_logs import MEASURES, read_csv_log
from moe_replay.analysis.reading.inputs import Inputs
from moe_replay.analysis.reading.knowledge_words import said_of_knowledge
from moe_replay.analysis.reading.log_sets import MEMORY_EXECUTED, SWAP_QUALITY, LogSet
from moe_replay.analysis.tables.swap_latency import RESIDENT, fidelity_sentence, memory_executed_rows
from moe_replay.analysis.written_tables import hole_row, holes, write_claims, write_tables
from moe_replay.simulate.policies.memory.knowledge_source import HELD_OUT, NONE
from moe_replay.simulate.policies.memory.swap_scheduler import LEARNED_METHODS
from moe_replay.traces.errors import InputError

SOURCES = {"swap_tradeoff": SWAP_QUALITY, "swap_latency": MEMORY_EXECUTED}
NORMAL = 1.96  # 95 %, of standard errors over hundreds of units
QUALITY_COLUMNS = {
    "method": None, "miss": None, "slots": None, "period": None, "seed": None, "lost_mass": None, "measure": MEASURES,
    "units": (2, 2**31), "quality": (0, 100), "quality_error": (0, 100), "loss": (-100, 100), "loss_error": (0, 100),
}  # fmt: skip


def build_swap_tradeoff(inputs: Inputs, out: Path) -> list[str]:
    """Write `swap_tradeoff` and `swap_latency`; sets without their logs are left out."""
    tables: dict[str, list[dict]] = {name: [] for name in SOURCES}
    for log_set in inputs.sets:
        if (log_set.folder / SWAP_QUALITY).exists():
            tables["swap_tradeoff"] += quality_rows(inputs, log_set)
        if (log_set.folder / MEMORY_EXECUTED).is_dir():
            tables["swap_latency"] += memory_executed_rows(inputs, log_set)
    for name, source in SOURCES.items():
        tables[name] = tables[name] or [hole_row("all sets", None, f"no set holds {source}")]
    written = write_tables(out, tables, inputs.used(SWAP_QUALITY) | inputs.within(MEMORY_EXECUTED))
    trade, latency = written["swap_tradeoff"], written["swap_latency"]
    sentence, numbers = fidelity_sentence(latency)
    claim = tradeoff_claim(trade, latency)
    claim = {"claim": f"{claim['claim']} {sentence}", "numbers": {**claim["numbers"], "fidelity": numbers}}
    write_claims(out, {"swap_tradeoff": claim})
    return holes(trade) + holes(latency)


def quality_rows(inputs: Inputs, log_set: LogSet) -> list[dict]:
    """Return the rows of a set's quality under masked gating, random choices combined."""
    table, reason = inputs.read(log_set, SWAP_QUALITY, lambda path: read_csv_log(path, QUALITY_COLUMNS))
    about, other = inputs.read(log_set, SWAP_QUALITY.replace(".csv", ".json"), read_about)
    if table is None or about is None:
        return [hole_row(log_set.name, None, reason or other)]
    rows = []
    for (method, miss, slots, period), own in table.groupby(["method", "miss", "slots", "period"], dropna=False):
        units_error = float(np.sqrt((own["loss_error"] ** 2).mean()))
        between = half_width(own["loss"].to_numpy()) if len(own) > 1 else 0.0
        rows.append({
            "set": log_set.name, "status": "ok", "reason": "", "method": method, "miss": miss, "slots": slots,
            "period": period, "known": HELD_OUT if method in LEARNED_METHODS else NONE, "draws": len(own),
            "measure": own["measure"].iloc[0], "units": own["units"].iloc[0],
            "quality": own["quality"].mean(), "loss": own["loss"].mean(),
            "loss_half_width": max(NORMAL * units_error, between), "lost_mass": own["lost_mass"].mean(),
            "experts": about["experts"], "memory_bytes": memory_bytes(method, slots, about),
            "memory_share": memory_bytes(method, slots, about) / about["model_bytes"],
        })  # fmt: skip
    return rows


def read_about(path: Path) -> dict:
    """Return the JSON beside a table; InputError where it cannot be read."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: {'no such file' if isinstance(error, OSError) else 'not JSON'}") from None


def memory_bytes(method: str, slots: float, about: dict) -> float:
    """Return the bytes of weights that have to be on the device: the slots, and everything that is no expert."""
    if method == "dense":
        return about["dense"]["model_bytes"]
    missing = 0 if np.isnan(slots) else about["experts"] - slots
    return about["model_bytes"] - missing * about["layers"] * about["expert_bytes"]


def tradeoff_claim(trade: pd.DataFrame, latency: pd.DataFrame) -> dict:
    """Return the sentence that the paper has: memory and latency saved, and the loss of quality that this costs."""
    if "loss" not in trade or "executed_mean_ms" not in latency:
        return latency_alone(latency) or {"claim": "No log of swapping could be read.", "numbers": {}}
    sentences, numbers = [], {}
    alone = latency[(latency["status"] == "ok") & (latency["in_flight"] == 1)]
    for name, own in trade[trade["status"] == "ok"].groupby("set", sort=False):
        half = own["experts"].iloc[0] // 2
        at = own[(own["slots"] == half) & (own["miss"] == "redirect")]
        swapped = at[at["method"] == "swapmoe"].sort_values("loss")
        if swapped.empty:
            continue
        best, rest = swapped.iloc[0], at[at["method"] != "swapmoe"].sort_values("loss")
        unit = "bits per byte" if best["measure"] == "bits_per_byte" else "of accuracy"
        others = ", ".join(
            f"{row['method']} {row['loss']:.3f} ± {row['loss_half_width']:.3f}" for row in rest.to_dict("records")
        )
        sentences.append(
            f"{name}: with {half} of {best['experts']} experts resident (memory -{1 - best['memory_share']:.0%}) "
            f"SwapMoE (period {best['period']:g}) loses {best['loss']:.3f} ± {best['loss_half_width']:.3f} {unit}; "
            f"residents chosen once: {others}." + dense_sentence(own)
        )
        numbers[name] = {"slots": half, "memory_saved": 1 - best["memory_share"], "loss": best["loss"]}
        times = alone[(alone["set"] == name) & ((alone["slots"] == half) | (alone["cache"] == RESIDENT))]
        if not times.empty:
            sentences.append(latency_sentence(times, numbers[name]))
    if sentences:
        sentences.append(said_of_knowledge(trade[trade["status"] == "ok"], "method"))
    others = latency_alone(latency[~latency["set"].isin(trade["set"])])
    if others:
        sentences.append(others["claim"])
        numbers |= others["numbers"]
    return {"claim": " ".join(sentences), "numbers": numbers}


def latency_alone(latency: pd.DataFrame) -> dict:
    """Return sentence and numbers of sets that have latencies and no quality (random weights); empty without them."""
    if "executed_mean_ms" not in latency:
        return {}
    alone = latency[(latency["status"] == "ok") & (latency["in_flight"] == 1)]
    sentences, numbers = [], {}
    for name, own in alone.groupby("set", sort=False):
        slots = sorted(pd.to_numeric(own["slots"], errors="coerce").dropna().unique())
        if not slots:
            continue
        middle = slots[len(slots) // 2]
        numbers[name] = {"slots": int(middle)}
        told = latency_sentence(own[(own["slots"] == middle) | (own["cache"] == RESIDENT)], numbers[name])
        sentences.append(f"{name}, {middle:g} slots per layer: {told[:1].lower()}{told[1:]}")
    return {"claim": " ".join(sentences), "numbers": numbers} if sentences else {}


def dense_sentence(rows: pd.DataFrame) -> str:
    """Return what a dense model of its own loses against the mixture, nothing where none was measured."""
    dense = rows[rows["method"] == "dense"]
    if dense.empty:
        return ""
    share, loss, half = (float(dense[name].iloc[0]) for name in ("memory_share", "loss", "loss_half_width"))
    return f" A dense model (memory -{1 - share:.0%}) loses {loss:.3f} ± {half:.3f}."


def latency_sentence(times: pd.DataFrame, numbers: dict) -> str:
    """Return what a pass takes at batch 1, executed: resident, swapped, on demand, each the fastest run of its kind."""
    plain = times["prefetch"] == "none"
    kinds = {
        "with all experts resident": times["cache"] == RESIDENT,
        "masked": (times["miss"] == "redirect") & times["period"].isna(),
        "swapped": (times["miss"] == "redirect") & times["period"].notna(),
        "on demand": (times["miss"] == "load") & plain,
        "on demand with loads that block": (times["miss"] == "block") & plain,
    }  # fmt: skip
    said = []
    for kind, own in kinds.items():
        if own.any():
            run = times.loc[times.loc[own, "executed_mean_ms"].idxmin()]
            numbers[f"{kind} ms"] = run["executed_mean_ms"]
            said.append(f"{run['executed_mean_ms']:.2f} ± {run['executed_mean_half_ms']:.2f} ms {kind}")
    return f"A pass at batch 1 takes {', '.join(said)} at the same slots."
