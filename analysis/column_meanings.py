"""What the columns of a table mean: of a file, of a family, or those that a word finds."""

import csv
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from moe_replay.traces.errors import InputError
from moe_replay.traces.glossary.column import Column
from moe_replay.traces.glossary.lookup import BY_NAME, FAMILIES, entry, search, titles

UNKNOWN = "not a column of this program"


def columns_of(words: Sequence[str]) -> list[Column]:
    """Return the entries that some words ask for: names, titles, families, files, or any word; all without words.

    InputError for a word that finds nothing and a file that cannot be read.
    """
    if not words:
        return list(BY_NAME.values())
    found: dict[str, Column] = {}
    for word in words:
        entries = of_file(Path(word)) if Path(word).is_file() else search(word)
        if not entries:
            raise InputError(f"{word!r} is no column, no family ({', '.join(FAMILIES)}), no file and in no meaning")
        found |= {each.name: each for each in entries}
    return list(found.values())


def of_file(path: Path) -> list[Column]:
    """Return the entries of a table's columns, in its order; a column of somebody else's has an entry that says so."""
    return [entry(name) or Column(name, "", UNKNOWN) for name in header_of(path)]


def header_of(path: Path) -> list[str]:
    """Return the names of a table's columns; InputError unless it is a CSV or Parquet file."""
    try:
        if path.suffix == ".parquet":
            return pq.read_schema(path).names
        with open(path, newline="", encoding="utf-8") as opened:
            return next(csv.reader(opened), [])
    except (pa.ArrowException, UnicodeDecodeError, csv.Error):
        raise InputError(f"{path}: no table; allowed: CSV, or Parquet in a file that ends in .parquet") from None


def shown_columns(entries: Sequence[Column]) -> pd.DataFrame:
    """Return entries as texts to read."""
    names = [*titles(("column", "printed_as", "unit", "meaning", "taken_over")).values()]
    rows = [(each.name, each.title, each.unit, each.meaning, each.window) for each in entries]
    return pd.DataFrame(rows, columns=names)
