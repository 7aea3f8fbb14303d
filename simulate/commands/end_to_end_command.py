"""`python -m simulate end-to-end`: parses, reads, calls, prints, writes."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Annotated

import typer

from moe_replay.simulate.commands.options import CostOptions
from moe_replay.simulate.config.cluster_config import SPLITS, ClusterConfig, speeds
from moe_replay.simulate.config.cluster_options import DTYPES
from moe_replay.simulate.config.costs import CostModel
from moe_replay.simulate.end_to_end.judged_steps import EVERY, JudgedSteps, judged_steps
from moe_replay.simulate.end_to_end.step_rows import Asked, step_rows
from moe_replay.simulate.end_to_end.systems import CHOICES, systems_of
from moe_replay.simulate.placing.fitted_parts import opened
from moe_replay.simulate.placing.placing_tables import written
from moe_replay.simulate.rebalancing.replay import RebalanceRule
from moe_replay.traces.clusters.link_file import machine_by_name
from moe_replay.traces.command_line.command import Force, numbers
from moe_replay.traces.command_line.files import sha256_of, write_json, write_rows
from moe_replay.traces.command_line.option_groups import grouped
from moe_replay.traces.command_line.outputs import check_output, staged
from moe_replay.traces.command_line.printed_tables import print_table
from moe_replay.traces.command_line.provenance import provenance
from moe_replay.traces.command_line.units import COUNT, SIZE
from moe_replay.traces.errors import InputError
from moe_replay.traces.glossary.lookup import titles
from moe_replay.traces.load_trace import LoadTrace
from moe_replay.traces.selections import Trace

PRINTED = titles((
    "system", "redundant", "links", "nodes", "micro_batches", "mean_step_ms", "speed_up", "dense_ms", "expert_ms",
    "wire_ms", "waiting_ms", "device_max_over_mean",
))  # fmt: skip
SETTINGS = ("redundant", "links", "nodes", "micro_batches")


@dataclass(frozen=True)
class StepOptions:
    """Which tokens make the steps, and which of the steps are judged."""

    phase: Annotated[str, typer.Option(help=f"Of the tokens: {', '.join(EVERY)}.")] = EVERY[0]
    step_tokens: Annotated[
        int, COUNT.option(low=1, help="Tokens of a step on all devices, in the trace's order; at most half of all.")
    ] = 256
    judged: Annotated[
        int | None, COUNT.option(low=1, help="How many of the last steps are judged; default half of them.")
    ] = None


@dataclass(frozen=True)
class SystemOptions:
    """Who places experts, and when anew."""

    systems: Annotated[str, typer.Option(help=f"{CHOICES}; several with commas.")] = "contiguous,lpt"
    redundant: Annotated[
        str, typer.Option(help="Slots beyond one for each expert, for systems that replicate; several with commas.")
    ] = "0"
    interval: Annotated[int, COUNT.option(low=1, help="Adaptive: steps between plans.")] = 1
    window: Annotated[
        int | None, COUNT.option(low=1, help="Adaptive: steps that a plan knows, the last ones; default an interval's.")
    ] = None
    threshold: Annotated[
        float, typer.Option(min=0, help="Adaptive: adopt where the old maximum exceeds so many times the new.")
    ] = 1.0

    expert_bytes: Annotated[
        int | None, SIZE.option(low=1, help="Of a copied expert; default that of the costs' layer, or the trace's.")
    ] = None

    def rule(self) -> RebalanceRule:
        """Return when adaptive systems plan anew."""
        return RebalanceRule(interval=self.interval, window=self.window or self.interval, threshold=self.threshold)


@dataclass(frozen=True)
class LinkedOptions:
    """The clusters: every combination of the lists."""

    links: Annotated[
        str, typer.Option(metavar="NAME|FILE", help="Links between devices (`simulate costs` has names); with commas.")
    ] = "h100-ndr"
    devices: Annotated[int, COUNT.option(low=1, help="Devices.")] = 8
    nodes: Annotated[str, typer.Option(help="Nodes that the devices are in; several with commas.")] = "1"
    micro_batches: Annotated[str, typer.Option(help="Parts that a step is cut into; several with commas.")] = "1"
    split: Annotated[str, typer.Option(help=f"Replicas are taken {', '.join(SPLITS)}.")] = SPLITS[0]
    token_bytes: Annotated[
        int | None, SIZE.option(low=1, help="Of a token, each way; default that of the costs' layer, or the trace's.")
    ] = None

    def clusters(self, recorded: Trace | LoadTrace, costs: CostModel) -> tuple[ClusterConfig, ...]:
        """Return the clusters; InputError where nothing says how many bytes a token has."""
        found = [machine_by_name(word) for word in self.links.split(",")]
        lists = found, numbers(self.nodes, "--nodes"), numbers(self.micro_batches, "--micro-batches")
        size = self.token_bytes or token_bytes(recorded, costs)
        return tuple(
            ClusterConfig(
                links=name, nodes=nodes, micro_batches=parts, split=self.split, dispatch_bytes=size, combine_bytes=size,
                **speeds(machine),
            )
            for (name, machine), nodes, parts in product(*lists)
        )  # fmt: skip


def token_bytes(recorded: Trace | LoadTrace, costs: CostModel) -> int:
    """Return the bytes of a token's state in the layer whose costs are asked for, else in the model of the trace.

    InputError where neither says it.
    """
    layer = costs.table.header.get("model") if costs.table is not None else None
    model = recorded.model if isinstance(recorded, LoadTrace) else recorded.header.model
    width, dtype = (layer["width"], layer["dtype"]) if layer else (model.d_model, model.dtype)
    if width is None or dtype not in DTYPES:
        raise InputError(f"nothing says how many bytes a token has (width {width}, {dtype}); allowed: --token-bytes N")
    return width * DTYPES[dtype]


@grouped
def end_to_end_command(
    recorded: Annotated[Path, typer.Argument(metavar="TRACE|LOADS", help="A trace, or loads of one expert a token.")],
    cost: CostOptions,
    asked: SystemOptions,
    cut: StepOptions,
    linked: LinkedOptions,
    out: Annotated[Path | None, typer.Option(metavar="TABLE.csv", help="Write every row; TABLE.json says how.")] = None,
    force: Force = False,
) -> None:
    """Time steps of expert-parallel clusters under systems that place experts, and split that time.

    Placements are planned from the steps before those that are judged. Steps run in lockstep over linked devices;
    token n of a step is at home on device n mod D. Copying experts to where they are placed anew is timed beside them.

    Example: `python -m simulate end-to-end wide.trace.parquet --costs nvidia-h200/gpt-oss-20b-alone
    --systems contiguous,lpt,eplb,eplb-adaptive --redundant 8 --links h100-ndr,pcie4-ethernet100 --nodes 1,2
    --micro-batches 1,2 --step-tokens 512 --out steps.csv`
    """
    if out is not None and out.suffix != ".csv":
        raise InputError(f"--out: {out.name!r} is not allowed; allowed: a name that ends in .csv")
    check_output(out, [recorded, cost.costs], force)
    systems = systems_of(asked.systems.split(","), numbers(asked.redundant, "--redundant", 0))
    held, costs = opened(recorded), cost.read()
    steps = judged_steps(held, recorded.name, cut.phase, cut.step_tokens, cut.judged)
    measured = costs.table.header.get("expert_bytes") if costs.table is not None else None
    copied = asked.expert_bytes or measured or steps.points.expert_bytes
    over = Asked(tuple(systems), linked.clusters(held, costs), linked.devices, asked.rule(), copied)
    rows = with_bar(steps, over, costs)
    if out is not None:
        with staged(out, [recorded, cost.costs], force) as staged_path:
            write_table(staged_path, rows, {recorded.name: held.digest, "costs": costs.digest}, steps.said)
    print_table(written(shown(rows), rows))
    print(f"{steps.said}; costs: {costs.device}" + (f"; {out}: {len(rows)} rows" if out else ""))


def with_bar(steps: JudgedSteps, asked: Asked, costs: CostModel) -> list[dict]:
    """Return the rows; a bar says how far they are."""
    from moe_replay.simulate.sweeps.run_folder import progress_bar  # imports numba, which help does not need

    with progress_bar() as progress:
        bar = progress.add_task("timing steps", total=asked.work)
        try:
            return step_rows(steps, asked, costs, lambda: progress.advance(bar))
        except InputError:
            progress.update(bar, visible=False)  # a refusal is one line
            raise


def write_table(path: Path, rows: list[dict], inputs: dict[str, str], said: str) -> None:
    """Write the rows as CSV, and beside them how they came."""
    write_rows(path, rows)
    about = {"table": path.stem, "rows": len(rows), "sha256": sha256_of(path), "inputs": inputs}
    write_json(path.with_suffix(".json"), about | {"said": said, "provenance": provenance()})


def shown(rows: list[dict]) -> dict[str, str]:
    """Return {name: title} of what is read first, without settings that are the same in all rows."""
    return {
        name: title for name, title in PRINTED.items()
        if name not in SETTINGS or len({row[name] for row in rows}) > 1
    }  # fmt: skip
