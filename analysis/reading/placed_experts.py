"""Scores of placements as `simulate place` wrote them: a row per planner, number of replicas and split."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd

from moe_replay.traces.errors import InputError

PLACED = "placed"  # folder of simulated sets: NAME/placements.csv for NAME.trace.parquet or training/NAME.loads.parquet
MAKES = "python -m simulate place TRACE --out FOLDER"
NEEDED = ("planner", "known", "devices", "redundant", "device_max_over_mean", "max_load", "avg_max_load")


def read_placed(path: Path, digest: str | None = None) -> pd.DataFrame:
    """Return the rows of a table; InputError where it is no such table, or not of the trace with this digest."""
    try:
        table = pd.read_csv(path, keep_default_na=False, na_values=[""])
        told = list(json.loads(path.with_suffix(".json").read_text())["inputs"].values())
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        why = getattr(error, "strerror", None) or "is no table of placements"
        raise InputError(f"{path}: {why}; allowed: what `{MAKES}` writes, with its placements.json") from None
    if lacking := [name for name in NEEDED if name not in table]:
        raise InputError(f"{path}: lacks column {lacking[0]}; allowed: what `{MAKES}` writes")
    if digest is not None and told != [digest]:
        raise InputError(f"{path}: is of selections {', '.join(map(str, told))}, those here are {digest}")
    return table
