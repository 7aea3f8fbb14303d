"""`python -m simulate order`: parses, reads, calls, writes."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from moe_replay.simulate.ordering.order_names import ALL, POLICIES
from moe_replay.traces.command_line.command import Force
from moe_replay.traces.command_line.files import write_json, write_rows
from moe_replay.traces.command_line.outputs import check_output, staged
from moe_replay.traces.command_line.printed_tables import print_table
from moe_replay.traces.command_line.provenance import provenance
from moe_replay.traces.command_line.units import COUNT, duration_in
from moe_replay.traces.training_graphs.graph_file import load_graph

Graph = Annotated[Path, typer.Argument(metavar="GRAPH", help="A training graph, as `collect graph` writes it.")]
Policy = Annotated[
    str, typer.Option(help=f"{', '.join(POLICIES)}, MODULE:NAME of your own; several with commas; {ALL}.")
]
Seconds = Annotated[float, duration_in("s").option(low=0.1, help="About how long each policy may search.")]
ReorderOnly = Annotated[
    bool, typer.Option("--reorder-only", help="The optimizer's operations stay after all others: no interleaving.")
]
Out = Annotated[
    Path | None, typer.Option(help="Best order, JSON; or a table of the policies, CSV, with OUT.json beside it.")
]


def order_command(
    graph_path: Graph,
    policy: Policy = "best",
    seconds: Seconds = 60.0,
    reorder_only: ReorderOnly = False,
    seed: Annotated[int, COUNT.option(low=0, help="Of random orders.")] = 0,
    out: Out = None,
    force: Force = False,
) -> None:
    """In which order do the operations of a training iteration need least memory, and is that certain?

    Prints for each policy the peak of its order, a lower bound of every order's peak, and whether both are equal, which
    proves that no order is better. Bytes are above what is always there: parameters, optimizer state, the batch.

    Example: `python -m simulate order iteration.graph.json --policy best --seconds 60 --out order.json`
    """
    from moe_replay.simulate.ordering.optimizer_last import optimizer_last
    from moe_replay.simulate.ordering.order_rows import order_content, order_rows

    check_output(out, [graph_path], force)
    graph = load_graph(graph_path)
    searched = optimizer_last(graph) if reorder_only else graph
    with ticking(seconds) as begin:
        rows, orders = order_rows(searched, policy, seconds, seed, begin)
    print_table(printed(rows))
    if out is None:
        return
    with staged(out, [graph_path], force) as written:
        best = min(orders, key=lambda name: orders[name].peak)
        content = order_content(graph, orders[best], best, reorder_only) | {"provenance": provenance(seed)}
        if out.suffix == ".csv":
            write_rows(written, rows)
        write_json(written.with_suffix(".json"), content)


@contextmanager
def ticking(seconds: float) -> Iterator:
    """Show a bar that fills while a search runs; yields what to call with the name of each search as it begins."""
    columns = TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn()
    over = threading.Event()
    with Progress(*columns, transient=True, console=Console(stderr=True)) as progress:
        begun, task = [time.monotonic()], progress.add_task("reading", total=seconds)

        def begin(name: str) -> None:
            begun[0] = time.monotonic()
            progress.reset(task, description=name, total=seconds)

        def tick() -> None:
            while not over.wait(0.2):
                progress.update(task, completed=min(seconds, time.monotonic() - begun[0]))

        thread = threading.Thread(target=tick, daemon=True)
        thread.start()
        try:
            yield begin
        finally:
            over.set()
            thread.join()


def printed(rows: list[dict]) -> Table:
    """Return the rows for the terminal; what a policy refused is said in the place of its numbers."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for title in ("policy", "peak", "bound", "gap", "proved", "seconds", "by"):
        table.add_column(title, justify="right" if title in ("peak", "bound", "gap", "seconds") else "left")
    for row in rows:
        if row["refused"]:
            table.add_row(row["order_policy"], "-", "-", "-", "-", f"{row['seconds']:.2f}", row["refused"])
            continue
        table.add_row(
            row["order_policy"], f"{row['order_peak_bytes']:,}", f"{row['order_bound_bytes']:,}",
            f"{row['order_gap']:.2%}", "yes" if row["proved"] else "no", f"{row['seconds']:.2f}", row["found_by"],
        )  # fmt: skip
    return table
