"""Which expert does a cache miss? Miss ratios against slots, one access after another and step by step (Huang et al.).

One access after another (flat) every selection is an access; step by step (group) the experts that a step selects in a
layer run in ascending order, once each, as batched engines do: there the rule of arXiv 2303.06182 (LIFO) was made for.
"""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path

import pandas as pd

from moe_replay.analysis.reading.counted_misses import MISSES, read_misses
from moe_replay.analysis.reading.inputs import Inputs
from moe_replay.analysis.reading.knowledge_words import said_of_knowledge
from moe_replay.analysis.reading.log_sets import LANGUAGE_TRACES, STEPWISE_TRACE, LogSet
from moe_replay.analysis.reading.setting_words import trace_words
from moe_replay.analysis.written_tables import hole_row, holes, write_claims, write_tables
from moe_replay.traces.file.trace_file import load_trace
from moe_replay.traces.glossary.lookup import title

NAME = "miss_ratio"
OPTIMA = ("belady", "belady-bypass")
TRACES = (*LANGUAGE_TRACES, STEPWISE_TRACE)


def build_miss_ratio(inputs: Inputs, out: Path) -> list[str]:
    """Write the table `miss_ratio` and its claim, from what was counted on every trace of a language model."""
    rows: list[dict] = []
    for log_set in inputs.sets:
        for name in TRACES:
            if (log_set.folder / name).exists():
                rows += set_rows(inputs, log_set, name)
    if not rows:
        rows.append(hole_row("all sets", None, f"no set holds {TRACES[0]}"))
    used = {path: digest for name in TRACES for path, digest in inputs.used(name).items()}
    return holes(write_miss_ratio(out, rows, used | inputs.within(MISSES)))


def set_rows(inputs: Inputs, log_set: LogSet, name: str) -> list[dict]:
    """Return the rows of one trace of a set, or a hole: what could not be read, or was not counted."""
    short = name.removesuffix(".trace.parquet")
    trace, reason = inputs.read(log_set, name, load_trace)
    if trace is not None:
        read = partial(read_misses, digest=trace.digest)
        counted, reason = inputs.read_simulated(log_set, f"{MISSES}/{short}.csv", read)
        if counted is not None:
            return trace_rows(log_set.name, short, counted)
    return [{**hole_row(log_set.name, None, reason), "trace": short}]


def write_miss_ratio(out: Path, rows: list[dict], digests: dict[str, str]) -> pd.DataFrame:
    """Write the table and the claim, and return the table."""
    table = write_tables(out, {NAME: rows}, digests)[NAME]
    write_claims(out, {NAME: miss_ratio_claim(table)})
    return table


def trace_rows(name: str, source: str, counted: list[dict]) -> list[dict]:
    """Return the rows of one trace from its miss counts, each beside LRU's and the optimum's with as many slots."""
    optimum = {(row["mode"], row["slots"]): row["miss_ratio"] for row in counted if row["policy"] == "belady"}
    lru = {(row["mode"], row["slots"]): row["misses"] for row in counted if row["policy"] == "lru"}
    return [
        {"set": name, "trace": source, "status": "ok", "reason": "", **row,
         "over_lru_percent": over_percent(row["misses"], lru[row["mode"], row["slots"]]),
         "over_optimum_points": 100 * (row["miss_ratio"] - optimum.get((row["mode"], row["slots"]), math.nan))}
        for row in counted
    ]  # fmt: skip


def over_percent(misses: int, of_lru: int) -> float:
    """Return how many percent more misses than LRU a policy has; NaN where LRU has none."""
    return 100 * (misses / of_lru - 1) if of_lru else math.nan


def shown_misses(rows: pd.DataFrame) -> pd.DataFrame:
    """Return miss ratios as texts: a row per trace, mode and number of slots (flat: those of the replays by step)."""
    grouped = rows.loc[rows["mode"] == "group", ["trace", "slots"]].drop_duplicates()
    few = rows.merge(grouped, on=["trace", "slots"])
    per_step = title("experts_per_step")
    few = few.assign(**{per_step: few["experts_per_step"].map("{:.3f}".format)})
    index = ["trace", "mode", "grouping", "emptied", per_step, "slots"]
    table = few.pivot_table(index=index, columns="policy", values="miss_ratio", sort=False)
    texts = table.map(lambda value: "" if pd.isna(value) else f"{value:.3f}")
    return texts.reset_index().astype(str)


def miss_ratio_claim(rows: pd.DataFrame) -> dict:
    """Return the sentence: the best policy's distance from the optimum, and where LIFO beats LRU and FIFO."""
    fine = rows[rows["status"] == "ok"] if "miss_ratio" in rows else rows.iloc[:0]
    if fine.empty:
        return {"claim": "No trace could be replayed.", "numbers": {}}
    sentences, numbers = [], {}
    for (name, source), own in fine.groupby(["set", "trace"], sort=False):
        flat, grouped = (of_mode(own, mode) for mode in ("flat", "group"))
        half = int(own["experts"].iloc[0]) // 2
        at = flat.loc[half]
        best = at.drop(list(OPTIMA)).idxmin()
        wins = [
            slots for slots in grouped.index if grouped.loc[slots, "lifo"] < grouped.loc[slots, ["lru", "fifo"]].min()
        ]
        losses = [slots for slots in grouped.index if slots not in wins]
        size = own.loc[own["mode"] == "group", "experts_per_step"].iloc[0]
        said = ", ".join(map(str, wins)) if wins else "no number of slots tried"
        also = f" and not at {', '.join(map(str, losses))} slots." if losses and wins else "."
        sentences.append(
            f"{trace_words(name, source)}: with {half} slots per layer {best} misses {at[best]:.1%} of accesses, the "
            f"optimum {at['belady']:.1%}; step by step ({size:.1f} experts per layer and step) LIFO misses least of "
            f"LIFO, LRU and FIFO at {said}{also}"
        )
        numbers[f"{name} {source}"] = {
            "slots": half, **{f"flat {policy}": value for policy, value in at.items()},
            "lifo_best_at": wins, "group_size": size,
        }  # fmt: skip
    sentences.append(said_of_knowledge(fine))
    return {"claim": " ".join(sentences), "numbers": numbers}


def of_mode(rows: pd.DataFrame, mode: str) -> pd.DataFrame:
    """Return miss ratios by slots (rows) and policy (columns) of one mode."""
    return rows[rows["mode"] == mode].pivot(index="slots", columns="policy", values="miss_ratio")
