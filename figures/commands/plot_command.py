"""`plot`: static figures of a user's own runs, sweeps, memory studies, misses, plans and placements."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress

from moe_replay.analysis.results.results_found import find_results
from moe_replay.figures.charts.charts_of_results import charts_found
from moe_replay.figures.drawing.sheet import named_width
from moe_replay.figures.plots.plotted_files import is_plotted, write_plots
from moe_replay.traces.command_line.command import Force
from moe_replay.traces.command_line.outputs import check_place, staged
from moe_replay.traces.errors import InputError, unknown_name

KINDS = ("png", "pdf")


def plot(
    results: Annotated[
        Path,
        typer.Argument(metavar="RESULTS", help="A folder or file that simulate or analysis wrote, or a trace."),
    ],
    out: Annotated[Path, typer.Option(help="Folder for the plots.")] = Path("plots"),
    kinds: Annotated[str, typer.Option("--format", help="Formats, with commas: png, pdf.")] = ",".join(KINDS),
    width: Annotated[str, typer.Option(help="Width in print: a column (3.3 inches) or a page (7).")] = "page",
    force: Force = False,
) -> None:
    """Plots of your own results: throughput and latency against what was swept, slots, plans, placements, orders.

    A setting under which nothing can be measured (overload) is a cross on the frame, never a value.

    Example: `python -m figures plot sweep.parquet --out plots`
    """
    wide, wanted = named_width(width), kinds.split(",")
    for kind in wanted:
        if kind not in KINDS:
            raise unknown_name("--format", kind, KINDS)
    check_place(out, [results], folder=True)
    with Progress(transient=True) as progress:
        reading = progress.add_task("reading", total=None)
        found = find_results(results, lambda name, done, of: progress.update(reading, completed=done, total=of))
        progress.remove_task(reading)
        drawn = [(result, chart) for result, charts in charts_found(found) for chart in charts]
        if not drawn:
            none = f"{results}: holds tables that have no plot; allowed: `figures report` shows tables"
            raise InputError(found.failed[0] if found.failed else none)
        drawing = progress.add_task("drawing", total=len(drawn))
        with staged(out, found.files, force, folder=True, is_ours=is_plotted) as written:
            written.mkdir()
            names = write_plots(drawn, written, wanted, wide, lambda: progress.advance(drawing))
    for line in found.failed:
        print(f"figures: {line}", file=sys.stderr)
    print(f"{out}: {len(names)} plots of {len(found.results)} results, {len(found.failed)} not read")
    raise typer.Exit(1 if found.failed else 0)
