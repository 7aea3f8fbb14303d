"""A result that is a table: rows with equal keys, as text for people and as a DataFrame for programs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, repr=False)
class TableResult:
    """Rows that a command would write as CSV, and in `said` what a reader must know of them."""

    rows: tuple[dict, ...]
    said: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self.rows)} rows)"

    def to_pandas(self) -> pd.DataFrame:
        """Return the rows as a DataFrame; the columns are those that `python -m analysis columns` explains."""
        import pandas as pd

        return pd.DataFrame(list(self.rows))

    def text(self, columns: list[str]) -> str:
        """Return some columns as a table for people, and below it what a reader must know."""
        cells = [columns, *([written(row[name]) for name in columns] for row in self.rows)]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in cells]
        return "\n".join([*lines, *self.said])


def written(value: object) -> str:
    """Return a value as people read it: four digits of a fraction, `-` where there is none."""
    if value is None or value != value:
        return "-"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1e4 else f"{value:.4g}"
    return f"{value:,}" if type(value) is int else str(value)
