"""Charts of further tables behind the shipped figures: one description each, drawn in the same way."""

from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd

from moe_replay.analysis.results.result import Result
from moe_replay.figures.charts.chart import (
    LINE,
    MOST_SERIES,
    POINTS,
    REFERENCE,
    Chart,
    Drawing,
    Series,
    groups,
    more_lines,
    named,
)

FINE = ("ok", "short")


def everything(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table as it is."""
    return table


@dataclass(frozen=True)
class Curves:
    """Which columns of a table are drawn against each other.

    There is a chart for every value of `panels`, and a line for every value of `lines` in it, which a legend calls by
    the words of `labels` where it is a number. `rows` chooses rows, or makes them. `equal` draws where x and y are the
    same. Texts on the x axis are categories.
    """

    title: str
    x: str
    y: str
    x_label: str
    y_label: str
    lines: tuple[str, ...]
    panels: tuple[str, ...] = ("set",)
    labels: tuple[tuple[str, str], ...] = ()
    rows: Callable[[pd.DataFrame], pd.DataFrame] = everything
    form: str = LINE
    x_log: bool = False
    y_log: bool = False
    equal: bool = False


def with_replicas(table: pd.DataFrame) -> pd.DataFrame:
    """Return placements by what their planner may use: replicas make another one of it."""
    more = [f" + {extra}" if extra else "" for extra in table["redundant"]]
    return table.assign(placed=[name + extra for name, extra in zip(table["planner"], more, strict=True)])


def with_intervals(table: pd.DataFrame) -> pd.DataFrame:
    """Return loads by how often experts were placed, in words: 0 is once for all."""
    words = [f"anew after every {each:g}" if each else "placed once" for each in table["plan_interval"]]
    return table.assign(replaced=words)


CURVES = {
    "delta_k_curves": Curves(
        "Accuracy against the mean k", "k", "accuracy_percent", "experts per token k", "accuracy, % (higher is better)",
        ("curve",),
    ),
    "random_routing_epochs": Curves(
        "Accuracy while training", "epoch", "accuracy_percent", "epoch", "accuracy, % (higher is better)",
        ("label", "seed"), labels=(("seed", "seed"),),
    ),
    "layer_costs": Curves(
        "An expert's batch at published shapes", "tokens", "expert_us", "tokens in the batch", "us (lower is better)",
        ("shape",), ("set", "form"), rows=lambda table: table[table["form"].isin(("loop", "grouped"))], x_log=True,
        y_log=True,
    ),
    "links": Curves(
        "Copies of experts to the device", "copy_bytes", "copied_gigabytes_per_s", "bytes of a copy",
        "GB/s (higher is better)", ("host_memory", "copies"), labels=(("copies", "copies at once"),), x_log=True,
    ),
    "swap_tradeoff": Curves(
        "Quality lost against memory, absent experts redirected", "memory_share", "loss",
        "share of all experts' memory", "loss (lower is better)", ("method",), ("set", "measure"),
        rows=lambda table: table[table["miss"] != "skip"], form=POINTS,
    ),
    "balance": Curves(
        "Load of the heaviest device on batches that no planner saw", "placed", "device_max_over_mean", "",
        "times the mean (1 is even)", ("set", "trace"), panels=(), rows=with_replicas, form=POINTS,
    ),
    "placement_iterations": Curves(
        "Load of the heaviest device while a model trains", "iteration", "device_max_over_mean", "training iteration",
        "times the mean (1 is even)", ("trace", "replaced"), rows=with_intervals,
    ),
    "all_to_all": Curves(
        "Exchanges: taken against predicted by ports", "ports_ms", "took_ms", "predicted, ms", "taken, ms", ("way",),
        form=POINTS, x_log=True, y_log=True, equal=True,
    ),
    "peak_memory": Curves(
        "Peak memory of an iteration, against eager", "graph", "over_eager_percent", "",
        "% over eager (lower is better)", ("step_order",), form=POINTS,
        rows=lambda table: table[~table["interleaved"].astype(bool)],
    ),
}  # fmt: skip


def curves(result: Result, asked: Curves) -> list[Drawing]:
    """Return the charts of a table."""
    table = result.table[result.table["status"].isin(FINE)] if "status" in result.table else result.table
    drawn: list[Drawing] = []
    for key, rows in groups(asked.rows(table), asked.panels).items():
        place = ", ".join(key)
        found = named(groups(rows, asked.lines), asked.lines, dict(asked.labels))
        series = [one(name, each, asked) for name, each in found.items()][:MOST_SERIES]
        series = [each for each in series if len(each.x)]
        if asked.equal and series:
            ends = [rows[asked.x].min(), rows[asked.x].max()]
            series.append(Series("equal", ends, ends, form=REFERENCE))
        title = f"{asked.title}, {place}" if place else asked.title
        if series:
            drawn.append(Chart(
                title, title, asked.x_label, asked.y_label, series, categories_of(rows[asked.x]), asked.x_log,
                asked.y_log, more_lines(max(0, len(found) - MOST_SERIES)),
            ))  # fmt: skip
    return drawn


def one(name: str, rows: pd.DataFrame, asked: Curves) -> Series:
    """Return one line, with intervals where the table has them throughout."""
    kept = rows[rows[asked.y].notna() & rows[asked.x].notna()]
    if asked.form == LINE:
        kept = kept.sort_values(asked.x, kind="stable")
    low, high = f"{asked.y}_low", f"{asked.y}_high"
    ends = (list(kept[low]), list(kept[high])) if low in kept and kept[low].notna().all() else ([], [])
    return Series(name, list(kept[asked.x]), list(kept[asked.y]), *ends, form=asked.form)


def categories_of(values: pd.Series) -> list[str]:
    """Return the texts on an axis in their order; none where it holds numbers."""
    return [] if pd.api.types.is_numeric_dtype(values) else list(dict.fromkeys(values.dropna()))
