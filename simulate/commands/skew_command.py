"""`python -m simulate skew`: parses, reads, calls, prints, writes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.table import Table

from moe_replay.simulate.commands.end_to_end_command import write_table
from moe_replay.simulate.commands.options import Costs
from moe_replay.simulate.config.cluster_config import ClusterConfig, speeds
from moe_replay.simulate.config.costs import read_costs
from moe_replay.simulate.skew.skew_rows import Asked, checked_trace, median_error, skew_rows, work_of
from moe_replay.traces.clusters.link_file import machine_by_name
from moe_replay.traces.command_line.command import Force, numbers
from moe_replay.traces.command_line.files import sha256_of
from moe_replay.traces.command_line.option_groups import grouped
from moe_replay.traces.command_line.outputs import check_output, staged
from moe_replay.traces.command_line.printed_tables import print_table
from moe_replay.traces.command_line.units import COUNT, SIZE
from moe_replay.traces.errors import InputError
from moe_replay.traces.glossary.lookup import titles
from moe_replay.traces.rooflines.expert_roofline import ExpertShape, roofline_table
from moe_replay.traces.runs.cost_table import CostTable
from moe_replay.traces.served_layers.served_times import ROOFLINE_TYPES, ServedTimes, load_served
from moe_replay.traces.shipped import found_by_name, shipped_served

PRINTED = titles((
    "step_tokens", "devices", "spread", "trace", "layer_us", "over_balanced", "rule_error_percent",
    "device_max_over_mean", "exchange_us", "experts_us", "roofline_us", "cluster_us", "cluster_over_balanced",
))  # fmt: skip
ACTIVATION_BYTES = 2  # 16-bit numbers travel between devices, whatever type the weights have


@dataclass(frozen=True)
class StepOptions:
    """The steps: every number of tokens on every number of devices."""

    tokens: Annotated[str, typer.Option(help="Of a step, on all devices; several with commas.")] = "64,512,2048"
    devices: Annotated[str | None, typer.Option(help="Experts split over so many; default those of the table.")] = None
    steps: Annotated[int, COUNT.option(low=1, help="Of a trace, from all over it; at most what it has.")] = 32
    seed: Annotated[int, COUNT.option(low=0, help="Of drawn power laws.")] = 0


@dataclass(frozen=True)
class BesideOptions:
    """What is beside the measured layer: the cluster model, and the roofline."""

    costs: Costs = None
    links: Annotated[str | None, typer.Option(metavar="NAME|FILE", help="With --costs: between the devices.")] = None
    token_bytes: Annotated[int | None, SIZE.option(low=1, help="Each way; default two for each of its numbers.")] = None
    gpu: Annotated[str | None, typer.Option(help="Roofline of this GPU (as `traces roofline`), an estimate.")] = None

    def asked(self, served: ServedTimes, steps: StepOptions) -> Asked:
        """Return what to work out; InputError for links without costs."""
        if self.links and not self.costs:
            raise InputError("--links: needs --costs, which say what an expert's batch takes")
        tokens = tuple(sorted(set(numbers(steps.tokens, "--tokens"))))
        devices = tuple(sorted(set(numbers(steps.devices, "--devices")))) if steps.devices else tuple(served.devices)
        return Asked(
            tokens, devices, read_costs(self.costs, None, resample=False) if self.costs else None,
            self.cluster(served), self.roofline(served, max(tokens)), steps.steps, steps.seed,
        )  # fmt: skip

    def cluster(self, served: ServedTimes) -> ClusterConfig | None:
        """Return the links in one node, None where none are named."""
        if self.links is None:
            return None
        name, machine = machine_by_name(self.links)
        size = self.token_bytes or ACTIVATION_BYTES * served.header["model"]["width"]
        return ClusterConfig(links=name, dispatch_bytes=size, combine_bytes=size, **speeds(machine))

    def roofline(self, served: ServedTimes, tokens: int) -> CostTable | None:
        """Return the estimated costs of an expert of the served layer; InputError for a type without a rate."""
        if self.gpu is None:
            return None
        model = served.header["model"]
        if model["dtype"] not in ROOFLINE_TYPES:
            raise InputError(
                f"--gpu: no rate of {model['dtype']} is published; allowed for {', '.join(ROOFLINE_TYPES)}"
            )
        shape = ExpertShape(
            model["width"], model["hidden"], ROOFLINE_TYPES[model["dtype"]], model["experts"], model["k"]
        )
        return roofline_table(shape, self.gpu, max(2, tokens))


@grouped
def skew_command(
    served: Annotated[Path, typer.Argument(metavar="SERVED", help="Times of a served layer, by file or name.")],
    cut: StepOptions,
    beside: BesideOptions,
    traces: Annotated[list[Path] | None, typer.Argument(metavar="[TRACE]...", help="With the layer's E and k.")] = None,
    out: Annotated[Path | None, typer.Option(metavar="TABLE.csv", help="Write every row; TABLE.json says how.")] = None,
    force: Force = False,
) -> None:
    """Say what skewed selections cost in a served MoE layer, where devices wait for the one with most of them.

    Balanced and power-law times are those measured (`traces import-costs`). A trace's are worked out from the balanced
    ones by the load and the active experts of every device; on the power laws the same rule shows its error.

    Example: `python -m simulate skew nvidia-h200/gpt-oss-20b-vllm mine.trace.parquet --tokens 64,2048
    --costs nvidia-h200/gpt-oss-20b-alone --links h100-ndr --out skew.csv`
    """
    if out is not None and out.suffix != ".csv":
        raise InputError(f"--out: {out.name!r} is not allowed; allowed: a name that ends in .csv")
    path = found_by_name(served, "table of served layers", shipped_served())
    inputs = [path, *(traces or []), beside.costs]
    check_output(out, inputs, force)
    table = load_served(path)
    held = {trace_name(each): checked_trace(each, table) for each in traces or []}
    rows = with_bar(table, held, beside.asked(table, cut))
    said = words(table, rows)
    if out is not None:
        digests = {f"{name}.trace.parquet": trace.digest for name, trace in held.items()}
        with staged(out, inputs, force) as staged_path:
            write_table(staged_path, rows, {path.name: sha256_of(path), **digests}, said)
    print_table(printed(rows))
    print(said + (f"; {out}: {len(rows)} rows" if out else ""))


def trace_name(path: Path) -> str:
    """Return what rows call a trace."""
    return path.name.removesuffix(".parquet").removesuffix(".trace")


def printed(rows: list[dict]) -> Table:
    """Return the table that one reads, without columns that are empty everywhere."""
    names = [name for name in PRINTED if any(row[name] not in (None, "") for row in rows)]
    table = Table(*(PRINTED[name] for name in names), box=box.SIMPLE_HEAD)
    for row in rows:
        values = (row[name] for name in names)
        table.add_row(
            *("" if each is None else f"{each:,.4g}" if isinstance(each, float) else str(each) for each in values)
        )
    return table


def with_bar(served: ServedTimes, traces: dict, asked: Asked) -> list[dict]:
    """Return the rows; a bar says how far they are."""
    from moe_replay.simulate.sweeps.run_folder import progress_bar  # imports numba, which help does not need

    with progress_bar() as progress:
        bar = progress.add_task("timing layers", total=work_of(asked))
        try:
            return skew_rows(served, traces, asked, lambda: progress.advance(bar))
        except InputError:
            progress.update(bar, visible=False)  # a refusal is one line
            raise


def words(served: ServedTimes, rows: list[dict]) -> str:
    """Return whose times these are, and how far off the rule is."""
    found = median_error(rows)
    off = (
        f"; rule on the measured power laws: {found[0]:.1f} % off in the median, {found[1]:.0f} at most"
        if found
        else ""
    )
    return f"{served.name}, measured by others ({served.header['source']}, {served.header['license']}){off}"
