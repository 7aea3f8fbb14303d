"""The tables of the figure queue_size, from the executed and simulated runs of every set."""

from pathlib import Path

from moe_replay.analysis.reading.inputs import Inputs
from moe_replay.analysis.reading.log_sets import LogSet
from moe_replay.analysis.tables.queue_size import rows as points
from moe_replay.analysis.tables.queue_size.claim import queue_size_claim
from moe_replay.analysis.written_tables import hole_row, holes, write_claims, write_tables


def build_queue_size(inputs: Inputs, out: Path) -> list[str]:
    """Write `queue_size`, `queue_size_tradeoff` and `queue_size_steps`: executed, simulated and theory against B."""
    rows: list[dict] = []
    for log_set in inputs.with_runs:
        rows += queue_size_rows(inputs, log_set) or [hole_row(log_set.name, None, "no runs, executed or simulated")]
    table = points.queue_size_table(rows)
    sources = [(name, source) for name in dict.fromkeys(table["set"]) for source in ("executed", "simulated", "theory")]
    steps = [row for name, source in sources for row in points.step_rows(table, name, source)]
    trade = [row for name, source in sources for row in points.tradeoff_rows(table, name, source)]
    tables = {"queue_size": table, "queue_size_tradeoff": trade, "queue_size_steps": steps}
    written = write_tables(out, tables, inputs.used_by_runs())
    claim = queue_size_claim(written["queue_size"], written["queue_size_steps"])
    write_claims(out, {"queue_size": claim})
    return holes(written["queue_size"])


def queue_size_rows(inputs: Inputs, log_set: LogSet) -> list[dict]:
    """Return every row of one set: measured points, holes of their grid, theory."""
    replicated = inputs.replicated(f"{log_set.name}/", log_set.simulated)
    rows = points.measured_rows(log_set, inputs.pairs(log_set), inputs.used_k(log_set), replicated)
    rows += points.hole_rows(rows)
    return rows + points.theory_rows(rows, *inputs.theory(log_set))
