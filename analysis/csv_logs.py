"""CSV logs as collectors leave them: read whole, with every needed column, and within what is possible."""

from pathlib import Path

import pandas as pd

from traces.errors import InputError


def read_csv_log(path: Path | str, columns: dict[str, tuple[float, float] | None]) -> pd.DataFrame:
    """Return a CSV log. `columns`: every needed column with the numbers it allows (low, high), or None for text.

    InputError names a missing column, or the first row of a value that is no number or lies outside.
    """
    try:
        table = pd.read_csv(path)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (ValueError, OSError) as error:
        raise InputError(f"{path}: not a CSV table ({str(error)[:80]})") from None
    absent = [name for name in columns if name not in table]
    if absent:
        raise InputError(f"{path}: column {absent[0]} is missing; needed: {', '.join(columns)}")
    for name, allowed in columns.items():
        if allowed is not None:
            refuse_outside(path, table, name, *allowed)
    return table


def refuse_outside(path: Path | str, table: pd.DataFrame, name: str, low: float, high: float) -> None:
    """InputError where a column holds what is no number, or a number outside low..high."""
    bad = ~pd.to_numeric(table[name], errors="coerce").between(low, high)
    if bad.any():
        row = int(bad.to_numpy().argmax())
        raise InputError(
            f"{path}: row {row}: {name} is {table[name][row]}, allowed {low:g}..{high:g} ({int(bad.sum())} such rows)"
        )
