"""`python -m simulate open-loop`: runs on a re-gated trace beside those on a recorded one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from moe_replay.simulate.commands import options
from moe_replay.simulate.sweeps.open_loop_runs import OpenLoopPlan, rule_files, simulate_open_loop
from moe_replay.simulate.sweeps.run_folder import refuse_failed
from moe_replay.simulate.sweeps.shared_inputs import Study
from moe_replay.traces.command_line import command
from moe_replay.traces.command_line.option_groups import grouped
from moe_replay.traces.command_line.outputs import check_place
from moe_replay.traces.command_line.units import COUNT, SHARE


@grouped
def open_loop_command(
    source: Annotated[Path, typer.Argument(metavar="SOURCE", help="X.trace.parquet, with all candidates and scores.")],
    rules: Annotated[Path, typer.Argument(metavar="RULES", help="Folder of X-*.trace.parquet, recorded under rules.")],
    out: Annotated[Path, typer.Option(help="Folder for the tables; points that are there are kept.")],
    cost: options.CostOptions,
    running: options.RunningOptions,
    queue_size: Annotated[int, COUNT.option(low=1, help="B of the queues.")] = 32,
    in_flight: Annotated[int, COUNT.option(low=1, help="Sequences in flight of the closed loop.")] = 256,
    load: Annotated[float, SHARE.option(low=1e-9, help="Poisson rate over the re-gated trace's capacity.")] = 0.6,
    sequences: options.Sequences = None,
    replications: Annotated[int, COUNT.option(low=1, help="Seeds 0..n-1.")] = 1,
) -> None:
    """Simulate the source re-gated to every recorded rule, and what was recorded under it, alike.

    Tables of sweeps: OUT/source.parquet, and OUT/NAME/regated.parquet and OUT/NAME/recorded.parquet of every rule.

    Example: `python -m simulate open-loop wide.trace.parquet rules --costs costs.parquet --out simulated/open_loop`
    """
    check_place(out, [source, rules, cost.costs], folder=True)
    plan = OpenLoopPlan(queue_size, in_flight, load, command.seeds(replications), sequences)
    files = rule_files(rules, source)
    study = Study(source, cost.costs, cost.affine, engine=running.engine)
    refuse_failed(simulate_open_loop(study, files, plan, out, running.jobs, running.force))
    print(f"{len(files)} rules in {out}")
