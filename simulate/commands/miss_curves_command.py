"""`python -m simulate miss-curves`: misses of the usual policies at every number of slots, a table."""

from pathlib import Path
from typing import Annotated

import typer

from moe_replay.simulate.commands import options
from moe_replay.traces.command_line.command import Force
from moe_replay.traces.command_line.files import sha256_of, write_json, write_rows
from moe_replay.traces.command_line.outputs import check_output, staged
from moe_replay.traces.command_line.provenance import provenance
from moe_replay.traces.errors import InputError
from moe_replay.traces.file.trace_file import load_trace


def miss_curves_command(
    trace_path: options.TracePath,
    out: Annotated[Path, typer.Option(metavar="TABLE.csv", help="Table; TABLE.json beside it says how it came.")],
    emptied: options.Emptied = "never",
    force: Force = False,
) -> None:
    """Count misses against slots for the usual policies and both optima, by access and step by step.

    Emptied per sequence, passes take the place of steps; LRU by access is then that of `analysis locality`.
    `python -m analysis miss-ratio TABLE.csv` compares them; `misses` counts whatever else is asked.

    Example: `python -m simulate miss-curves toy.trace.parquet --out toy.csv`
    """
    from moe_replay.simulate.misses.miss_curves import curve_rows  # imports numba, which others do not need

    if out.suffix != ".csv":
        raise InputError(f"--out: {out.name!r} is not allowed; allowed: a name that ends in .csv")
    check_output(out, [trace_path], force)
    trace = load_trace(trace_path)
    rows = curve_rows(trace, emptied)
    with staged(out, [trace_path], force) as written:
        write_curves(written, rows, trace.digest)
    print(f"{out}: {len(rows)} rows, {rows[0]['accesses']:,} accesses")


def write_curves(path: Path, rows: list[dict], digest: str) -> None:
    """Write the rows as CSV, and beside it which trace, by its digest, they were counted on."""
    write_rows(path, rows)
    about = {"table": path.stem, "rows": len(rows), "sha256": sha256_of(path), "inputs": {"trace": digest}}
    write_json(path.with_suffix(".json"), about | {"provenance": provenance()})
