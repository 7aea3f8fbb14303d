"""Miss curves as an answer: several policies at several numbers of slots, of the first sequences or of all."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from moe_replay.simulate.misses.miss_tables import MissPlan, miss_rows
from moe_replay.simulate.policies.memory.expert_worth import known_from
from moe_replay.simulate.policies.memory.knowledge_source import lesson_of
from moe_replay.simulate.sweeps.shared_inputs import Study
from moe_replay.traces.selections import Trace

MOST_SLOTS = 16  # numbers of slots of a curve: more cost time and show no more
OPTIMUM = "belady-bypass"  # no policy misses less, whether it must keep what it loads or not


@dataclass(frozen=True)
class MissAnswer:
    """Miss ratios: (slots, miss ratio, misses) lists by policy, of `sequences` of the `of` that are counted.

    `said` is what a reader must know of how policies learned.
    """

    curves: dict[str, list[tuple[int, float, int]]]
    accesses: int
    sequences: int
    of: int
    said: str = ""


def counted(study: Study, policies: tuple[str, ...], k: int, grouping: str, most: int | None = None) -> MissAnswer:
    """Return the misses of policies, and of the optimum, at up to MOST_SLOTS numbers of slots per layer.

    At most `most` selections are counted (None: all). The numbers of a whole trace are those of `simulate misses`.
    InputError as there.
    """
    trace = study.opened("trace").trace
    plan = MissPlan(
        tuple(dict.fromkeys((*policies, OPTIMUM))), slots_shown(trace.E, MOST_SLOTS), k=k, grouping=grouping
    )
    lesson = lesson_of(trace, None, plan.needs())
    whole = lesson.counted(trace)
    part = first_sequences(whole, k, most)
    rows = miss_rows(part, plan, known_from(lesson.trace, k, plan.needs(), lesson.mark))
    curves: dict[str, list[tuple[int, float, int]]] = {}
    for row in rows:
        if row["layer"] == "all":
            ratio = row["miss_ratio"] if row["accesses"] else float("nan")
            curves.setdefault(row["policy"], []).append((row["slots"], ratio, row["misses"]))
    return MissAnswer(curves, rows[0]["accesses"], part.S, whole.S, lesson.said)


def slots_shown(experts: int, most: int) -> tuple[int, ...]:
    """Return about evenly spaced numbers of slots, 1 and all experts among them."""
    return tuple(int(each) for each in np.unique(np.linspace(1, experts, min(experts, most)).round()))


def first_sequences(trace: Trace, k: int, most: int | None) -> Trace:
    """Return the rows of the first sequences with at most `most` selections together, at least one sequence."""
    if most is None:
        return trace
    per_row = k * trace.L
    rows_S = np.bincount(np.searchsorted(trace.sequences_S, trace.sequence_T), minlength=trace.S)
    kept = max(1, int(np.searchsorted(np.cumsum(rows_S) * per_row, most, "right")))
    return trace if kept == trace.S else trace.only(trace.sequence_T < trace.sequences_S[kept])
