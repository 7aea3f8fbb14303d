"""The tables `gating_memory` and `gating_memory_experts`, from every set that holds a log of the memory study."""

from pathlib import Path

import pandas as pd

from moe_replay.analysis.reading.inputs import Inputs
from moe_replay.analysis.reading.log_sets import MEMORY, LogSet
from moe_replay.analysis.tables.gating_memory.claim import memory_claim
from moe_replay.analysis.tables.gating_memory.rows import expert_rows, memory_rows, read_memory
from moe_replay.analysis.written_tables import hole_row, holes, write_claims, write_tables

NAME = "gating_memory"


def build_gating_memory(inputs: Inputs, out: Path) -> list[str]:
    """Write both tables and the claim. A set without the log is left out; none at all is a hole."""
    frames = [set_rows(inputs, log_set) for log_set in inputs.sets if (log_set.folder / MEMORY).exists()]
    frames = frames or [pd.DataFrame([hole_row("all sets", None, f"no set holds {MEMORY}")])]
    rows = pd.concat(frames, ignore_index=True)
    written = write_tables(out, {NAME: rows, f"{NAME}_experts": expert_rows(rows)}, inputs.used(MEMORY))
    write_claims(out, {NAME: memory_claim(written[NAME])})
    return holes(written[NAME])


def set_rows(inputs: Inputs, log_set: LogSet) -> pd.DataFrame:
    """Return the rows of one set, or the row that says why it has none."""
    table, reason = inputs.read(log_set, MEMORY, read_memory)
    return pd.DataFrame([hole_row(log_set.name, None, reason)]) if table is None else memory_rows(log_set.name, table)
