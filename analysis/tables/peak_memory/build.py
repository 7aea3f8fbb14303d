"""The tables `peak_memory` and `peak_memory_compiled`, from every set that holds orders of training iterations."""

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
    ordered = [frame for log_set in inputs.sets for frame in ordered_frames(inputs, log_set)]
    compiled = [compiled_frame(inputs, each) for each in inputs.sets if (each.folder / COMPILED_STEPS).exists()]
    if not ordered:
        print(f"{NAME}: no set holds *{STEP_ORDERS}, so there is no such table")
        return []
    tables = {NAME: pd.concat(ordered, ignore_index=True)}
    if compiled:
        tables[f"{NAME}_compiled"] = pd.concat(compiled, ignore_index=True)
    written = write_tables(out, tables, inputs.used_ending((STEP_ORDERS, COMPILED_STEPS)))
    write_claims(out, {NAME: peak_claim(written[NAME], written.get(f"{NAME}_compiled", pd.DataFrame()))})
    return [line for table in written.values() for line in holes(table)]


def ordered_frames(inputs: Inputs, log_set: LogSet) -> list[pd.DataFrame]:
    """Return the rows of every iteration of a set, or the row that says why one has none."""
    frames = []
    for step in log_set.ordered_steps:
        table, reason = inputs.read(log_set, f"{step}{STEP_ORDERS}", read_orders)
        found = pd.DataFrame([hole_row(log_set.name, None, reason)]) if table is None else order_rows(table)
        frames.append(found.assign(set=log_set.name))
    return frames


def compiled_frame(inputs: Inputs, log_set: LogSet) -> pd.DataFrame:
    """Return the rows of a set's compiled iterations, or the row that says why it has none."""
    table, reason = inputs.read(log_set, COMPILED_STEPS, read_compiled)
    if table is None:
        return pd.DataFrame([hole_row(log_set.name, None, reason)])
    return compiled_rows(table).assign(set=log_set.name)
