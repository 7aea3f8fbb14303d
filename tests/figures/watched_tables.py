"""Tables that note which columns a figure asks them for in vain, and the columns that analysis gives its tables."""

from pathlib import Path
from typing import ClassVar

import pandas as pd

from moe_replay.figures.drawing.table_files import TableFiles

SHARED = Path(__file__).resolve().parent.parent / "table_columns.txt"


def table_columns():
    """Return {table: its columns}, which the tests of analysis hold to the tables that are made."""
    entries = SHARED.read_text().replace("\n    ", " ").splitlines()
    return {name: columns.split() for name, _, columns in (line.partition(":") for line in entries)}


class WatchedFrame(pd.DataFrame):
    """A table that notes every column it was asked for and does not have, where `in` and `get` would say nothing."""

    lacking: ClassVar[set[str]] = set()

    @property
    def _constructor(self):
        return WatchedFrame

    def __contains__(self, name):
        found = super().__contains__(name)
        if not found and isinstance(name, str):
            self.lacking.add(name)
        return found

    def get(self, name, default=None):
        return super().get(name, default) if name in self else default


class WatchedFiles(TableFiles):
    """A folder of tables, all of them watched."""

    def _load(self, name):
        return WatchedFrame(super()._load(name))
