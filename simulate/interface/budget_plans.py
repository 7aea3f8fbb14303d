"""`moe_replay.plan`: slots of every layer within a budget of memory and latency."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from moe_replay.simulate.interface.table_result import TableResult
from moe_replay.simulate.planning.fitted_models import fit
from moe_replay.simulate.planning.measurements import read_profiles
from moe_replay.simulate.planning.plan_rows import plan_rows
from moe_replay.simulate.planning.search import Budget
from moe_replay.traces.errors import InputError

PRINTED = [
    "memory_budget", "latency_budget", "search", "slots", "period", "predicted_loss", "predicted_latency_ms",
    "predicted_memory_bytes",
]  # fmt: skip


class Plans(TableResult):
    """Plans by budget, the best first: slots of every layer (`4.8.16`) and passes between changes (period, 0: none).

    Bytes and milliseconds, as in the table that `simulate plan --out` writes.
    """

    def summary(self) -> str:
        """Return the plans as a table for people, and the budgets that no plan meets."""
        return self.text(PRINTED)


def plan(
    profiles: Path | str | Sequence[Path | str],
    *,
    memory_bytes: float | Sequence[float],
    pass_latency_s: float | Sequence[float] | None = None,
) -> Plans:
    """Plan how many experts of each layer stay on the device, and how often they change, within a budget.

    `profiles` are tables that `python -m collect swap-profile` wrote, of one model. `memory_bytes` is the most that may
    lie on the device, `pass_latency_s` the most seconds that a pass takes in the mean (None: any); several budgets are
    combined. Three searches answer each: exact, genetic and uniform.

    InputError where the tables do not fit each other, or no plan meets any budget; `said` names single ones.
    """
    paths = [profiles] if isinstance(profiles, str | Path) else list(profiles)
    profile = read_profiles(paths)
    latencies_ms = [None if each is None else each * 1e3 for each in numbers("pass_latency_s", pass_latency_s)]
    budgets = [
        Budget(float(memory), latency) for memory in numbers("memory_bytes", memory_bytes) for latency in latencies_ms
    ]
    rows, refused = plan_rows(fit(profile), profile.layers, budgets)
    if not rows:
        raise InputError("; ".join(refused))
    return Plans(tuple(rows), tuple(refused))


def numbers(name: str, given: float | Sequence[float] | None) -> list[float | None]:
    """Return one or several numbers; InputError for anything that is none, or not above 0."""
    values = list(given) if isinstance(given, list | tuple) else [given]
    for value in values:
        missing = value is None and name == "pass_latency_s"
        if not missing and (isinstance(value, bool | str) or not isinstance(value, int | float) or not value > 0):
            raise InputError(f"{name} is {value!r}, allowed: numbers > 0")
    if not values:
        raise InputError(f"{name} has no values; allowed: one or more")
    return values
