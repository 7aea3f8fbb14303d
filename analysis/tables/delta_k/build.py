"""The tables of the figure delta_k, from the operating points of every set that has them."""

from pathlib import Path

import numpy as np
import pandas as pd

from moe_replay.analysis.reading.inputs import Inputs
from moe_replay.analysis.reading.log_sets import OPERATING_POINTS, OPERATING_TIMES, LogSet
from moe_replay.analysis.tables.delta_k import histogram
from moe_replay.analysis.tables.delta_k import rows as comparisons
from moe_replay.analysis.tables.delta_k.claim import delta_k_claim
from moe_replay.analysis.tables.delta_k.equal_times import read_times
from moe_replay.analysis.tables.delta_k.oracle_bound import oracle_rows
from moe_replay.analysis.tables.delta_k.point_series import Study, arranged, replicated
from moe_replay.analysis.written_tables import hole_row, holes, write_claims, write_tables
from moe_replay.traces.operating_points import load_operating_points

SEED = 0  # of the bootstrap's draws
TABLES = ("delta_k", "delta_k_curves", "delta_k_oracle", "delta_k_histogram", "delta_k_groups")


def build_delta_k(inputs: Inputs, out: Path) -> list[str]:
    """Write the tables named above and the claim. Only sets with operating points count; none at all is a hole."""
    tables: dict[str, list[dict]] = {name: [] for name in TABLES}
    having = [each for each in inputs.sets if (each.folder / OPERATING_POINTS).exists()]
    for log_set in having:
        study, reason = inputs.read(log_set, OPERATING_POINTS, lambda path: arranged(load_operating_points(path)))
        made = set_tables(log_set.name, study, *times_of(inputs, log_set)) if study is not None else {}
        for name, rows in made.items():
            tables[name] += rows
        if study is None:
            tables["delta_k"].append(hole_row(log_set.name, None, reason))
    if not having:
        tables["delta_k"].append(hole_row("all sets", None, f"no set holds {OPERATING_POINTS}"))
    written = write_tables(out, tables, inputs.used(OPERATING_POINTS) | inputs.used(OPERATING_TIMES))
    write_claims(out, {"delta_k": delta_k_claim(*[written[f"delta_k{part}"] for part in ("", "_oracle", "_groups")])})
    return holes(written["delta_k"])


def times_of(inputs: Inputs, log_set: LogSet) -> tuple[pd.DataFrame | None, str]:
    """Return (the table of times, ""); (None, "") where nothing was timed; (None, reason) where it cannot be read."""
    if not (log_set.folder / OPERATING_TIMES).exists():
        return None, ""
    return inputs.read(log_set, OPERATING_TIMES, read_times)


def set_tables(name: str, study: Study, times: pd.DataFrame | None, reason: str) -> dict[str, list[dict]]:
    """Return the rows of every table for one set."""
    draws = replicated(study, np.random.default_rng(SEED))
    chosen = comparisons.primary_series(study)
    rows = comparisons.comparison_rows(name, study, draws, times)
    if reason:
        rows.append({"set": name, "baseline": comparisons.EQUAL_TIME, "status": "failed", "reason": reason})
    return {
        "delta_k": rows,
        "delta_k_curves": comparisons.curve_rows(name, study, draws),
        "delta_k_oracle": oracle_rows(name, study),
        "delta_k_histogram": [row for each in chosen for row in histogram.histogram_rows(name, study, each)],
        "delta_k_groups": [row for each in chosen for row in histogram.group_rows(name, study, draws, each)],
    }
