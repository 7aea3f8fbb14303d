"""`figures draw`: every figure from a folder of tables."""

import os
import sys
from pathlib import Path
from typing import Annotated

import matplotlib.pyplot as plt
import typer

from moe_replay.figures.drawing import style
from moe_replay.figures.drawing.captions import caption
from moe_replay.figures.drawing.drawn_files import is_drawn, write_list
from moe_replay.figures.drawing.sheet import named_width
from moe_replay.figures.drawing.table_files import TableFiles
from moe_replay.figures.gallery import FIGURES, LONGEST, draw_one, table_of
from moe_replay.traces.command_line.command import Force
from moe_replay.traces.command_line.in_processes import in_processes
from moe_replay.traces.command_line.outputs import staged
from moe_replay.traces.errors import InputError, unknown_name


def draw(
    tables: Annotated[
        Path, typer.Argument(help="Folder of tables and claims.json, as `python -m analysis` writes them.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for NAME.pdf, NAME.png and the caption NAME.md.")] = Path(
        "figures_out"
    ),
    only: Annotated[
        str | None, typer.Option(help=f"Figures, with commas: {', '.join(FIGURES)}; default: those with tables.")
    ] = None,
    width: Annotated[
        str, typer.Option(help="Width in print: page (7 inches) or column (3.3), one panel below another.")
    ] = "page",
    force: Force = False,
) -> None:
    """Draw every figure whose tables or claim are there; nothing is computed here.

    A missing or failed input is named in the figure and its caption, and the exit status is 1.

    Example: `python -m figures draw outputs/tables --out outputs/figures`
    """
    names, wide = asked_for(only, tables), named_width(width)
    order = sorted(names, key=lambda name: name not in LONGEST)
    with staged(out, [tables], force, folder=True, is_ours=is_drawn) as written:
        written.mkdir()
        tasks = {name: (name, tables, written, wide) for name in order}
        found = in_processes(make, tasks, min(len(names), os.cpu_count() or 1), "drawing")
        write_list(written, out)
    holes = [f"{name}: {hole}" for name in names for hole in found[name]]
    for hole in holes:
        print(f"figures: {hole}", file=sys.stderr)
    print(f"{out}: {', '.join(names)}, {len(holes)} holes")
    raise typer.Exit(1 if holes else 0)


def asked_for(only: str | None, tables: Path) -> list[str]:
    """Return the figures that were named, or else those that a folder has a table or a claim of.

    InputError for an unknown name, and for a folder that is none or holds nothing to draw.
    """
    if not tables.is_dir():
        raise InputError(f"{tables}: no such folder of tables")
    if only is None:
        names = [name for name in FIGURES if TableFiles(tables).tells_of(table_of(name))]
        if not names:
            raise InputError(f"{tables}: holds no table of a figure; allowed: what `python -m analysis tables` wrote")
        return names
    names = list(dict.fromkeys(only.split(",")))
    for name in names:
        if name not in FIGURES:
            raise unknown_name("figure", name, FIGURES)
    return names


def make(name: str, folder: Path, out: Path, width: str) -> list[str]:
    """Draw one figure, a page or a column wide, write its three files, and return its holes."""
    tables = TableFiles(folder)
    claim = tables.claim(table_of(name))
    try:
        figure = draw_one(name, tables, width)
    except KeyError as error:
        raise InputError(
            f"{folder}: a table of {name} lacks {error}; allowed: what this version of `python -m analysis` wrote"
        ) from None
    style.freeze(figure)
    for kind in ("pdf", "png"):
        style.save(figure, str(out / f"{name}.{kind}"), kind, tables.about())
    plt.close(figure)
    (out / f"{name}.md").write_text(caption(name, tables, claim))
    return tables.holes
