"""Miss counts as `simulate miss-curves` wrote them: the table and the digest of its trace."""

from __future__ import annotations

import csv
import json
from pathlib import Path

from moe_replay.traces.errors import InputError

COLUMNS = {
    "policy": str, "slots": int, "known": str, "mode": str, "grouping": str, "emptied": str, "accesses": int,
    "misses": int, "miss_ratio": float, "experts": int, "experts_per_step": float,
}  # fmt: skip
MISSES = "misses"  # folder of simulated sets: NAME.csv for NAME.trace.parquet
MAKES = "python -m simulate miss-curves TRACE --out TABLE.csv"


def read_misses(path: Path, digest: str | None = None) -> list[dict]:
    """Return the rows of a table; InputError where it is no such table, or not that of the trace with this digest."""
    try:
        with open(path, newline="") as opened:
            reader = csv.DictReader(opened)
            if reader.fieldnames != [*COLUMNS]:
                raise InputError(f"{path}: is no table of miss curves; allowed: what `{MAKES}` writes")
            rows = [{name: kind(row[name]) for name, kind in COLUMNS.items()} for row in reader]
        told = json.loads(path.with_suffix(".json").read_text())["inputs"]["trace"]
    except (OSError, UnicodeError, ValueError, LookupError, TypeError, csv.Error) as error:
        why = getattr(error, "strerror", None) or "is no table of miss curves"
        raise InputError(f"{path}: {why}; allowed: what `{MAKES}` writes, with its TABLE.json") from None
    if digest is not None and told != digest:
        raise InputError(f"{path}: was counted on trace {told}, the trace is {digest}")
    if not rows:
        raise InputError(f"{path}: holds no rows")
    return rows
