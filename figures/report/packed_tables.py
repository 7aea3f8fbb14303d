"""Tables and charts as a page carries them: JSON, compressed; a table is unpacked when a reader opens it."""

import base64
import gzip
import json

import pandas as pd

from moe_replay.analysis.results.result import Result

MOST_ROWS = 5000
PARTED_BY = ("set", "trace")
DIGITS = 9


def packed(result: Result) -> tuple[str, str]:
    """Return a table's columns and rows as base64 of compressed JSON, and what to say of rows that were left out."""
    table, cut = kept_rows(result.table, result.name)
    columns = [{"name": name, "title": title, "meaning": meaning}
               for name, (title, meaning) in result.meanings().items()]  # fmt: skip
    rows = [[plain(value) for value in row] for row in table.itertuples(index=False, name=None)]
    return packed_json({"columns": columns, "rows": rows}), cut


def kept_rows(table: pd.DataFrame, name: str) -> tuple[pd.DataFrame, str]:
    """Return at most MOST_ROWS rows of a table, and which of them are left out in a sentence, empty where none are.

    Of a table of several sets or traces each has its share: the first rows of all are those of one of them.
    """
    if len(table) <= MOST_ROWS:
        return table, ""
    names = [each for each in PARTED_BY if each in table and table[each].nunique(dropna=False) > 1]
    parts = table.groupby(names, sort=False, dropna=False) if names else None
    if parts is None or parts.ngroups > MOST_ROWS:
        kept, which = table.head(MOST_ROWS), f"the first {MOST_ROWS:,}"
    else:
        share = MOST_ROWS // parts.ngroups
        kept = parts.head(share)
        which = f"the first {share:,} of every {' and '.join(names)}, {len(kept):,}"
    return kept, f"Not all: {which} of {len(table):,} rows. Filters look at these alone; {name} holds all."


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
