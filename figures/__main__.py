"""`python -m figures`: every figure from a folder of tables."""

import os
import sys
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from pathlib import Path
from typing import Annotated

import matplotlib.pyplot as plt
import typer
from matplotlib.figure import Figure

from figures import (
    accuracy_vs_k,
    delta_k,
    delta_k_serving,
    fidelity,
    gating_memory,
    load_vs_k,
    locality,
    miss_ratio,
    queue_size,
    random_routing,
    skip_exchange,
    style,
    swap_budget,
    swap_tradeoff,
)
from figures.captions import caption
from figures.table_files import TableFiles

DRAWN = (
    accuracy_vs_k, delta_k, delta_k_serving, load_vs_k, queue_size, fidelity, random_routing, gating_memory,
    locality, miss_ratio, swap_tradeoff, swap_budget, skip_exchange,
)  # fmt: skip
FIGURES = {module.NAME: module.draw for module in DRAWN}
LONGEST = (locality.NAME, queue_size.NAME, delta_k.NAME)  # drawn first, so that nobody waits for the last

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="markdown")


@app.command(no_args_is_help=True)
def figures(
    tables: Annotated[
        Path, typer.Argument(help="Folder of tables and claims.json, as `python -m analysis` writes them.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for NAME.pdf, NAME.png and the caption NAME.md.")] = Path(
        "figures_out"
    ),
    only: Annotated[str, typer.Option(help=f"Figures, with commas: {', '.join(FIGURES)}.")] = ",".join(FIGURES),
) -> None:
    """Draw every figure from its tables; nothing is computed here.

    A missing or failed input is named in the figure and its caption, and the exit status is 1.

    Example: `python -m figures outputs/tables --out outputs/figures`
    """
    names = only.split(",")
    unknown = [name for name in names if name not in FIGURES]
    if unknown:
        refuse(f"unknown figure {unknown[0]!r}; known: {', '.join(sorted(FIGURES))}")
    if not tables.is_dir():
        refuse(f"{tables}: no such folder of tables")
    out.mkdir(parents=True, exist_ok=True)
    order = sorted(names, key=lambda name: name not in LONGEST)
    with ProcessPoolExecutor(min(len(names), os.cpu_count() or 1)) as processes:
        found = dict(zip(order, processes.map(make, order, repeat(tables), repeat(out)), strict=True))
    holes = [f"{name}: {hole}" for name in names for hole in found[name]]
    for hole in holes:
        print(f"figures: {hole}", file=sys.stderr)
    print(f"{out}: {', '.join(names)}, {len(holes)} holes")
    raise typer.Exit(1 if holes else 0)


def make(name: str, folder: Path, out: Path) -> list[str]:
    """Draw one figure, write its three files, and return its holes."""
    tables = TableFiles(folder)
    claim = tables.claim(name)
    figure = draw_one(name, tables)
    style.freeze(figure)
    for kind in ("pdf", "png"):
        style.save(figure, str(out / f"{name}.{kind}"), kind)
    plt.close(figure)
    temporary = out / f".{name}.md.{os.getpid()}.tmp"
    temporary.write_text(caption(name, tables, claim))
    os.replace(temporary, out / f"{name}.md")
    return tables.holes


def draw_one(name: str, tables: TableFiles) -> Figure:
    """Return one figure by its name."""
    style.apply_style()
    return FIGURES[name](tables)


def refuse(message: str) -> None:
    """End with one line on stderr and exit status 2."""
    print(f"figures: {message}", file=sys.stderr)
    raise typer.Exit(2)


if __name__ == "__main__":
    app(prog_name="python -m figures")
