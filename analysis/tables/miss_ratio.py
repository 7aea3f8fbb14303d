"""Which expert does a cache miss? Miss ratios against slots, one access after another and step by step (Huang et al.).

One access after another (flat) every selection is an access; step by step (group) the experts that a step selects in a
layer run in ascending order, once each, as batched engines do: there the rule of arXiv 2303.06182 (LIFO) was made for.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from moe_replay.analysis.reading.inputs import Inputs
from moe_replay.analysis.reading.knowledge_words import said_of_knowledge
from moe_replay.analysis.reading.log_sets import LANGUAGE_TRACES, STEPWISE_TRACE
from moe_replay.analysis.written_tables import hole_row, holes, write_claims, write_tables
from moe_replay.simulate.misses.miss_tables import MissPlan, miss_rows
from moe_replay.simulate.policies.memory.expert_worth import known_from
from moe_replay.traces.describe import slots
from moe_replay.traces.file.trace_file import load_trace
from moe_replay.traces.glossary.lookup import title
from moe_replay.traces.selections import Trace

NAME = "miss_ratio"
FLAT = ("lru", "fifo", "lfu", "sieve", "belady", "belady-bypass")
GROUPED = ("lru", "fifo", "lifo", "lfu", "belady", "belady-bypass")
OPTIMA = ("belady", "belady-bypass")
KEPT = ("policy", "slots", "known", "mode", "grouping", "emptied", "accesses", "misses", "miss_ratio")
TRACES = (*LANGUAGE_TRACES, STEPWISE_TRACE)
SHARES = (8, 4, 2, 4 / 3)  # experts over slots, of the replays step by step


def build_miss_ratio(inputs: Inputs, out: Path) -> list[str]:
    """Write the table `miss_ratio` and its claim, from every trace of a language model."""
    rows: list[dict] = []
    for log_set in inputs.sets:
        for name in TRACES:
            if (log_set.folder / name).exists():
                trace, reason = inputs.read(log_set, name, load_trace)
                short = name.removesuffix(".trace.parquet")
                if trace is None:
                    rows.append({**hole_row(log_set.name, None, reason), "trace": short})
                else:
                    rows += trace_rows(log_set.name, short, trace)
    if not rows:
        rows.append(hole_row("all sets", None, f"no set holds {TRACES[0]}"))
    used = {path: digest for name in TRACES for path, digest in inputs.used(name).items()}
    return holes(write_miss_ratio(out, rows, used))


def write_miss_ratio(out: Path, rows: list[dict], digests: dict[str, str]) -> pd.DataFrame:
    """Write the table and the claim, and return the table."""
    table = write_tables(out, {NAME: rows}, digests)[NAME]
    write_claims(out, {NAME: miss_ratio_claim(table)})
    return table


def trace_rows(
    name: str, source: str, trace: Trace, grouped: tuple[str, ...] = GROUPED, per_sequence: bool = False
) -> list[dict]:
    """Return the rows of one trace: flat at every number of slots, step by step at a few.

    With `per_sequence` every sequence meets empty slots; its passes then run one by one, since a step serves several.
    """
    k = trace.header.model.used_k
    few = tuple(sorted({max(1, round(trace.E / share)) for share in SHARES}))
    plans = [
        MissPlan(FLAT, mode="flat", k=k, reset_per_sequence=per_sequence),
        MissPlan(grouped, few, grouping="pass" if per_sequence else "step", k=k, reset_per_sequence=per_sequence),
    ]
    rows = []
    for plan in plans:
        found = miss_rows(trace, plan, known_from(trace, k, plan.needs()))
        rows += [
            {
                "set": name, "trace": source, "status": "ok", "reason": "",
                **{column: row[column] for column in KEPT}, "experts": trace.E,
                "experts_per_step": group_size(row, trace) if plan.mode == "group" else 1.0,
            }
            for row in found if row["layer"] == "all"
        ]  # fmt: skip
    return rows


def group_size(row: dict, trace: Trace) -> float:
    """Return how many distinct experts of a layer a step (or pass) runs, on average over those that run any there."""
    runs_TL = (slots(trace, trace.header.model.used_k) >= 0).any(2)
    passes = trace.passes
    pass_T = np.repeat(np.arange(len(passes)), passes.last_row_P - passes.first_row_P + 1)
    group_T = trace.step_T if row["grouping"] == "step" else pass_T
    return row["accesses"] / sum(len(set(group_T[runs_T].tolist())) for runs_T in runs_TL.T)


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
        sentences.append(
            f"{source}: with {half} slots per layer {best} misses {at[best]:.1%} of accesses, the optimum "
            f"{at['belady']:.1%}; step by step ({size:.1f} experts per layer and step) LIFO misses least of LIFO, LRU "
            f"and FIFO at {said}" + (f" and not at {', '.join(map(str, losses))} slots." if losses and wins else ".")
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
