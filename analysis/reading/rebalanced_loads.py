"""Placements over time as `simulate rebalance` wrote them: a row per rule, and a row per rule, point and layer."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd

from moe_replay.traces.errors import InputError

REBALANCED = "rebalanced"  # folder of simulated sets: NAME.csv and NAME_points.csv for training/NAME.loads.parquet
MAKES = "python -m simulate rebalance LOADS --points --out TABLE.csv"
NEEDED = ("placement", "planner", "plan_interval", "adopt_threshold", "known", "device_max_over_mean")
OF_POINTS = ("plan_interval", "adopt_threshold", "iteration", "layer", "device_max_over_mean")


def read_rebalanced(path: Path, digest: str | None = None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return (rows of rules, rows of points); InputError where they are no such tables, or not of these loads."""
    tables = []
    try:
        for place, needed in ((path, NEEDED), (path.with_name(f"{path.stem}_points.csv"), OF_POINTS)):
            table = pd.read_csv(place)
            if lacking := [name for name in needed if name not in table]:
                raise InputError(f"{place}: lacks column {lacking[0]}; allowed: what `{MAKES}` writes")
            tables.append(table)
        told = list(json.loads(path.with_suffix(".json").read_text())["inputs"].values())
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        why = getattr(error, "strerror", None) or "is no table of placements over time"
        raise InputError(f"{path}: {why}; allowed: what `{MAKES}` writes, with its TABLE.json") from None
    if digest is not None and told != [digest]:
        raise InputError(f"{path}: is of loads {', '.join(map(str, told))}, the loads are {digest}")
    return tables[0], tables[1]
