"""`report`: one HTML file of a folder of results, which asks no network for anything."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress

from moe_replay.analysis.results.results_found import find_results
from moe_replay.figures.report.report_file import is_report, sealed
from moe_replay.traces.command_line.command import Force
from moe_replay.traces.command_line.outputs import check_place, staged
from moe_replay.traces.errors import InputError

NEEDED = "allowed with `pip install -e .[report]`, which brings bokeh and jinja2"


def report(
    folder: Annotated[
        Path,
        typer.Argument(help="What ./RUNME.sh, simulate or analysis wrote: a folder or a file; or a trace."),
    ],
    out: Annotated[Path, typer.Option(help="The report, one HTML file.")] = Path("report.html"),
    title: Annotated[str | None, typer.Option(help="Its title; default: the folder's name.")] = None,
    force: Force = False,
) -> None:
    """A report of results in one HTML file: summary, pictures, tables that sort and filter, how to make it again.

    It holds everything: it opens without a network, today and in ten years.

    Example: `python -m figures report runs --out report.html`
    """
    check_place(out, [folder] if folder.is_file() else [])
    with Progress(transient=True) as progress:
        task = progress.add_task("reading", total=None)
        found = find_results(folder, lambda name, done, of: progress.update(task, completed=done, total=of))
        progress.update(task, description="writing", total=None)
        try:
            from moe_replay.figures.report.report_page import report_page
        except ModuleNotFoundError as error:
            raise InputError(f"report: needs {error.name}, which is not installed; {NEEDED}") from None
        page = report_page(found, title or f"Results of {folder.resolve().name}")
        with staged(out, found.files, force, is_ours=is_report) as written:
            written.write_bytes(sealed(page))
    for line in found.failed:
        print(f"figures: {line}", file=sys.stderr)
    size = out.stat().st_size / 1e6
    print(f"{out}: {len(found.results)} results, {len(found.failed)} not read, {size:.1f} MB")
    raise typer.Exit(1 if found.failed else 0)
