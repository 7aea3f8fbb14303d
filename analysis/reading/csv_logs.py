"""CSV logs as collectors leave them: read whole, with every needed column, and within what is possible."""

from pathlib import Path

import pandas as pd

from moe_replay.traces.errors import InputError

MEASURES = frozenset(("accuracy", "bits_per_byte"))  # of quality, one for a whole table
Allowed = tuple[float, float] | frozenset[str] | None


def read_csv_log(path: Path | str, columns: dict[str, Allowed]) -> pd.DataFrame:
    """Return a CSV log. `columns`: every needed column with what it allows.

    `Allowed` is numbers (low, high), the words of which every row has one, or None for any text. InputError names a
    missing column, or the first row of a value that is not allowed.
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
        if isinstance(allowed, frozenset):
            refuse_others(path, table, name, allowed)
        elif allowed is not None:
            refuse_outside(path, table, name, *allowed)
    return table


def refuse_others(path: Path | str, table: pd.DataFrame, name: str, words: frozenset[str]) -> None:
    """InputError where a column does not hold the same one of some words in all rows."""
    first = table[name].iloc[0] if len(table) else None
    bad = (table[name] != first) | ~table[name].isin(words)
    if bad.any():
        row = int(bad.to_numpy().argmax())
        allowed = f"allowed {', '.join(sorted(words))}, the same in all rows"
        raise InputError(f"{path}: row {row}: {name} is {table[name][row]}, {allowed} ({int(bad.sum())} such rows)")


def refuse_outside(path: Path | str, table: pd.DataFrame, name: str, low: float, high: float) -> None:
    """InputError where a column holds what is no number, or a number outside low..high."""
    bad = ~pd.to_numeric(table[name], errors="coerce").between(low, high)
    if bad.any():
        row = int(bad.to_numpy().argmax())
        raise InputError(
            f"{path}: row {row}: {name} is {table[name][row]}, allowed {low:g}..{high:g} ({int(bad.sum())} such rows)"
        )
