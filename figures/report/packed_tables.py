"""Tables and charts as a page carries them: JSON, compressed; a table is unpacked when a reader opens it."""

import base64
import gzip
import json

import pandas as pd

from moe_replay.analysis.results.result import Result

MOST_ROWS = 5000
DIGITS = 9


def packed(result: Result) -> tuple[str, str]:
    """Return a table's columns and rows as base64 of compressed JSON, and what to say of rows that were left out."""
    table, whole = result.table.head(MOST_ROWS), len(result.table)
    columns = [{"name": name, "title": title, "meaning": meaning}
               for name, (title, meaning) in result.meanings().items()]  # fmt: skip
    rows = [[plain(value) for value in row] for row in table.itertuples(index=False, name=None)]
    cut = f"The first {MOST_ROWS:,} of {whole:,} rows; {result.name} holds all." if whole > MOST_ROWS else ""
    return packed_json({"columns": columns, "rows": rows}), cut


def packed_json(content: object) -> str:
    """Return anything that JSON can hold, compressed, as base64."""
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    return base64.b64encode(gzip.compress(text.encode(), 9, mtime=0)).decode()


def plain(value: object) -> object:
    """Return a cell as JSON has it: numbers with `DIGITS` digits, null for empty and infinite ones, lists as texts."""
    if isinstance(value, bool | str) or value is None:
        return value
    if isinstance(value, list | tuple | dict):
        return json.dumps(value)
    if pd.isna(value):
        return None
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}") if abs(value) != float("inf") else None
    return value if isinstance(value, int) else str(value)
