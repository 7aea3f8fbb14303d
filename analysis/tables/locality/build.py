"""The tables `locality`, `locality_hits`, `locality_heat` and `locality_drift`, from every language and video trace."""

from pathlib import Path

import numpy as np
import pandas as pd

from moe_replay.analysis.reading.inputs import Inputs
from moe_replay.analysis.reading.log_sets import LANGUAGE_TRACES, VIDEO, LogSet
from moe_replay.analysis.tables.locality.claim import locality_claim
from moe_replay.analysis.tables.locality.rows import curve_rows, drift_rows, heat_rows, locality_rows
from moe_replay.analysis.written_tables import hole_row, holes, write_claims, write_tables
from moe_replay.traces.file.trace_file import load_trace
from moe_replay.traces.selections import Trace

NAME = "locality"
TABLES = (NAME, f"{NAME}_hits", f"{NAME}_heat", f"{NAME}_drift")
SEED = 0  # of the shuffles and permutations


def build_locality(inputs: Inputs, out: Path) -> list[str]:
    """Write the tables and the claim. Sets without such traces are left out; none at all is a hole."""
    found = [(log_set, name) for log_set in inputs.sets for name in trace_names(log_set)]
    tables: dict[str, list[dict]] = {name: [] for name in TABLES}
    for log_set, name in found:
        trace, reason = inputs.read(log_set, name, load_trace)
        short = Path(name).name.removesuffix(".trace.parquet")
        if trace is None:
            tables[NAME].append({**hole_row(log_set.name, None, reason), "trace": short})
            continue
        add_rows(tables, log_set.name, short, trace, heat=name != LANGUAGE_TRACES[0])
    if not found:
        tables[NAME].append(hole_row("all sets", None, f"no set holds {LANGUAGE_TRACES[0]} or {VIDEO}/"))
    used = {path: digest for name in {name for _, name in found} for path, digest in inputs.used(name).items()}
    return holes(write_locality(out, tables, used))


def write_locality(out: Path, tables: dict[str, list[dict]], digests: dict[str, str]) -> pd.DataFrame:
    """Write the tables and the claim, and return the first table."""
    written = write_tables(out, tables, digests)
    write_claims(out, {NAME: locality_claim(written[NAME], written[f"{NAME}_drift"])})
    return written[NAME]


def trace_names(log_set: LogSet) -> list[str]:
    """Return the traces of a set that the tables are made of."""
    language = [name for name in LANGUAGE_TRACES if (log_set.folder / name).exists()]
    return language + [f"{VIDEO}/{path.name}" for path in sorted((log_set.folder / VIDEO).glob("*.trace.parquet"))]


def add_rows(
    tables: dict[str, list[dict]], name: str, source: str, trace: Trace, heat: bool, emptied: str = "sequence"
) -> None:
    """Add one trace's rows to every table; `emptied` says when its caches are, one of `streams.EMPTIED`."""
    rng = np.random.default_rng(SEED)
    tables[NAME] += locality_rows(name, source, trace, rng, emptied)
    tables[f"{NAME}_hits"] += curve_rows(name, source, trace, rng, emptied)
    tables[f"{NAME}_drift"] += drift_rows(name, source, trace, rng)
    if heat:
        tables[f"{NAME}_heat"] += heat_rows(name, source, trace, rng)
