"""A record table that grows while a run lasts: columns in their types, lengthened in place."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np


class LengtheningTable:
    """The columns of a record table whose rows come in parts, each at most once in memory.

    `kinds` are the types of the columns, by name. A part's field has the column's name or that in `renamed`; `fixed`
    are columns of one value, which no part has.
    """

    def __init__(
        self, kinds: Mapping[str, type], renamed: Mapping[str, str] | None = None,
        fixed: Mapping[str, object] | None = None,
    ) -> None:  # fmt: skip
        self.columns = {name: np.empty(0, kind) for name, kind in kinds.items()}
        self.renamed, self.fixed = renamed or {}, fixed or {}

    def keep(self, rows: np.ndarray) -> None:
        """Put copies of rows (an array of records) at the end; they may be overwritten afterwards."""
        for name, column in self.columns.items():
            held = len(column)
            # In place: a long column's pages are moved, not copied, so that no second table is ever there. Nobody else
            # holds the columns before the run is over.
            column.resize(held + len(rows), refcheck=False)
            column[held:] = self.fixed[name] if name in self.fixed else rows[self.renamed.get(name, name)]
