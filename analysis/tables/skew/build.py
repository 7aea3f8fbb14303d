"""The table `skew`: what served layers take with equal, skewed and recorded selections, beside the cluster model."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from moe_replay.analysis.reading.answer_tables import AnswerTable
from moe_replay.analysis.reading.inputs import Inputs
from moe_replay.analysis.reading.log_sets import LogSet
from moe_replay.analysis.tables.skew.claim import skew_claim
from moe_replay.analysis.written_tables import hole_row, holes, write_claims, write_tables
from moe_replay.traces.command_line.files import sha256_of
from moe_replay.traces.served_layers.served_times import load_served
from moe_replay.traces.shipped import SERVED_TIMES

NAME = "skew"
ANSWERS = AnswerTable(
    "skew in served layers", "python -m simulate skew SERVED --out TABLE.csv",
    ("served", "step_tokens", "devices", "spread", "trace", "layer_us", "over_balanced", "rule_error_percent", "dtype",
     "experts_dtype"),
)  # fmt: skip


def build_skew(inputs: Inputs, out: Path) -> list[str]:
    """Write the table and its claim, where any set holds served layers: a device without them lacks nothing."""
    rows = [row for log_set in inputs.sets for row in set_rows(inputs, log_set)]
    if not rows:
        print(f"{NAME}: no set holds MODEL{SERVED_TIMES}, so there is no such table")
        return []
    table = write_tables(out, {NAME: rows}, inputs.within(NAME))[NAME]
    write_claims(out, {NAME: skew_claim(table)})
    return holes(table)


def set_rows(inputs: Inputs, log_set: LogSet) -> list[dict]:
    """Return the rows of one set: those of every served layer, or a hole for it."""
    rows: list[dict] = []
    for path in sorted(log_set.folder.glob(f"*{SERVED_TIMES}")):
        name = path.name.removesuffix(SERVED_TIMES)
        found, reason = inputs.read(log_set, path.name, load_served)
        table = None
        if found is not None:
            read = partial(ANSWERS.read, name=path.name, digest=sha256_of(path))
            table, reason = inputs.read_simulated(log_set, f"{NAME}/{name}.csv", read)
        if table is None:
            rows.append({**hole_row(log_set.name, None, reason), "served": name})
        else:
            rows += [{"set": log_set.name, **row, "status": "ok", "reason": ""} for row in table.to_dict("records")]
    return rows
