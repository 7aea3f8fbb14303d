"""Steps over linked devices as `simulate end-to-end` timed them: a row per system, cluster and micro-batches."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd

from moe_replay.traces.errors import InputError

TIMED = "end_to_end"  # folder of simulated sets: NAME.csv for NAME.trace.parquet, training.csv for loads
MAKES = "python -m simulate end-to-end TRACE --out TABLE.csv"
NEEDED = (
    "system", "redundant", "links", "nodes", "micro_batches", "step_tokens", "step_costs", "mean_step_ms", "dense_ms",
    "expert_ms", "wire_ms", "waiting_ms", "speed_up", "device_max_over_mean", "hottest_over_device",
    "replans", "copy_ms",
)  # fmt: skip


def read_timed(path: Path, name: str, digest: str) -> pd.DataFrame:
    """Return the rows of a table; InputError where it is no such table, or not of the file `name` with this digest."""
    try:
        table = pd.read_csv(path)
        told = json.loads(path.with_suffix(".json").read_text())["inputs"].get(name)
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        why = getattr(error, "strerror", None) or "is no table of timed steps"
        raise InputError(f"{path}: {why}; allowed: what `{MAKES}` writes, with its TABLE.json") from None
    if lacking := [each for each in NEEDED if each not in table]:
        raise InputError(f"{path}: lacks column {lacking[0]}; allowed: what `{MAKES}` writes")
    if told != digest:
        raise InputError(f"{path}: is of selections {told}, those here are {digest}")
    return table
