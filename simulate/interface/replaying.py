"""`moe_replay.replay`: one run of a trace under one configuration."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from moe_replay.simulate.config.run_config import RunConfig
from moe_replay.simulate.config.run_grid import capacity_per_s
from moe_replay.simulate.config.workload import trace_workload
from moe_replay.simulate.interface.arguments import (
    TIMES,
    Costs,
    Settings,
    axes_of,
    bytes_of_expert,
    costs_of,
    learned_from,
    opened,
)
from moe_replay.simulate.policies.halves import ALL
from moe_replay.simulate.sweeps.axes import RESIDENT, configs_of
from moe_replay.simulate.sweeps.run_folder import new_runs
from moe_replay.traces.errors import InputError, unknown_name
from moe_replay.traces.routes import uncomputed
from moe_replay.traces.runs.run_records import RunRecords
from moe_replay.traces.runs.run_statistics import RunStatistics, run_statistics
from moe_replay.traces.selections import Trace

if TYPE_CHECKING:
    import pandas as pd

TABLES = ("passes", "batches", "transfers", "messages")
SUMMARY = {
    "throughput": "{throughput_per_s:,.4g} passes/s, {tokens_per_s:,.4g} tokens/s, {requests_per_s:,.4g} requests/s",
    "latency": "p50 {latency_p50_ms:.4g} ms, p95 {latency_p95_ms:.4g} ms, p99 {latency_p99_ms:.4g} ms of a pass",
    "requests": "{request_p50_ms:.4g} ms in the median, TTFT p95 {ttft_p95_ms:.4g} ms, TPOT p95 {tpot_p95_ms:.4g} ms",
    "batches": "fill {fill_expert:.3f} of B, {forced_batches:.1%} forced",
    "devices": "{utilisation:.1%} busy",
}


@dataclass(frozen=True, repr=False)
class Run:
    """What one run came to.

    `records` are its tables as commands write them (times in ns since the start), `said` what a reader must know:
    where policies learned, and which tokens no expert computes.
    """

    records: RunRecords
    said: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The name under which commands would write the run."""
        return RunConfig.from_dict(self.records.header["config"]).name

    @cached_property
    def statistics(self) -> RunStatistics:
        """Throughput, latency, fill, busy shares and status; the names say their units: `statistics.values`."""
        return run_statistics(self.records)

    def __repr__(self) -> str:
        return f"Run({self.name}: {self.statistics.status}, {self.statistics.values['throughput_per_s']:,.4g} passes/s)"

    def summary(self) -> str:
        """Return what people read of a run in a few lines; `-` in place of what its window does not tell."""
        found = self.statistics
        lines = [f"{self.name}: {found.status}" + f" ({found.reason})" * bool(found.reason)]
        values = {"ttft_p95_ms": float("nan"), "tpot_p95_ms": float("nan"), **found.values}  # prompts decode nothing
        lines += [f"{name:<10} {line.format(**values)}" for name, line in SUMMARY.items()]
        if memory := self.records.header.get("memory"):
            lines.append(f"{'memory':<10} " + ", ".join(f"{name} {value:,}" for name, value in memory.items()))
        return "\n".join([*lines, *self.said]).replace("nan", "-")

    def to_pandas(self, table: str = "passes") -> pd.DataFrame:
        """Return a table of the records: `passes`, `batches`, `transfers` of weights, or `messages`; times in ns."""
        import pandas as pd

        if table not in TABLES:
            raise unknown_name("table", table, TABLES)
        columns = getattr(self.records, table)
        if columns is None:
            why = {"transfers": "all experts were resident", "messages": "devices were not linked"}[table]
            raise InputError(f"the run has no {table}: {why}; allowed: passes, batches")
        return pd.DataFrame(columns)

    def save(self, folder: Path | str) -> None:
        """Write the records into a folder, where `python -m analysis runs FOLDER` finds them; others are kept."""
        Path(folder).mkdir(parents=True, exist_ok=True)
        if (Path(folder) / f"{self.name}.batches.parquet").exists():
            raise InputError(f"{Path(folder) / self.name}: is there already; allowed: another folder")
        self.records.save(folder, self.name)


def replay(
    trace: Trace | Path | str,
    costs: Path | str | tuple[float, float],
    *,
    seed: int | None = 0,
    known: Trace | Path | str | None = None,
    resample: bool = False,
    engine: str = "auto",
    **settings: Unpack[Settings],
) -> Run:
    """Simulate one run of a trace, with all settings given by name: `queue_size=32, arrivals="closed", in_flight=64`.

    `trace` is a trace or its file. `costs` is a measured cost table (a file, or the name of one that is shipped), or
    (seconds per batch, seconds per token) of every block; `resample` draws a table's repetitions instead of taking
    their means. `seed` permutes the sequences and draws arrivals; None keeps the trace's order. `known` is the trace
    that policies learn from beforehand, or `hindsight`; left out, they learn from the trace's first half and the run
    serves the second. `engine` is auto, compiled or simpy. `moe_replay.Settings` lists the settings.

    The records are those of `python -m simulate run` and `memory`. InputError for settings that mean nothing together,
    and for costs that were not measured.
    """
    trace, source = opened(trace), costs_of(costs, resample)
    config = config_of(trace, source, settings, seed, ALL)
    lesson = learned_from(trace, known, config.memory.needs if config.memory else ())
    if lesson.served != ALL:
        (config,) = lesson.shared([config_of(trace, source, settings, seed, lesson.served)])
    runs = new_runs(trace, source.model(config.memory), Path(), [config], lesson, engine)
    unrouted = [f"no expert's time: {said}" for said in uncomputed(trace, trace.header.model.used_k)]
    return Run(runs.simulate(config), (*unrouted, *([lesson.said] if lesson.said else [])))


def config_of(trace: Trace, costs: Costs, settings: dict, seed: int | None, served: str) -> RunConfig:
    """Return the one configuration of some settings; `load` is of the part of the trace that is served."""

    def capacity(k: int | None, batch: int, dense: bool, devices: int, placement: str) -> float:
        model = replace(costs, resample=False).model(None)
        workload = trace_workload(trace, RunConfig(k=k, served=served))
        if dense:
            model.check_dense(workload.layers)
        return capacity_per_s(workload, model.cost(rng=None), batch, dense, devices, placement)

    axes = axes_of({name: [value] for name, value in settings.items()})
    (config,) = configs_of(axes, [seed], capacity, bytes_of_expert(trace, costs)).values()
    whole = config.as_dict()
    fields = {**whole.get("memory", {}), **whole.get("cluster", {}), **whole}
    fields["links"] = axes.get("links", [None])[0]  # by name there, by name or file here
    for axis, (value,) in axes.items():
        name = next((name for name, ns in TIMES.items() if ns == axis), axis)
        found = tuple(fields[axis]) if isinstance(fields.get(axis), list) else fields.get(axis)
        if found != value and value != RESIDENT:  # a sweep leaves such a field out where others use it
            raise InputError(f"{name} has no meaning beside the other settings; allowed: leave it out")
    return config
