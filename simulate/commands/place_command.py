"""`python -m simulate place`: parses, reads, calls, writes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from moe_replay.simulate.placing.fitted_parts import FIT_HELP, FITS, Parts, opened, parts_of
from moe_replay.simulate.placing.placing_plan import BOUND, Placed, PlacingPlan, domain_rows, placed
from moe_replay.simulate.placing.placing_tables import domain_table, remarks, score_tables
from moe_replay.simulate.placing.planner_names import PLANNERS
from moe_replay.simulate.placing.recorded_batches import domain_batches
from moe_replay.simulate.placing.splits import SPLITS
from moe_replay.simulate.placing.written_placements import write_placed
from moe_replay.traces.command_line.command import Force, numbers
from moe_replay.traces.command_line.option_groups import grouped
from moe_replay.traces.command_line.outputs import check_output, staged
from moe_replay.traces.command_line.printed_tables import print_table
from moe_replay.traces.command_line.units import COUNT, SIZE
from moe_replay.traces.errors import InputError
from moe_replay.traces.load_trace import LoadTrace
from moe_replay.traces.routes import uncomputed
from moe_replay.traces.selections import Trace


@dataclass(frozen=True)
class ClusterOptions:
    """Where experts are placed, by whom, and how replicas share."""

    method: Annotated[
        str, typer.Option(help=f"{PLANNERS.choices}; NAME=NUMBER sets its parameter; {BOUND}; several with commas.")
    ] = "contiguous,lpt"
    devices: Annotated[int, COUNT.option(low=1, help="Devices.")] = 8
    nodes: Annotated[int, COUNT.option(low=1, help="Nodes that the devices are in.")] = 1
    redundant: Annotated[str, typer.Option(help="Slots beyond one for each expert; several with commas.")] = "0"
    split: Annotated[str, typer.Option(help=f"How replicas share: {', '.join(SPLITS)}; several with commas.")] = "even"
    repair: Annotated[bool, typer.Option("--repair", help="Pack anew what holds an expert twice on a device.")] = False
    expert_bytes: Annotated[int | None, SIZE.option(low=1, help="Of one expert; default the trace's.")] = None

    def plan(self, expert_bytes: int | None) -> PlacingPlan:
        """Return the plan; `expert_bytes` is what the trace tells."""
        return PlacingPlan(
            methods=tuple(self.method.split(",")), devices=self.devices, nodes=self.nodes,
            redundant=tuple(numbers(self.redundant, "--redundant", 0)), splits=tuple(self.split.split(",")),
            repair=self.repair, expert_bytes=self.expert_bytes or expert_bytes,
        )  # fmt: skip


@grouped
def place_command(
    path: Annotated[Path, typer.Argument(metavar="TRACE|LOADS", help="A trace of tokens, or of loads.")],
    asked: ClusterOptions,
    fit: Annotated[str, typer.Option(metavar="WORD|FILE", help=FIT_HELP)] = "first-half",
    batch: Annotated[int, COUNT.option(low=1, help="Tokens of a batch; what is left over is dropped.")] = 256,
    out: Annotated[
        Path | None, typer.Option(help="Folder for placements.csv and every placement, NAME.placement.json.")
    ] = None,
    force: Force = False,
) -> None:
    """Place experts on devices, and score the placements on selections that planners did not see.

    Example: `python -m simulate place wide.trace.parquet --method contiguous,lpt,eplb --devices 4 --redundant 0,4
    --split even,best --out placed`
    """
    inputs = [path, *([] if fit in FITS else [Path(fit)])]
    check_output(out, inputs, force, folder=True)
    recorded = [opened(each) for each in inputs]
    model = model_of(recorded[0])
    plan, parts = asked.plan(model.expert_bytes), parts_of(recorded[0], fit, recorded[1:], batch)
    made, domains = with_bar(plan, parts, recorded[0], batch)
    for table in score_tables(made.rows):
        print_table(table)
    print("\n".join([parts.said, *remarks(made.rows, parts.scored, plan.devices), *left_out(recorded[0])]))
    if domains:
        print("fitted on one domain, scored on it (hindsight) and on others; device max/mean, replicas share evenly:")
        print_table(domain_table(domains))
    if out is not None:
        digests = {each.name: held.digest for each, held in zip(inputs, recorded, strict=True)}
        with staged(out, inputs, force, folder=True) as written:
            said = write_placed(written, made, domains, model, digests, parts.said)
        print("\n".join(f"{out}: {each}" for each in said))


def with_bar(plan: PlacingPlan, parts: Parts, recorded: Trace | LoadTrace, batch: int) -> tuple[Placed, list[dict]]:
    """Return what a plan makes, and its rows of domains where there are several; a bar says how far they are."""
    from moe_replay.simulate.sweeps.run_folder import progress_bar  # imports numba, which others do not need

    plan.check(parts)  # refuses what cannot be before a bar is drawn
    domains = domain_batches(recorded, batch)
    with progress_bar() as progress:
        bar = progress.add_task("placing", total=len(list(plan.cases())))
        try:
            made = placed(plan, parts, lambda: progress.advance(bar))
            return made, domain_rows(plan, domains) if len(domains) > 1 else []
        except InputError:
            progress.update(bar, visible=False)  # a planner's refusal is one line
            raise


def model_of(recorded: Trace | LoadTrace) -> object:
    """Return the model that was recorded."""
    return recorded.model if isinstance(recorded, LoadTrace) else recorded.header.model


def left_out(recorded: Trace | LoadTrace) -> list[str]:
    """Return what of a trace is no load of an expert."""
    return [f"no load: {said}" for said in uncomputed(recorded)] if isinstance(recorded, Trace) else []
