"""Charts of a bare trace and of a load trace."""

from moe_replay.analysis.results.result import Result
from moe_replay.figures.charts.chart import REFERENCE, Chart, Drawing, HeatMap, Series


def trace_charts(result: Result) -> list[Drawing]:
    """Return a heat map of the experts of every layer; of layers their skew and their reuse, each beside a control."""
    table = result.table
    if result.about == "selections":
        return [heat(table, "expert", "layer", "over_mean", "Selections of every expert",
                     "times the mean of its layer", 1.0)]  # fmt: skip
    layers = list(table["layer"])
    drawn: list[Drawing] = [Chart(
        "skew", "How unevenly experts are used", "MoE layer", "coefficient of variation of load",
        [Series("recorded", layers, list(table["cv"])),
         Series("uniform choice", layers, list(table["uniform_cv"]), form=REFERENCE)],
    )]  # fmt: skip
    if table["reuse"].notna().any():
        drawn.append(Chart(
            "reuse", "Experts that the next token uses again", "MoE layer", "share of a token's experts",
            [Series("recorded", layers, list(table["reuse"])),
             Series("independent tokens of the same load", layers, list(table["by_chance"]), form=REFERENCE)],
        ))  # fmt: skip
    return drawn


def loads_charts(result: Result) -> list[Drawing]:
    """Return how uneven each layer is over time."""
    return [heat(result.table, "iteration", "layer", "max_over_mean", "How uneven each layer is over time",
                 "hottest expert over the mean", None)]  # fmt: skip


def heat(table: object, x: str, y: str, value: str, title: str, unit: str, centre: float | None) -> HeatMap:
    """Return a heat map of a full grid of x and y."""
    grid = table.pivot(index=y, columns=x, values=value)
    rows = [[float(each) for each in row] for row in grid.to_numpy()]
    return HeatMap(value, title, x, f"MoE {y}", list(grid.columns), list(grid.index), rows, unit, centre)
