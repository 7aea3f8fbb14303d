"""The tables `peak_memory` and `peak_memory_compiled`, from every set that holds orders of training iterations."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd

from moe_replay.analysis.reading.inputs import Inputs
from moe_replay.analysis.reading.log_sets import COMPILED_STEPS, STEP_ORDERS, LogSet
from moe_replay.analysis.tables.peak_memory.claim import peak_claim
from moe_replay.analysis.tables.peak_memory.rows import compiled_rows, order_rows, read_compiled, read_orders
from moe_replay.analysis.written_tables import hole_row, holes, write_claims, write_tables

NAME = "peak_memory"


def build_peak_memory(inputs: Inputs, out: Path) -> list[str]:
    """Write both tables and the claim. A set without such logs is left out; no set with any is no hole."""
    ordered, compiled = [], []
    for each in inputs.sets:
        files = [f"{step}{STEP_ORDERS}" for step in each.ordered_steps]
        ordered += frames_of(inputs, each, files, read_orders, order_rows)
        files = [f"{step}{COMPILED_STEPS}" for step in each.compiled_steps]
        compiled += frames_of(inputs, each, files, read_compiled, compiled_rows)
    if not ordered:
        print(f"{NAME}: no set holds *{STEP_ORDERS}, so there is no such table")
        return []
    # Nothing compiled is a table without rows, which the figure says; a table that is not there would be a hole.
    tables = {NAME: pd.concat(ordered, ignore_index=True)}
    tables[f"{NAME}_compiled"] = pd.concat(compiled, ignore_index=True) if compiled else pd.DataFrame()
    written = write_tables(out, tables, inputs.used_ending((STEP_ORDERS, COMPILED_STEPS)))
    write_claims(out, {NAME: peak_claim(written[NAME], written[f"{NAME}_compiled"])})
    return [line for table in written.values() for line in holes(table)]


def frames_of(
    inputs: Inputs, log_set: LogSet, files: list[str], reader: Callable[[Path], pd.DataFrame],
    rows_of: Callable[[pd.DataFrame], pd.DataFrame],
) -> list[pd.DataFrame]:  # fmt: skip
    """Return the rows of every file of a set, or the row that says why one has none."""
    frames = []
    for name in files:
        table, reason = inputs.read(log_set, name, reader)
        found = pd.DataFrame([hole_row(log_set.name, None, reason)]) if table is None else rows_of(table)
        frames.append(found.assign(set=log_set.name))
    return frames
