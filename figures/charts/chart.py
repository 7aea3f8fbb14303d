"""Descriptions of charts. Static figures and the report draw the same ones, so that both show the same numbers."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import log2

import pandas as pd

LINE, POINTS, REFERENCE = "line", "points", "reference"
FEW_TICKS = 10
MOST_SERIES = 8  # in one chart: more cannot be told apart
EMPTY = ("", "none")  # values that no legend names
DECADES = 16, 60  # largest over least from which an axis is logarithmic: of x, of y


@dataclass(frozen=True)
class Series:
    """Points of one kind. `low` and `high` are ends of 95 % intervals, empty where there are none.

    `form` is LINE, POINTS, or REFERENCE for what others are held against (a bound, a control). `hollow` marks values
    that are not of a measured window. `crossed` are the x at which there is no value, each with why: those are marked
    on the frame and have no y.
    """

    name: str
    x: Sequence
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    form: str = LINE
    hollow: Sequence[bool] = ()
    crossed: Sequence[tuple[object, str]] = ()


@dataclass(frozen=True)
class Chart:
    """Series over one x. Where x are texts, `categories` are all of them in order."""

    name: str
    title: str
    x_label: str
    y_label: str
    series: Sequence[Series]
    categories: Sequence[str] = ()
    x_log: bool = False
    y_log: bool = False
    note: str = ""

    @property
    def ticks(self) -> list:
        """Every x, where each may have a tick of its own: few whole numbers, none too close to the next; else none."""
        if self.categories:
            return []
        used = sorted({x for each in self.series for x in (*each.x, *(at for at, _ in each.crossed))})
        if not 1 <= len(used) <= FEW_TICKS or any(value != int(value) for value in used):
            return []
        places = [log2(value) for value in used] if self.x_log else used
        gaps = [after - before for before, after in pairwise(places)]
        return used if not gaps or min(gaps) > (places[-1] - places[0]) / 25 else []


@dataclass(frozen=True)
class Bars:
    """Bars, one per category, stacked of `parts` {name: values}; `reference` is (value, name) of a line across."""

    name: str
    title: str
    y_label: str
    categories: Sequence[str]
    parts: dict[str, Sequence[float]]
    reference: tuple[float, str] | None = None
    note: str = ""


@dataclass(frozen=True)
class HeatMap:
    """Values [row, column] as colours; `centre` is the value that is neither high nor low."""

    name: str
    title: str
    x_label: str
    y_label: str
    columns: Sequence
    rows: Sequence
    values: Sequence[Sequence[float]]
    value_label: str
    centre: float | None = None
    note: str = ""


Drawing = Chart | Bars | HeatMap


@dataclass
class Parted:
    """Rows of a table as lines of one or several charts: `panels` {title: {series: rows}}, `left` lines too many."""

    panels: dict[str, dict[str, pd.DataFrame]] = field(default_factory=dict)
    left: int = 0


def parted(rows: pd.DataFrame, names: Sequence[str], labels: dict[str, str], most_panels: int = 6) -> Parted:
    """Return rows parted by the values of some columns: few lines in one panel, else a panel per value of the first."""
    found = Parted()
    first = len(groups(rows, names)) > MOST_SERIES and len(names) > 1
    for title, each in groups(rows, names[:1]).items() if first else [("", rows)]:
        inside = groups(each, names[1:] if first else names)
        if first and len(inside) > MOST_SERIES and len(names) > 2:
            inner = parted(each, names[1:], labels, most_panels)
            parts = {", ".join(filter(None, (said(title, names[:1], labels), k))): v for k, v in inner.panels.items()}
            found.left += inner.left
        else:
            parts = {
                said(title, names[:1], labels) if first else "": named(inside, names[1:] if first else names, labels)
            }
            found.left += max(0, len(inside) - MOST_SERIES)
        found.panels |= {place: dict([*lines.items()][:MOST_SERIES]) for place, lines in parts.items()}
    more = [*found.panels.items()][most_panels:]
    found.left += sum(len(lines) for _, lines in more)
    found.panels = dict([*found.panels.items()][:most_panels])
    return found


def groups(rows: pd.DataFrame, names: Sequence[str]) -> dict[tuple, pd.DataFrame]:
    """Return rows by the texts of some columns, in their order."""
    if not len(names):
        return {(): rows}
    places: dict[tuple, list[int]] = {}
    for place, row in enumerate(rows[[*names]].itertuples(index=False)):
        places.setdefault(tuple(map(shown, row)), []).append(place)
    return {key: rows.iloc[found] for key, found in places.items()}


def named(found: dict[tuple, pd.DataFrame], names: Sequence[str], labels: dict[str, str]) -> dict[str, pd.DataFrame]:
    """Return groups by what a legend calls them."""
    return {said(key, names, labels): rows for key, rows in found.items()}


def said(key: tuple, names: Sequence[str], labels: dict[str, str]) -> str:
    """Return `B 8, in_flight 64` of the values of some columns; a text speaks for itself."""
    words = [value if not is_number(value) else f"{labels.get(name, name)} {value}"
             for name, value in zip(names, key, strict=True) if value not in EMPTY]  # fmt: skip
    return ", ".join(words)


def is_number(value: str) -> bool:
    """Whether a text is a number."""
    try:
        float(value)
    except ValueError:
        return False
    return True


def shown(value: object) -> str:
    """Return a value as a text: whole numbers whole, nothing for an empty one."""
    if value is None or value != value:
        return ""
    if isinstance(value, float):
        return f"{value:.0f}" if value.is_integer() and abs(value) < 1e15 else f"{value:.6g}"
    return str(value)


def numeric(values: Iterable) -> pd.Series:
    """Return values as numbers, NaN for what is none."""
    return pd.to_numeric(pd.Series(list(values), dtype=object), errors="coerce")


def is_wide(values: Iterable[float], times: float) -> bool:
    """Whether positive values lie so far apart that an axis is better logarithmic."""
    known = [value for value in values if value == value]
    return bool(known) and min(known) > 0 and max(known) / min(known) >= times


def more_lines(left: int) -> str:
    """Return what to say of lines that were not drawn."""
    return f"{left} more lines are in the table only." if left else ""


def distinct(names: list[str]) -> list[str]:
    """Return names that differ: a second one of a name gets its number."""
    return [name if names.index(name) == place else f"{name} ({names[: place + 1].count(name)})"
            for place, name in enumerate(names)]  # fmt: skip
