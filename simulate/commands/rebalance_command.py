"""`python -m simulate rebalance`: parses, reads, calls, writes."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from moe_replay.simulate.commands import options
from moe_replay.simulate.config.cluster_options import LinkOptions
from moe_replay.traces.command_line.command import Force, numbers
from moe_replay.traces.command_line.files import sha256_of, write_json, write_rows
from moe_replay.traces.command_line.option_groups import grouped
from moe_replay.traces.command_line.outputs import check_output, staged
from moe_replay.traces.command_line.printed_tables import print_table
from moe_replay.traces.command_line.provenance import provenance
from moe_replay.traces.command_line.units import BANDWIDTH, COUNT, SIZE, time_in
from moe_replay.traces.errors import InputError
from moe_replay.traces.glossary.lookup import title

if TYPE_CHECKING:
    from moe_replay.simulate.rebalancing.load_points import LoadPoints
    from moe_replay.simulate.rebalancing.point_clock import Clock
    from moe_replay.simulate.rebalancing.rebalance_rows import Asked, Found, Moving

RULE = ("plan_interval", "plan_window", "adopt_threshold", "relabelled")
PRINTED = (
    "phase", "redundant", "placement", "planner", *RULE, "known", "device_max_over_mean", "adoptions_per_layer",
    "copies_per_adoption", "bytes_per_rebalance", "stall_ms", "stall_hidden_ms",
)  # fmt: skip
TIMED = (
    "phase", "redundant", "placement", "planner", *RULE, "known", "device_max_over_mean", "moves", "clock_ms",
    "moved_bytes", "moves_stall_ms",
)  # fmt: skip
REGRET = ("phase", "redundant", "move_cost", "planner", *RULE, "cost_per_point", "clairvoyant_cost_per_point", "regret")
RESULTS = ("device_max_over_mean", "cost_per_point")  # the first of each table: before it are settings
Recorded = Annotated[Path, typer.Argument(metavar="TRACE|LOADS", help="A trace of tokens, or a load trace.")]
Out = Annotated[Path | None, typer.Option(metavar="TABLE.csv", help="Write every row; TABLE.json says how it came.")]
MoveCost = Annotated[
    str | None,
    typer.Option(help="Regret against who knows what comes, where a copy costs so much max/mean, 0.01; with commas."),
]


@dataclass(frozen=True)
class RuleOptions:
    """When and how experts are placed anew: every combination of the lists is a rule."""

    method: Annotated[str, typer.Option(help="Planners as in `place`, or smartmoe; with commas.")] = "lpt"
    interval: Annotated[str, typer.Option(help="Points between plans, 0: never; with commas.")] = "1,10"
    window: Annotated[str, typer.Option(help="Points that a plan knows, the last ones; with commas.")] = "1"
    threshold: Annotated[
        str, typer.Option(help="Adopt where the old maximum exceeds so many times the new; 0: always; with commas.")
    ] = "1"
    balanced: Annotated[float, typer.Option(min=0, help="Plan no layer whose max/mean was at most this.")] = 0.0
    relabel: Annotated[bool, typer.Option("--relabel", help="Also with devices renamed so that least moves.")] = False
    start: Annotated[str, typer.Option(help="First placement: contiguous, or first-point.")] = "contiguous"


@dataclass(frozen=True)
class SizeOptions:
    """The cluster, and what one point is."""

    devices: Annotated[int, COUNT.option(low=1, help="Devices.")] = 8
    nodes: Annotated[int, COUNT.option(low=1, help="Nodes of equally many devices.")] = 1
    redundant: Annotated[str, typer.Option(help="Redundant experts; with commas.")] = "0"
    batch: Annotated[int, COUNT.option(low=1, help="Rows of a trace that make a point.")] = 256

    def asked(self, rules: RuleOptions, move_cost: str | None, clock: Clock | None) -> Asked:
        """Return what is tried, on a clock or without time; InputError for what is no list of numbers."""
        from moe_replay.simulate.rebalancing.rebalance_rows import Asked
        from moe_replay.simulate.rebalancing.replay import RebalanceRule

        made = [
            RebalanceRule(method, interval, window, threshold, rules.balanced, relabel, rules.start)
            for method, interval, window, threshold, relabel in product(
                rules.method.split(","), numbers(rules.interval, "--interval", 0), numbers(rules.window, "--window"),
                numbers(rules.threshold, "--threshold", 0, float), [False, True][: 1 + rules.relabel],
            )
        ]  # fmt: skip
        costs = () if move_cost is None else tuple(numbers(move_cost, "--move-cost", 0, float))
        redundant = tuple(numbers(self.redundant, "--redundant", 0))
        return Asked(tuple(made), self.devices, self.nodes, redundant, costs, clock)


@dataclass(frozen=True)
class MovingOptions:
    """What moving an expert costs."""

    expert_bytes: Annotated[int | None, SIZE.option(low=1, help="Size of an expert; default: the trace's.")] = None
    bandwidth: Annotated[float | None, BANDWIDTH.option(low=1, help="Of a device's port, each way.")] = None
    step_time: Annotated[int | None, time_in("ms").option(low=1, help="A step, behind which copies are made.")] = None
    hidden_steps: Annotated[int, COUNT.option(low=0, help="Steps behind which the copies are hidden.")] = 0

    def moving(self) -> Moving:
        """Return what a copy costs; InputError for steps of unknown length."""
        from moe_replay.simulate.rebalancing.rebalance_rows import Moving

        if self.hidden_steps and (self.step_time is None or self.bandwidth is None):
            raise InputError("--hidden-steps: their length is not known; allowed with --step-time, --bandwidth")
        return Moving(self.expert_bytes, self.bandwidth, self.step_time, self.hidden_steps)


@dataclass(frozen=True)
class ClockOptions(options.CostOptions):
    """What gives points a time. All of it needs `--links`."""

    moves: Annotated[
        str | None,
        typer.Option(
            help="Linked: experts move synchronous (between steps), hidden (beside them, in front of their messages), "
            "background (behind these); default all three."
        ),
    ] = None
    no_dense: options.NoDense = False
    engine: options.EngineName = "auto"

    def clock(self, links: LinkOptions, read: list[LoadPoints], nodes: int) -> Clock | None:
        """Return the clock, None without links; InputError for what needs links, and for several machines."""
        given = [name for name in ("costs", "affine", "moves", "no_dense") if getattr(self, name)]
        clusters = links.clusters(read[0].model, nodes)
        if clusters == [None]:
            if given:
                raise InputError(f"--{given[0].replace('_', '-')} has no meaning without --links")
            return None
        from moe_replay.simulate.rebalancing.point_clock import MOVES, Clock

        if len(clusters) > 1:
            lists = "--links, --micro-batches, --split, --shared-experts"
            raise InputError(f"{lists}: points are timed on one machine, allowed: no lists")
        costs = self.read()
        if not self.no_dense:
            costs.check_dense(read[0].load_SLE.shape[1])
        moves = MOVES if self.moves is None else tuple(dict.fromkeys(self.moves.split(",")))
        return Clock(clusters[0], costs.cost(rng=None), moves, not self.no_dense, self.engine)


@grouped
def rebalance_command(
    recorded: Recorded, rules: RuleOptions, sizes: SizeOptions, copying: MovingOptions, links_of: LinkOptions,
    timing: ClockOptions, move_cost: MoveCost = None,
    points: Annotated[
        bool, typer.Option("--points", help="With --out: TABLE_points.csv too, a row per point and layer.")
    ] = False,
    out: Out = None, force: Force = False,
) -> None:  # fmt: skip
    """Keep placements of experts fresh over time: what it gains in balance, and what it moves.

    A point is an iteration of a load trace, or a batch of a trace's rows, with prefill and decode by themselves where
    it has both. Every `--interval` points each layer is planned from the `--window` points before. With `--links` a
    trace's points are steps on the clock, and experts move over the same ports.

    Example: `python -m simulate rebalance training.loads.parquet --method lpt,smartmoe --interval 1,10 --out over.csv`

    Example: `python -m simulate rebalance wide.trace.parquet --affine 20000,2000 --nodes 2 --links h800-ndr
    --moves synchronous,background`
    """
    from moe_replay.simulate.rebalancing.load_points import read_points  # numpy and scipy, which help does not need

    check_csv(out, points)
    check_output(out, [recorded, timing.costs], force)
    sizes.asked(rules, move_cost, None)  # refuses what is no list of numbers before anything is read
    moving = copying.moving()
    read, digest = read_points(recorded, sizes.batch)
    asked = sizes.asked(rules, move_cost, timing.clock(links_of, read, sizes.nodes))
    found = worked_out(read, asked, moving, points)
    if out is not None:
        with staged(out, [recorded, timing.costs], force) as written:
            write_tables(written, found, {recorded.name: digest})
    print_table(printed(found.rows, PRINTED if asked.clock is None else TIMED))
    if found.regret:
        print("Paid a point (max/mean and copies), beside who knows what comes:")
        print_table(printed(cheapest(found.regret), REGRET))
    print(f"{sum(len(each.load_SLE) for each in read)} points" + (f"; {out}: {len(found.rows)} rows" if out else ""))


def check_csv(out: Path | None, points: bool) -> None:
    """Refuse a table of another kind, and rows of points that go nowhere."""
    if out is not None and out.suffix != ".csv":
        raise InputError(f"--out: {out.name!r} is not allowed; allowed: a name that ends in .csv")
    if points and out is None:
        raise InputError("--points: has no place to write to; allowed with --out")


def worked_out(read: list, asked: Asked, moving: Moving, timed: bool) -> Found:
    """Return all rows; a bar says how far they are."""
    from moe_replay.simulate.rebalancing.rebalance_rows import rebalance_rows
    from moe_replay.simulate.sweeps.run_folder import progress_bar

    with progress_bar() as progress:
        bar = progress.add_task("rebalancing", total=asked.work(read))
        return rebalance_rows(read, asked, moving, timed, lambda: progress.advance(bar))


def write_tables(path: Path, found: Found, inputs: dict[str, str]) -> None:
    """Write the tables there are as CSV, all with every column of theirs, and beside them how they came."""
    tables = {path: found.rows, of(path, "regret"): found.regret, of(path, "points"): found.points}
    for place, rows in tables.items():
        if rows:
            columns = dict.fromkeys(name for row in rows for name in row)
            write_rows(place, [{name: row.get(name, "") for name in columns} for row in rows])
    about = {"table": path.stem, "rows": len(found.rows), "sha256": sha256_of(path), "inputs": inputs}
    write_json(path.with_suffix(".json"), about | {"provenance": provenance()})


def of(path: Path, what: str) -> Path:
    """Return the place of a table beside another one."""
    return path.with_name(f"{path.stem}_{what}.csv")


def cheapest(rows: list[dict]) -> list[dict]:
    """Return the rule that paid least for each cost of a move."""
    best: dict[tuple, dict] = {}
    for row in rows:
        at = (row["phase"], row["redundant"], row["move_cost"])
        if at not in best or row["cost_per_point"] < best[at]["cost_per_point"]:
            best[at] = row
    return list(best.values())


def printed(rows: list[dict], columns: tuple[str, ...]) -> Table:
    """Return a table of some columns: those that some row has, and of settings those that differ between rows."""
    results = min(columns.index(name) for name in RESULTS if name in columns)
    shown = [
        name for at, name in enumerate(columns)
        if any(name in row for row in rows)
        and (at >= results or name in ("placement", "planner", "move_cost") or len({row[name] for row in rows}) > 1)
    ]  # fmt: skip
    table = Table(*(title(name) for name in shown), box=None)
    for row in rows:
        none = RULE if row["placement"] != "rebalanced" else ()
        table.add_row(*("" if name in none else text_of(row.get(name, "")) for name in shown))
    return table


def text_of(value: object) -> str:
    """Return a cell: numbers to four digits, whole ones with separators."""
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 10000 else f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) and value >= 10000 else str(value)
