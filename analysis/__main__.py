"""`python -m analysis tables`: the tables behind the figures. `runs`: one row per configuration of runs or a sweep.

`open-loop`: one row per recorded rule, what re-gating predicts of it. `memory`: what expert slots cost, and why.
`requests`: times to tokens by arrival rate. `columns`: what a column of any table means.
"""

import sys
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer
from rich.progress import track

from moe_replay.analysis.column_meanings import columns_of, shown_columns
from moe_replay.analysis.commands.requests_command import requests_command
from moe_replay.analysis.parallel_builds import build_all
from moe_replay.analysis.printing import print_table
from moe_replay.analysis.reading.counted_misses import read_misses
from moe_replay.analysis.reading.inputs import Inputs
from moe_replay.analysis.reading.log_sets import find_log_sets
from moe_replay.analysis.reading.smartmoe_files import LAYER, MEASURED, read_published
from moe_replay.analysis.table_builds import BUILDS
from moe_replay.analysis.tables.locality.build import TABLES as LOCALITY_TABLES
from moe_replay.analysis.tables.locality.build import add_rows, write_locality
from moe_replay.analysis.tables.locality.claim import drift_sentence
from moe_replay.analysis.tables.locality.rows import ALL, shown_locality
from moe_replay.analysis.tables.locality.streams import EMPTIED
from moe_replay.analysis.tables.lost_mass import read_relation
from moe_replay.analysis.tables.memory_causes import (
    memory_table,
    remarks,
    settings_said,
    shown_memory,
    with_measured_loss,
)
from moe_replay.analysis.tables.miss_ratio import miss_ratio_claim, shown_misses, trace_rows, write_miss_ratio
from moe_replay.analysis.tables.open_loop.build import OPEN_LOOP, open_loop_tables, shown_rules
from moe_replay.analysis.tables.open_loop.rows import RULE_OF_TRUST
from moe_replay.analysis.tables.published_placement import (
    published_claim,
    published_tables,
    shown_published,
    write_published,
)
from moe_replay.analysis.tables.what_if import runs_table, shown
from moe_replay.analysis.written_tables import (
    WHOLE_HELP,
    check_whole,
    holes,
    is_of_this_command,
    keep_claims,
    refuse_other_tables,
    write_whole,
)
from moe_replay.traces.command_line.command import Force, new_app, run
from moe_replay.traces.command_line.distinct_names import told_apart
from moe_replay.traces.command_line.files import sha256_of
from moe_replay.traces.command_line.outputs import check_place, staged
from moe_replay.traces.errors import unknown_name
from moe_replay.traces.file.trace_file import load_trace

app = new_app("Analysis: tables from records, with intervals, and the sentence that answers each figure's question.")
app.command("requests", no_args_is_help=True)(requests_command)


@app.command("tables", no_args_is_help=True)
def tables_command(
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
    force: Force = False,
) -> None:
    """Make tables from records: CSV files, their provenance, and `claims.json` with the sentence of every figure.

    A missing or damaged input is a row with status and reason; the tables are still written and the exit status is 1.

    Example: `python -m analysis tables traces/data outputs/simulated --out outputs/tables`
    """
    names = only.split(",")
    for name in names:
        if name not in BUILDS:
            raise unknown_name("group of tables", name, BUILDS)
    check_place(out, [logs, simulated], folder=True)
    if not force:
        refuse_other_tables(out)
    inputs = Inputs(find_log_sets(logs, simulated), partial)
    with staged(out, [logs, simulated], force, folder=True, is_ours=is_of_this_command) as written:
        written.mkdir()
        holes = build_all(names, inputs, written)
        keep_claims(written, out)
    for hole in holes:
        print(f"analysis: {hole}", file=sys.stderr)
    print(f"{out}: {', '.join(names)} from {len(inputs.sets)} sets, {len(holes)} holes")
    raise typer.Exit(1 if holes else 0)


@app.command("runs", no_args_is_help=True)
def runs_command(
    folder: Annotated[
        Path, typer.Argument(metavar="RUNS", help="A folder of run records, or the table of `simulate sweep`.")
    ],
    out: Annotated[Path | None, typer.Option(metavar="TABLE.csv", help=WHOLE_HELP)] = None,
    worlds: Annotated[
        bool, typer.Option("--worlds", help="Of `simulate memory`, the worlds that explain lost time too.")
    ] = False,
    force: Force = False,
) -> None:
    """Throughput, latency, fill and utilisation of every configuration, replications combined.

    Rows are sorted by their settings; those that differ are printed, and the CSV has all columns.

    Example: `python -m analysis runs simulated --out what_if.csv`
    """
    check_whole(out, [folder], force)
    table = runs_table(folder, worlds)
    write_whole(table.whole, out, [folder], force)
    text, said = shown(table)
    print_table(text)
    for line in said:
        print(line)
    raise typer.Exit(int((table.results["status"] == "failed").any()))


@app.command("open-loop", no_args_is_help=True)
def open_loop_command(
    logs: Annotated[Path, typer.Argument(help="Logs: LOGS/DEVICE/DATA/{base,wide}.trace.parquet and rules/.")],
    simulated: Annotated[
        Path | None, typer.Argument(help="Simulated: SIMULATED/DEVICE/DATA/open_loop/MODEL/ of `simulate open-loop`.")
    ] = None,
) -> None:
    """May re-gating be trusted? One row per recorded rule: what a re-gated trace predicts against what was recorded.

    `trusted` is yes, no, or `load only` where no times were simulated.

    Example: `python -m analysis open-loop traces/data outputs/simulated`
    """
    table = pd.DataFrame(open_loop_tables(Inputs(find_log_sets(logs, simulated)))[0][OPEN_LOOP])
    print_table(shown_rules(table))
    print(f"trusted: {RULE_OF_TRUST}")
    raise typer.Exit(int(bool(holes(table))))


@app.command("locality", no_args_is_help=True)
def locality_command(
    paths: Annotated[list[Path], typer.Argument(help="Traces of tokens, recorded or imported.")],
    out: Annotated[Path | None, typer.Option(help="Folder for all tables: domains, layers, hits, heat, drift.")] = None,
    emptied: Annotated[str, typer.Option(help="When LRU is emptied: before every sequence, or never.")] = "sequence",
    force: Force = False,
) -> None:
    """Reuse of experts by the next token and by an LRU cache, each beside the same tokens in random order.

    Printed are all layers together; where a trace has several domains, each of them too, and a test of whether their
    use of experts differs. Caches are emptied where a sequence starts (in videos a patch of one), or never: LRU's hits
    are then those of `miss-ratio`. `python -m figures OUT --only locality` draws the tables in OUT.

    Example: `python -m analysis locality toy.trace.parquet --out locality`
    """
    check_emptied(emptied)
    tables: dict[str, list[dict]] = {name: [] for name in LOCALITY_TABLES}
    files = told_apart(paths)
    for name, path in track(files.items(), "counting", transient=True, disable=len(files) == 1):
        short = name.removesuffix(".trace.parquet")
        add_rows(tables, short, short, load_trace(path), heat=True, emptied=emptied)
    if out is not None:
        with staged(out, paths, force, folder=True, is_ours=is_of_this_command) as written:
            write_locality(written, tables, {name: sha256_of(path) for name, path in files.items() if path.is_file()})
            keep_claims(written, out)
    print_table(shown_locality(pd.DataFrame(tables[LOCALITY_TABLES[0]])))
    for row in tables[LOCALITY_TABLES[-1]]:
        if row["layer"] == ALL:
            print(drift_sentence(row))


@app.command("miss-ratio", no_args_is_help=True)
def miss_ratio_command(
    paths: Annotated[list[Path], typer.Argument(help="Tables of `simulate miss-curves`, one for each trace.")],
    out: Annotated[Path | None, typer.Option(help="Folder for the table and its claim.")] = None,
    force: Force = False,
) -> None:
    """Misses against slots per layer, by access and step by step: how far are caches from the optimum, is LIFO better?

    `python -m figures OUT --only miss_ratio` draws the table in OUT.

    Example: `python -m simulate miss-curves toy.trace.parquet --out toy.csv`, then
    `python -m analysis miss-ratio toy.csv --out misses`
    """
    files = {name.removesuffix(".csv"): path for name, path in told_apart(paths).items()}
    rows = [row for name, path in files.items() for row in trace_rows(name, name, read_misses(path))]
    table = pd.DataFrame(rows)
    if out is not None:
        with staged(out, paths, force, folder=True, is_ours=is_of_this_command) as written:
            write_miss_ratio(written, rows, {f"{name}{path.suffix}": sha256_of(path) for name, path in files.items()})
            keep_claims(written, out)
    print_table(shown_misses(table))
    print(miss_ratio_claim(table)["claim"])


@app.command("smartmoe", no_args_is_help=True)
def smartmoe_command(
    folder: Annotated[Path, typer.Argument(help="Your copy: moe_trace/, measured_ms.json and fig13_layer6.npz.")],
    out: Annotated[Path | None, typer.Option(help="Folder for the tables and their claim.")] = None,
    force: Force = False,
) -> None:
    """SmartMoE's published times: predicted from loads, beside the paper's own estimate, and its adaptive speed-ups.

    The files belong to SmartMoE's authors (GPL-3.0) and are not shipped here. `python -m figures OUT --only placement`
    draws the tables in OUT.

    Example: `python -m analysis smartmoe smartmoe --out published`
    """
    check_place(out or Path("published"), [folder], folder=True)
    tables = published_tables(read_published(folder))
    if out is not None:
        with staged(out, [folder], force, folder=True, is_ours=is_of_this_command) as written:
            write_published(written, tables, {MEASURED: sha256_of(folder / MEASURED), LAYER: sha256_of(folder / LAYER)})
            keep_claims(written, out)
    for text in shown_published(tables):
        print_table(text)
    print(published_claim(tables)["claim"])


@app.command("memory", no_args_is_help=True)
def memory_command(
    folder: Annotated[Path, typer.Argument(help="A folder of runs with expert slots, from `simulate memory`.")],
    out: Annotated[Path | None, typer.Option(metavar="TABLE.csv", help=WHOLE_HELP)] = None,
    quality: Annotated[
        Path | None, typer.Option(help="Table of `collect swap-quality`: what lost gate mass cost where measured.")
    ] = None,
    force: Force = False,
) -> None:
    """What do absent experts cost, how far is each policy from the optimum, and why is time lost?

    Example: `python -m analysis memory memory --out memory.csv`
    """
    check_whole(out, [folder, quality], force)
    table, relation = memory_table(folder), None if quality is None else read_relation(quality)
    if relation is not None:
        table = with_measured_loss(table, relation)
    write_whole(table, out, [folder, quality], force)
    for text in shown_memory(table):
        print_table(text)
    print(settings_said(table))
    for line in remarks(table, relation):
        print(line)


@app.command("columns")
def columns_command(
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="NAME|FILE...", help="A column, as files or printed tables call it; a table; a word."),
    ] = None,
) -> None:
    """What does a column mean, in which unit, over which part of a run? Without a name: every column there is.

    Example: `python -m analysis columns forced_batches what_if.csv`
    """
    print_table(shown_columns(columns_of(words or [])))


def check_emptied(emptied: str) -> None:
    """Refuse another word for when caches are emptied."""
    if emptied not in EMPTIED:
        raise unknown_name("--emptied", emptied, EMPTIED)


if __name__ == "__main__":
    run(app, "analysis")
