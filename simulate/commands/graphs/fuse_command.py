"""`python -m simulate fuse`: parses, reads, calls, writes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from moe_replay.traces.command_line.command import Force
from moe_replay.traces.command_line.files import write_json, write_rows
from moe_replay.traces.command_line.outputs import check_output, staged
from moe_replay.traces.command_line.printed_tables import print_table
from moe_replay.traces.command_line.provenance import provenance
from moe_replay.traces.command_line.units import COUNT, duration_in
from moe_replay.traces.errors import InputError
from moe_replay.traces.training_graphs.graph_file import load_graph


def fuse_command(
    graph_path: Annotated[Path, typer.Argument(metavar="GRAPH", help="A training graph, as for `order`.")],
    pairs: Annotated[int, COUNT.option(low=1, help="How many pairs are fused, spread over the graph.")] = 40,
    seconds: Annotated[float, duration_in("s").option(low=0.1, help="About how long all may take.")] = 60.0,
    out: Annotated[Path | None, typer.Option(help="Table of the pairs, CSV; OUT.json beside it.")] = None,
    force: Force = False,
) -> None:
    """Which fusions of two operations raise the peak memory of the best order, which lower it?

    Every pair of a producer and a user is scored by the change of the bound, then the graph with it is ordered again.
    A pair is vetoed where even the bound is above the best peak without it.

    Example: `python -m simulate fuse iteration.graph.json --pairs 40 --seconds 120`
    """
    from moe_replay.simulate.ordering import best, fusion  # imports numba, which others do not need

    check_output(out, [graph_path], force)
    graph = load_graph(graph_path)
    with Progress(transient=True, console=Console(stderr=True)) as progress:
        task = progress.add_task("ordering pairs", total=None)
        found = best.order(graph, seconds / 3)
        progress.update(task, total=min(pairs, len(fusion.fusible_pairs(graph))))
        rows = fusion.fusion_rows(graph, found, pairs, seconds * 2 / 3, lambda: progress.advance(task))
    if not rows:
        raise InputError(f"{graph_path}: no two operations can be fused, allowed: a graph with a producer and its user")
    print(f"best peak without: {found.peak:,} bytes, bound {found.lower_bound:,}")
    print_table(printed(rows))
    if out is not None:
        with staged(out, [graph_path], force) as written:
            write_rows(written, rows)
            write_json(written.with_suffix(".json"), {"graph": graph.digest, "provenance": provenance()})


def printed(rows: list[dict]) -> Table:
    """Return how many pairs had which effect, and the largest change of each."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for title in ("effect", "pairs", "vetoed", "largest change"):
        table.add_column(title, justify="left" if title == "effect" else "right")
    for effect in ("raised", "unchanged", "lowered"):
        own = [row for row in rows if row["effect"] == effect]
        change = max((row["peak_change"] for row in own), key=abs, default=0.0)
        table.add_row(effect, str(len(own)), str(sum(row["vetoed"] for row in own)), f"{change:+.2%}")
    return table
