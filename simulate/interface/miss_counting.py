"""`moe_replay.count_misses`: misses of expert caches, without time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from moe_replay.simulate.interface.arguments import learned_from, opened
from moe_replay.simulate.interface.table_result import TableResult
from moe_replay.simulate.misses.miss_tables import MissPlan, miss_rows
from moe_replay.simulate.policies.memory.expert_worth import known_from
from moe_replay.traces.describe import default_k
from moe_replay.traces.routes import uncomputed
from moe_replay.traces.selections import Trace

if TYPE_CHECKING:
    import pandas as pd

PRINTED = ["policy", "prefetcher", "slots", "known", "accesses", "misses", "miss_ratio", "transfers"]


class MissCounts(TableResult):
    """Misses by policy, prefetcher and number of slots; the rows are those that `simulate misses --out` writes."""

    def to_pandas(self, per_layer: bool = False) -> pd.DataFrame:
        """Return a row per policy, prefetcher and number of slots, `per_layer` also those of every layer's cache.

        `miss_ratio` is misses over accesses, a fraction; NaN where nothing was accessed.
        """
        import pandas as pd

        rows = [row for row in self.rows if per_layer or row["layer"] == "all"]
        return pd.DataFrame(rows).astype({"miss_ratio": float})

    def summary(self) -> str:
        """Return the counts of all layers together as a table for people."""
        whole = tuple(row for row in self.rows if row["layer"] == "all")
        return TableResult(whole, self.said).text(PRINTED)


def count_misses(
    trace: Trace | Path | str,
    *,
    cache: str | Sequence[str] = ("lru", "belady"),
    slots: int | Sequence[int] | None = None,
    mode: str = "group",
    scope: str = "layer",
    prefetch: str | Sequence[str] = "none",
    look_ahead: int = 1,
    group: str = "pass",
    emptied: str = "never",
    filled: bool = False,
    k: int | None = None,
    known: Trace | Path | str | None = None,
    seed: int = 0,
) -> MissCounts:
    """Count the misses of expert caches on a trace (or its file): every policy, number of slots and prefetcher.

    Arguments have the names of the options of `python -m simulate misses`, and the rows are those of its table. `cache`
    names policies. `slots` is the number of experts that each cache holds, one or several; None counts all numbers of
    them. Mode `group` asks for a layer's experts of a pass (or, with `group="step"`, of a step) together, as an engine
    does; `flat` takes every selection for itself. `scope` is `layer`, a cache for each, or `global`. `look_ahead` is
    how many groups the oracle prefetcher sees. Caches are `emptied` `never`, or before every `sequence`; `filled`
    starts with the most popular experts in the slots. `k` counts the first k selections (the model's own k). `known`
    is the trace that policies learn from, or `hindsight`; left out, they learn from the first half, and the second is
    counted. `seed` is that of the random policy.

    InputError for an unknown name, more slots than experts, and what else cannot be.
    """
    trace = opened(trace)
    plan = MissPlan(
        policies=names(cache), slots=(slots,) if isinstance(slots, int) else tuple(slots or ()), mode=mode,
        scope=scope, prefetchers=names(prefetch), look_ahead=look_ahead, grouping=group,
        emptied=emptied, filled=filled, k=default_k(trace) if k is None else k, seed=seed,
    )  # fmt: skip
    lesson = learned_from(trace, known, plan.needs())
    knowledge = known_from(lesson.trace, plan.k, plan.needs(), lesson.mark)
    rows = miss_rows(lesson.counted(trace), plan, knowledge)
    unrouted = [f"no access: {said}" for said in uncomputed(trace, plan.k)]
    return MissCounts(tuple(map(with_none, rows)), (*unrouted, *([lesson.said] if lesson.said else [])))


def with_none(row: dict) -> dict:
    """Return a row in which a ratio of no accesses is None, where a file has an empty field."""
    return row | {"miss_ratio": None if row["miss_ratio"] == "" else row["miss_ratio"]}


def names(given: str | Sequence[str]) -> tuple[str, ...]:
    """Return names, of which one may be given by itself."""
    return (given,) if isinstance(given, str) else tuple(given)
