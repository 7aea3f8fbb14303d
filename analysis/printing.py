"""Printed tables: what fits into a terminal, with the number of every row where reasons are said of rows."""

from collections.abc import Iterable

import pandas as pd
from rich.table import Table

from moe_replay.traces.command_line import printed_tables

WIDEST = 118  # columns of a terminal that a table is held to where it can be
GAP = 2  # blanks between columns


def width(text: pd.DataFrame) -> int:
    """Return how wide a table of texts is when it is printed."""
    return sum(max(len(str(name)), *text[name].str.len(), 0) + GAP for name in text)


def fitted(text: pd.DataFrame, spared: Iterable[str], widest: int = WIDEST) -> pd.DataFrame:
    """Return the table without as many of the columns `spared`, first to last, as it is too wide."""
    for name in spared:
        if width(text) <= widest:
            break
        text = text.drop(columns=name)
    return text


def print_table(text: pd.DataFrame) -> None:
    """Print a data frame of texts."""
    printed = Table(*text.columns, box=None, padding=(0, 1))
    for row in text.itertuples(index=False):
        printed.add_row(*row)
    printed_tables.print_table(printed)
