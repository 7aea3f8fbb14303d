"""`moe_replay.sweep`: many configurations of one trace, many seeds each."""

from __future__ import annotations

import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from moe_replay.simulate.interface.arguments import axes_of, costs_of, several
from moe_replay.simulate.policies.memory.knowledge_source import file_of
from moe_replay.simulate.sweeps import sweep as sweep_module
from moe_replay.simulate.sweeps.shared_inputs import Study
from moe_replay.simulate.sweeps.taught_study import taught
from moe_replay.traces.errors import InputError
from moe_replay.traces.file.trace_file import save_trace
from moe_replay.traces.runs.sweep_table import FAILED, SweepPoint
from moe_replay.traces.selections import Trace

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, repr=False)
class SweepResult:
    """The points of a sweep, in the order of its axes: settings, status and statistics of every run.

    A point that failed stays, with its `reason`; `said` is what a reader must know of how policies learned.
    """

    points: tuple[SweepPoint, ...]
    said: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"SweepResult({len(self.points)} points: {self.statuses()})"

    def statuses(self) -> str:
        """Return how many points have which status."""
        return ", ".join(f"{count} {status}" for status, count in Counter(p.status for p in self.points).most_common())

    def summary(self) -> str:
        """Return how many points there are of which status, and why any failed."""
        reasons: dict[str, list[str]] = {}
        for point in self.points:
            if point.status == FAILED:
                reasons.setdefault(point.reason, []).append(point.run)
        lines = [f"{', '.join(runs)}: failed: {reason}" for reason, runs in reasons.items()]
        return "\n".join([f"{len(self.points)} points: {self.statuses()}", *lines, *self.said])

    def to_pandas(self) -> pd.DataFrame:
        """Return a row per point: the settings of the run, `status`, `reason`, and statistics with units in the names.

        Settings of an expert memory have columns where any point has one. Times of settings are in ns.
        """
        import pandas as pd

        return pd.DataFrame([row_of(point) for point in self.points])


def row_of(point: SweepPoint) -> dict:
    """Return the columns of one point."""
    settings = {name: value for name, value in point.config.items() if name != "memory"}
    of_run = {"engine": point.engine, "known": point.known, "status": point.status, "reason": point.reason}
    counts = {f"memory_{name}": value for name, value in point.counts.items()}
    return {"run": point.run, **settings, **(point.config.get("memory") or {}), **of_run, **point.values, **counts}


def sweep(
    trace: Trace | Path | str,
    costs: Path | str | tuple[float, float],
    *,
    replications: int = 1,
    known: Path | str | None = None,
    resample: bool = False,
    engine: str = "auto",
    jobs: int = 0,
    out: Path | str | None = None,
    **settings: object,
) -> SweepResult:
    """Simulate the cross product of all settings, many seeds each; a setting is a value or a list of values.

    `sweep(trace, costs, queue_size=[8, 32], load=[0.3, 0.6], replications=3)`: the settings are those of
    `moe_replay.Settings`, `trace`, `costs`, `resample`, `known` and `engine` are as in `replay` (`known` is a file, or
    `hindsight`). Every configuration meets the seeds 0 to replications-1; 0 is one run in the trace's order. `jobs`
    processes, or threads of compiled runs, share the work; 0 is one per core. `out` keeps the table as a file, which
    the same call continues where it was cut off.

    The points are those of `python -m simulate sweep`. InputError for settings that mean nothing in any combination.
    """
    if replications < 0:
        raise InputError(f"replications is {replications}, allowed >= 0")
    source, axes = costs_of(costs, resample), axes_of({name: several(each) for name, each in settings.items()})
    if not axes:
        raise InputError("nothing to sweep; allowed: settings, such as queue_size=[8, 32]")
    learned = None if known is None else str(known)
    with tempfile.TemporaryDirectory() as folder:
        study = Study(on_disk(trace, Path(folder)), source.path, source.affine, resample, file_of(learned), engine)
        study, configs, said = taught(study, axes, list(range(replications)) or [None], learned)
        table = Path(out) if out is not None else Path(folder) / "sweep.parquet"
        points = sweep_module.sweep(study, configs, table, jobs)
    return SweepResult(tuple(points), (said,) if said else ())


def on_disk(trace: Trace | Path | str, folder: Path) -> Path:
    """Return a trace's file, written into a folder where it is given as a trace: workers open it themselves."""
    if not isinstance(trace, Trace):
        return Path(trace)
    save_trace(trace, folder / "memory.trace.parquet")
    return folder / "memory.trace.parquet"
