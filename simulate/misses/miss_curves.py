"""Miss curves of a trace, for `analysis miss-ratio`: the usual policies, one access after another and step by step."""

from __future__ import annotations

import numpy as np

from moe_replay.simulate.misses.miss_tables import MissPlan, miss_rows
from moe_replay.simulate.policies.memory.expert_worth import known_from
from moe_replay.traces.describe import slots
from moe_replay.traces.selections import Trace

FLAT = ("lru", "fifo", "lfu", "sieve", "belady", "belady-bypass")
GROUPED = ("lru", "fifo", "lifo", "lfu", "belady", "belady-bypass")
SHARES = (8, 4, 2, 4 / 3)  # experts over slots, of the replays step by step
KEPT = ("policy", "slots", "known", "mode", "grouping", "emptied", "accesses", "misses", "miss_ratio")


def curve_rows(trace: Trace, emptied: str = "never", grouped: tuple[str, ...] = GROUPED) -> list[dict]:
    """Return the rows over all layers: flat at every number of slots, step by step at a few.

    `emptied` before every `sequence`, each meets empty slots; its passes then run one by one, since a step serves
    several.
    """
    k = trace.header.model.used_k
    few = tuple(sorted({max(1, round(trace.E / share)) for share in SHARES}))
    plans = [
        MissPlan(FLAT, mode="flat", k=k, emptied=emptied),
        MissPlan(grouped, few, grouping="pass" if emptied == "sequence" else "step", k=k, emptied=emptied),
    ]
    rows = []
    for plan in plans:
        found = [row for row in miss_rows(trace, plan, known_from(trace, k, plan.needs())) if row["layer"] == "all"]
        rows += [
            {
                **{column: row[column] for column in KEPT}, "experts": trace.E,
                "experts_per_step": group_size(row, trace) if plan.mode == "group" else 1.0,
            }
            for row in found
        ]  # fmt: skip
    return rows


def group_size(row: dict, trace: Trace) -> float:
    """Return how many distinct experts of a layer a step (or pass) runs, on average over those that run any there."""
    runs_TL = (slots(trace, trace.header.model.used_k) >= 0).any(2)
    passes = trace.passes
    pass_T = np.repeat(np.arange(len(passes)), passes.last_row_P - passes.first_row_P + 1)
    group_T = trace.step_T if row["grouping"] == "step" else pass_T
    return row["accesses"] / sum(len(set(group_T[runs_T].tolist())) for runs_T in runs_TL.T)
