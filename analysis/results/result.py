"""One result: a table, what it is about, what it says in plain words, what to mistrust, and how it was made."""

from collections.abc import Iterable
from dataclasses import dataclass, field

import pandas as pd

from moe_replay.analysis.reading.configurations import text
from moe_replay.traces.glossary.lookup import entry

RUNS, MEMORY, MISSES, PLANS, PLACEMENTS = "runs", "memory", "misses", "plans", "placements"
REBALANCES, ORDERS, TRACE, LOADS, TABLE = "rebalances", "orders", "trace", "loads", "table"
SHORTEST, LONGEST = 60, 300  # letters of a sentence: a shorter one needs the next
KINDS = {
    RUNS: "Runs: throughput and latency",
    MEMORY: "Expert memory: what absent experts cost",
    MISSES: "Misses of expert caches",
    PLANS: "Plans of slots within a budget",
    PLACEMENTS: "Placements of experts on devices",
    REBALANCES: "Placements over time",
    ORDERS: "Orders of a training graph",
    TRACE: "Trace: which experts were selected",
    LOADS: "Loads of experts over time",
    TABLE: "Tables",
}


@dataclass(frozen=True)
class Result:
    """A table of one of the `KINDS`, rows as they are printed.

    `name` is its file or folder, `about` a figure's name where the table is one of `analysis tables`. `axes` are the
    columns whose values tell its rows apart. `claim` is the sentence that answers a figure's question, `findings` say
    what else it shows, `doubts` what to mistrust, each a sentence. `made` is the provenance, `digest` the SHA-256 of
    the file or of a folder's files.
    """

    kind: str
    name: str
    table: pd.DataFrame
    about: str = ""
    axes: tuple[str, ...] = ()
    claim: str = ""
    findings: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()
    made: dict = field(default_factory=dict)
    digest: str = ""

    @property
    def command(self) -> str:
        """The command that made it, empty where it does not say."""
        return str(self.made.get("command") or "")

    def meanings(self) -> dict[str, tuple[str, str]]:
        """Return {column: (title, meaning with its unit)}, meanings empty for columns that are not of this program."""
        return {str(name): meaning(str(name)) for name in self.table}


def meaning(name: str) -> tuple[str, str]:
    """Return what a printed table calls a column, and what it means, in which unit."""
    found = entry(name)
    if found is None:
        return name, ""
    unit = f" [{found.unit}]" if found.unit else ""
    return found.title or name, f"{found.meaning}{unit}"


def plain(value: object) -> str:
    """Return a value for a sentence: four digits, thousands apart; nothing for an empty one."""
    if isinstance(value, bool) or not hasattr(value, "__float__"):
        return "" if value is None or value != value else str(value)
    value = float(value)
    if value != value:
        return ""
    whole = value.is_integer() or abs(value) >= 1000
    return f"{value:,.0f}" if whole and abs(value) < 1e15 else f"{value:.4g}"


def percent(share: float) -> str:
    """Return a share as a percentage with three digits."""
    return f"{100 * share:.3g} %"


def described(row: dict, axes: Iterable[str]) -> str:
    """Return the settings that tell a row apart, such as `B 8, rate_per_s 400`; `the only one` without any."""
    words = [f"{meaning(name)[0]} {text(row[name])}" for name in axes if text(row.get(name))]
    return ", ".join(words) or "the only setting"


def times(factor: float) -> str:
    """Return `2.3 times`."""
    return f"{factor:.3g} times"


def counted(number: int, noun: str) -> str:
    """Return `1 run`, `2 runs`."""
    return f"{number:,} {noun}{'s' * (number != 1)}"


def first_sentence(claim: str) -> str:
    """Return the first sentence of a claim that says something, in at most `LONGEST` letters.

    A question goes with its answer, and nothing ends within brackets.
    """
    depths, depth = [], 0
    for letter in claim:
        depth += (letter in "([") - (letter in ")]")
        depths.append(depth)
    ends = [at + 1 for at in range(len(claim) - 1) if claim[at] in ".;" and claim[at + 1] == " " and depths[at] == 0]
    text = claim[: next((end for end in ends if end > SHORTEST), len(claim))].rstrip(".; ")
    return f"{text}." if len(text) <= LONGEST else f"{text[:LONGEST].rpartition(' ')[0]} ..."
