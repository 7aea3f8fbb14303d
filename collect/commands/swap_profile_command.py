"""`collect swap-profile`: measure configurations of swapping, for the planner or after it."""

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress

from moe_replay.collect.commands.app import Checkpoint, Force, ImageOptions, TorchOptions, app
from moe_replay.collect.commands.execution_options import KnownFrom, TierOptions
from moe_replay.collect.commands.masked_quality_commands import Out, Stretch, Units, measured, write_measured
from moe_replay.collect.commands.measured_subjects import subject_of
from moe_replay.collect.studies.swap_profile import Candidate, ProfileStage, draw_candidates
from moe_replay.simulate.config.memory_config import MemoryConfig
from moe_replay.simulate.policies.memory.expert_worth import known_of
from moe_replay.simulate.policies.memory.knowledge_source import file_of, lesson_of
from moe_replay.traces.command_line import command
from moe_replay.traces.command_line.option_groups import grouped
from moe_replay.traces.command_line.outputs import is_made
from moe_replay.traces.command_line.units import COUNT
from moe_replay.traces.errors import InputError
from moe_replay.traces.file.trace_file import load_trace
from moe_replay.traces.runs.cost_table import load_costs

TraceOption = Annotated[
    Path, typer.Option("--trace", help="Trace of this model with all candidates: what is executed.")
]
CostTable = Annotated[Path, typer.Option(help="Any cost table of this device.")]


@dataclass(frozen=True)
class CandidateOptions:
    """Which configurations are measured: drawn ones, or those of plans."""

    plans: Annotated[Path | None, typer.Option(help="Measure these plans (`simulate plan --out`).")] = None
    configurations: Annotated[int, COUNT.option(low=1, help="Without plans: how many are drawn at random.")] = 60
    period: Annotated[
        str, typer.Option(help="Without plans: passes between new residents, with commas; 0: they stay.")
    ] = "0,256,1024"
    seed: Annotated[int, COUNT.option(low=0, help="Of the drawn configurations.")] = 0

    def candidates(self, layers: int, experts: int) -> list[Candidate]:
        """Return the configurations for a model of so many layers and experts."""
        if self.plans is not None:
            return read_plans(self.plans)
        periods = command.numbers(self.period, "--period", 0)
        return draw_candidates(layers, experts, periods, self.configurations, self.seed)


@app.command("swap-profile")
@grouped
def swap_profile_command(
    checkpoint: Checkpoint, trace: TraceOption, costs: CostTable, out: Out, asked: CandidateOptions, tier: TierOptions,
    images: ImageOptions, machine: TorchOptions, units: Units = 48, stretch: Stretch = 12, known: KnownFrom = None,
    force: Force = False,
) -> None:  # fmt: skip
    """Measure quality, latency and memory of slots per layer and update periods: random ones, or those of plans.

    Let nothing else run. `python -m simulate plan` fits its models to the table.

    Example: `python -m collect swap-profile --checkpoint language.pt --trace stepwise.trace.parquet
    --costs costs.parquet --out profile.csv`
    """
    inputs = [checkpoint, trace, costs, asked.plans, file_of(known)]
    if is_made(out, inputs, force):
        return
    where, recorded = machine.pick(), load_trace(trace)
    subject = subject_of(checkpoint, images, where)
    found = measured(checkpoint, images, units, stretch, where)
    config, link = found.probe.model.config, tier.fields(where, subject.expert_bytes)
    memory = MemoryConfig(cache="importance", miss="redirect", filled=True, **link)
    lesson = lesson_of(recorded, known, memory.needs)
    stage = ProfileStage(
        found.probe, found.renormalised, subject.on_weights(trace, recorded, costs, load_costs(costs)),
        known_of(lesson.trace, subject.k, [memory], lesson.mark), link, getattr(config, "window", 1),
        found.about["model_bytes"] - config.layers * config.experts * subject.expert_bytes, lesson.served,
    )  # fmt: skip
    candidates = asked.candidates(config.layers, config.experts)
    with Progress(transient=True) as progress:
        task = progress.add_task("measuring", total=len(candidates))
        rows = stage.rows(candidates, lambda: progress.advance(task))
    write_measured(out, rows, {**found.about, "link": link, "seed": asked.seed, "known": lesson.said}, inputs, force)
    print(f"{out}: {len(rows)} configurations")


def read_plans(path: Path) -> list[Candidate]:
    """Return the distinct configurations of a table of plans; InputError where it is none."""
    try:
        with open(path, newline="") as opened:
            rows = list(csv.DictReader(opened))
        found = [
            Candidate(tuple(map(int, row["slots"].split("."))), int(row["period"])) for row in rows if row["slots"]
        ]
    except OSError:
        raise InputError(f"{path}: no such file") from None
    except (KeyError, ValueError, AttributeError):
        raise InputError(f"{path}: not a table of plans; allowed: what `simulate plan --out` wrote") from None
    if not found:
        raise InputError(f"{path}: holds no plan")
    return list(dict.fromkeys(found))
