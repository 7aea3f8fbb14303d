"""`python -m analysis`: every table, or one group of them, from logs and simulated runs."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from analysis.builds import BUILDS
from analysis.inputs import Inputs
from analysis.log_sets import find_log_sets
from traces.command import run
from traces.errors import unknown_name

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="markdown")


@app.command(no_args_is_help=True)
def analysis(
    logs: Annotated[
        Path, typer.Argument(help="Logs: LOGS/DEVICE/DATA/{quality.csv, *.trace.parquet, costs.parquet, executed/}.")
    ],
    simulated: Annotated[
        Path | None, typer.Argument(help="Simulated runs: SIMULATED/DEVICE/DATA/RUN.*.parquet.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the tables and claims.json.")] = Path("tables"),
    only: Annotated[str, typer.Option(help=f"Groups of tables, with commas: {', '.join(BUILDS)}.")] = ",".join(BUILDS),
    partial: Annotated[
        bool, typer.Option(help="Only part of the grid was simulated, by intention: no failure.")
    ] = False,
) -> None:
    """Make tables from records: CSV files, their provenance, and `claims.json` with the sentence of every figure.

    A missing or damaged input is a row with status and reason; the tables are still written and the exit status is 1.

    Example: `python -m analysis traces/data outputs/simulated --out outputs/tables`
    """
    names = only.split(",")
    for name in names:
        if name not in BUILDS:
            raise unknown_name("group of tables", name, BUILDS)
    inputs = Inputs(find_log_sets(logs, simulated), partial)
    holes = [f"{name}: {hole}" for name in names for hole in dict.fromkeys(BUILDS[name](inputs, out))]
    for hole in holes:
        print(f"analysis: {hole}", file=sys.stderr)
    print(f"{out}: {', '.join(names)} from {len(inputs.sets)} sets, {len(holes)} holes")
    raise typer.Exit(1 if holes else 0)


if __name__ == "__main__":
    run(app, "analysis")
