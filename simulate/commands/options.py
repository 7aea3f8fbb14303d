"""Options that several commands of `python -m simulate` share, each declared once, and those that go together."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from moe_replay.simulate.commands.by_name import costs_by_name
from moe_replay.simulate.config.costs import CostModel, read_costs
from moe_replay.simulate.config.run_config import SCHEDULERS
from moe_replay.simulate.engines.engine_choice import ENGINES
from moe_replay.simulate.misses.access_streams import EMPTIED
from moe_replay.simulate.policies.arrivals import ARRIVALS
from moe_replay.simulate.policies.caches.cache_names import CACHES, SCOPES
from moe_replay.simulate.policies.memory.knowledge_source import HELP
from moe_replay.simulate.policies.placement import PLACEMENTS, placement_name
from moe_replay.traces.command_line.command import Force
from moe_replay.traces.command_line.units import COUNT, time_in

TracePath = Annotated[Path, typer.Argument(metavar="TRACE", help="A trace.")]
Out = Annotated[Path, typer.Option(help="Folder for the run records; runs that are complete there are kept.")]
Costs = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE|NAME", callback=costs_by_name,
        help="A measured cost table (`simulate costs` has names); with expert memory also a folder with resident, load "
        "and masked.parquet.",
    ),
]  # fmt: skip
Affine = Annotated[str | None, typer.Option(metavar="A,B", help="Instead of a table: A + B n ns for every batch of n.")]
Resample = Annotated[bool, typer.Option("--resample", help="Draw measured repetitions instead of taking their means.")]
Scheduler = Annotated[str, typer.Option(help=f"{SCHEDULERS.choices}; several with commas.")]
QueueSize = Annotated[str, typer.Option(help="B of the queues; several with commas.")]
DenseQueueSize = Annotated[int | None, COUNT.option(low=1, help="B of the dense queues, if it is another.")]
MaxStep = Annotated[str | None, typer.Option(help="Most passes in a lockstep step; default all that wait.")]
Timeout = Annotated[
    int | None, time_in("us").option("--timeout", low=0, help="A queue is ready when its head waited this long.")
]
ArrivalProcess = Annotated[str, typer.Option(help=f"{ARRIVALS.choices}.")]
InFlight = Annotated[str | None, typer.Option(help="Closed loop: sequences in flight; several with commas.")]
Load = Annotated[
    str | None, typer.Option(help="Poisson: rate over capacity at the largest B (60%); several with commas.")
]
Rate = Annotated[str | None, typer.Option(help="Poisson: sequences per second; several with commas.")]
Speed = Annotated[
    str | None, typer.Option(help="Recorded: arrivals come so many times as fast; default 1; several with commas.")
]
K = Annotated[str | None, typer.Option(help="Experts per token; default the model's own; several with commas.")]
Sequences = Annotated[int | None, COUNT.option(low=1, help="Sequences to serve, the trace cycled; default each once.")]
Replications = Annotated[int, COUNT.option(low=0, help="Seeds 0..n-1; 0: one run in the trace's order.")]
NoDense = Annotated[bool, typer.Option("--no-dense", help="Leave the dense blocks out.")]
Devices = Annotated[int, COUNT.option(low=1, help="Devices; communication is modelled with --links alone.")]
Placement = Annotated[
    str,
    typer.Option(metavar="NAME|FILE", callback=placement_name, help=f"{PLACEMENTS.choices}; or a placement's file."),
]
EngineName = Annotated[str, typer.Option(help=f"{', '.join(ENGINES)}: the same records, the compiled one sooner.")]
Jobs = Annotated[int, COUNT.option(low=0, help="Processes, or threads of compiled runs; 0 is one per core.")]
Known = Annotated[str | None, typer.Option(metavar="TRACE|hindsight", help=HELP)]
CacheNames = Annotated[str, typer.Option(help=f"{CACHES.choices}; several with commas.")]
Scope = Annotated[str, typer.Option(help=f"{', '.join(SCOPES)}: a cache for each layer, or one for all.")]
LookAhead = Annotated[int, COUNT.option(low=1, help="Groups that the oracle prefetcher sees ahead.")]
Filled = Annotated[bool, typer.Option("--filled", help="Start with the most popular experts in the slots.")]

Emptied = Annotated[str, typer.Option(help=f"{', '.join(EMPTIED)}: when slots are emptied, not or before every one.")]


@dataclass(frozen=True)
class CostOptions:
    """Where the times of batches come from: a table by file or name, or two numbers."""

    costs: Costs = None
    affine: Affine = None

    def read(self) -> CostModel:
        """Return the costs; InputError where neither or both are given."""
        return read_costs(self.costs, self.affine, resample=False)


@dataclass(frozen=True)
class DrawnCostOptions(CostOptions):
    """The same, where a table's single repetitions may be drawn."""

    resample: Resample = False

    def read(self) -> CostModel:
        """Return the costs; InputError where neither or both are given."""
        return read_costs(self.costs, self.affine, self.resample)


@dataclass(frozen=True)
class RunningOptions:
    """How runs are carried out: none of it changes a record."""

    engine: EngineName = "auto"
    jobs: Jobs = 0
    force: Force = False
