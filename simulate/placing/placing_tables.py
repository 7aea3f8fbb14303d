"""What `python -m simulate place` prints: the scores of placements, what a wrong profile costs, and remarks."""

from __future__ import annotations

from collections.abc import Iterator

from rich import box
from rich.table import Table

from moe_replay.simulate.placing.placing_plan import BOUND
from moe_replay.simulate.placing.recorded_batches import Batches
from moe_replay.traces.glossary.lookup import titles

WORDS = ("planner", "system", "links", "known", "split", "fitted_on", "scored_on")
BALANCE = titles((
    "planner", "known", "replicas", "split", "device_max_over_mean", "device_max_over_mean_worst", "max_load",
    "avg_max_load",
))  # fmt: skip
SENT = titles(("planner", "replicas", "split", "fan_out", "device_copies", "node_copies", "placement_bytes"))
DOMAINS = titles(("planner", "fitted_on", "own_domain", "worst_other", "scored_on"))
BYTES = ((10**12, "TB"), (10**9, "GB"), (10**6, "MB"), (10**3, "kB"), (1, "B"))


def score_tables(rows: list[dict]) -> Iterator[Table]:
    """Yield how balanced the rows are and what they send and take, without columns that say nothing."""
    for titled, counts in ((BALANCE, ("known",)), (SENT, ("fan_out", "placement_bytes"))):
        if any(row[name] is not None for row in rows for name in counts):
            shown = {
                name: title for name, title in titled.items() if any(row[name] not in (None, "", 0) for row in rows)
            }
            kept = rows if titled is BALANCE else [row for row in rows if any(row[name] is not None for name in counts)]
            yield written(shown, kept)


def domain_table(rows: list[dict]) -> Table:
    """Return for every planner and domain that it was fitted on: max/mean there, and on the worst other domain."""
    found = []
    for planner, fitted_on in dict.fromkeys((row["planner"], row["fitted_on"]) for row in rows):
        of_fit = [row for row in rows if (row["planner"], row["fitted_on"]) == (planner, fitted_on)]
        own = next(row for row in of_fit if row["scored_on"] == fitted_on)
        worst = max((row for row in of_fit if row is not own), key=lambda row: row["device_max_over_mean"] or 0)
        found.append({
            "planner": planner, "fitted_on": fitted_on, "own_domain": own["device_max_over_mean"],
            "worst_other": worst["device_max_over_mean"], "scored_on": worst["scored_on"],
        })  # fmt: skip
    return written(DOMAINS, found)


def written(shown: dict[str, str], rows: list[dict]) -> Table:
    """Return a table of some columns; titles wrap between words, values do not."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    cells = [[cell(name, row[name]) for name in shown] for row in rows]
    for at, (name, title) in enumerate(shown.items()):
        width = max(len(each) for each in (*title.split(), *(row[at] for row in cells)))
        table.add_column(title, justify="left" if name in WORDS else "right", width=width)
    for row in cells:
        table.add_row(*row)
    return table


def cell(name: str, value: object) -> str:
    """Return a value as people read it."""
    if value is None:
        return "-"
    if name == "placement_bytes":
        size, unit = next(each for each in BYTES if value >= each[0])
        return f"{value / size:.3g} {unit}"
    if isinstance(value, float):
        return f"{value:.4f}" if name.endswith("load") else f"{value:.3f}"
    return str(value)


def remarks(rows: list[dict], scored: Batches, devices: int) -> Iterator[str]:
    """Yield what a reader must know of the rows beside what was known."""
    said = set()
    for row in rows:
        at = row["planner"], row["redundant"]
        if row["useless_replicas"] and at not in said:
            said.add(at)
            what = "packed anew" if row["repaired"] else "scored as they are; --repair packs them anew"
            yield f"{at[0]}, {at[1]} redundant: {row['useless_replicas']} useless replicas (twice on a device), {what}"
    if any(row["planner"] == BOUND for row in rows):
        yield "bound: no placement without replicas is better balanced; it knows what is scored"
    if any(row["fan_out"] is not None for row in rows):
        ranks = scored.rank_T is not None and scored.rank_T.max() < devices
        yield f"home of a token: {'its rank' if ranks else 'its sequence % devices'}; communication is not timed"
