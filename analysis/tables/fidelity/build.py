"""The tables of the figure fidelity, from every executed run, its simulation and its like."""

from pathlib import Path

import pandas as pd

from moe_replay.analysis.reading.inputs import Inputs
from moe_replay.analysis.reading.run_pairs import RunPair
from moe_replay.analysis.tables.fidelity import rows as compared
from moe_replay.analysis.tables.fidelity.repeatability import repeatability, repeatability_sentence
from moe_replay.analysis.written_tables import hole_row, holes, write_claims, write_tables


def build_fidelity(inputs: Inputs, out: Path) -> list[str]:
    """Write `fidelity`, its summary and `repeatability`: every executed run against its simulation and its like."""
    rows: list[dict] = []
    for log_set in inputs.with_runs:
        pairs: list[RunPair] = inputs.pairs(log_set)
        made = compared.fidelity_rows(log_set, pairs, inputs.used_k(log_set), inputs.partial)
        rows += made or [hole_row(log_set.name, None, "no executed runs")]
    table = pd.DataFrame(rows)
    summary = compared.fidelity_summary(table)
    repeated = repeatability(table)
    tables = {"fidelity": table, "fidelity_summary": summary, "fidelity_repeatability": repeated}
    written = write_tables(out, tables, inputs.used_by_runs())
    claim = compared.fidelity_claim(written["fidelity"], summary)
    claim["claim"] += repeatability_sentence(repeated)
    write_claims(out, {"fidelity": claim})
    return holes(written["fidelity"])
