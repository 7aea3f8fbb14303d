"""The tables `end_to_end` and `end_to_end_published`, from the steps that were timed on the traces of every set."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from moe_replay.analysis.reading.answer_tables import AnswerTable
from moe_replay.analysis.reading.inputs import Inputs
from moe_replay.analysis.reading.log_sets import LANGUAGE_TRACES, TRAINING, LogSet
from moe_replay.analysis.tables.end_to_end.claim import end_to_end_claim
from moe_replay.analysis.tables.end_to_end.published_speed_ups import published_rows
from moe_replay.analysis.written_tables import hole_row, holes, write_claims, write_tables
from moe_replay.traces.file.trace_file import load_trace
from moe_replay.traces.load_trace import LoadTrace, read_loads

NAME, PUBLISHED = "end_to_end", "end_to_end_published"
LOADS = f"{TRAINING}/unbalanced.loads.parquet"  # of a model that was trained without its balance loss
LAYER = "gpt-oss-20b-alone.costs.parquet"  # sets whose own device measured it have their language traces timed
TIMED = "end_to_end"  # folder of simulated sets: NAME.csv for NAME.trace.parquet, training.csv for loads
TIMED_STEPS = AnswerTable(
    "timed steps", "python -m simulate end-to-end TRACE --out TABLE.csv",
    ("system", "redundant", "links", "nodes", "micro_batches", "step_tokens", "step_costs", "mean_step_ms", "dense_ms",
     "expert_ms", "wire_ms", "waiting_ms", "speed_up", "device_max_over_mean", "hottest_over_device",
     "replans", "copy_ms"),
)  # fmt: skip


def build_end_to_end(inputs: Inputs, out: Path) -> list[str]:
    """Write both tables and the claim."""
    rows: list[dict] = []
    for log_set in inputs.sets:
        for name in (*LANGUAGE_TRACES, LOADS):
            if (log_set.folder / name).exists():
                rows += file_rows(inputs, log_set, name, read_loads if name == LOADS else load_trace)
    if not rows:
        rows.append(hole_row("all sets", None, f"no set holds {LOADS} of one expert a token, or timed language traces"))
    tables = write_tables(out, {NAME: rows, PUBLISHED: published_rows()}, inputs.within(TIMED))
    write_claims(out, {NAME: end_to_end_claim(tables[NAME], tables[PUBLISHED])})
    return holes(tables[NAME])


def file_rows(inputs: Inputs, log_set: LogSet, name: str, reader: Callable[[Path], object]) -> list[dict]:
    """Return the rows of a trace or of loads; a hole where it was not timed, nothing where `simulate logs` does not.

    Loads of several experts a token, and traces whose own device did not measure the layer, may be left out there.
    """
    short = name.split("/")[0].removesuffix(".trace.parquet")
    timed = log_set.simulated is not None and (log_set.simulated / TIMED / f"{short}.csv").exists()
    own_costs = (log_set.folder.parent / "shapes" / LAYER).exists()
    if name != LOADS and not (timed or own_costs):
        return []
    found, reason = inputs.read(log_set, name, reader)
    if isinstance(found, LoadTrace) and found.model.used_k > 1:
        return []
    if found is not None:
        read = partial(TIMED_STEPS.read, name=Path(name).name, digest=found.digest)
        table, reason = inputs.read_simulated(log_set, f"{TIMED}/{short}.csv", read)
        if table is not None:
            what = {"set": log_set.name, "trace": short, "status": "ok", "reason": ""}
            return [what | row for row in table.to_dict("records")]
    return [{**hole_row(log_set.name, None, reason), "trace": short}]
