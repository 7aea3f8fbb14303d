"""The charts of a result, by what it is about."""

from collections.abc import Callable

from moe_replay.analysis.results import result as kinds
from moe_replay.analysis.results.result import Result
from moe_replay.analysis.results.results_found import Found
from moe_replay.figures.charts.chart import Drawing
from moe_replay.figures.charts.memory_charts import memory_charts, misses_charts
from moe_replay.figures.charts.planning_charts import (
    orders_charts,
    placements_charts,
    plans_charts,
    rebalances_charts,
)
from moe_replay.figures.charts.runs_charts import runs_charts
from moe_replay.figures.charts.table_charts import table_charts
from moe_replay.figures.charts.trace_charts import loads_charts, trace_charts
from moe_replay.traces.errors import InputError

WRITTEN = "allowed: what this version of the command wrote"

CHARTS: dict[str, Callable[[Result], list[Drawing]]] = {
    kinds.RUNS: runs_charts,
    kinds.MEMORY: memory_charts,
    kinds.MISSES: misses_charts,
    kinds.PLANS: plans_charts,
    kinds.PLACEMENTS: placements_charts,
    kinds.REBALANCES: rebalances_charts,
    kinds.ORDERS: orders_charts,
    kinds.TRACE: trace_charts,
    kinds.LOADS: loads_charts,
    kinds.TABLE: table_charts,
}


def charts_of(result: Result) -> list[Drawing]:
    """Return the charts of a result; none for a table that has none. InputError where it holds what cannot be drawn."""
    try:
        return CHARTS[result.kind](result)
    except KeyError as error:
        raise InputError(f"{result.name}: not drawn, lacks column {error}; {WRITTEN}") from None
    except (TypeError, ValueError) as error:  # words where numbers are meant
        raise InputError(f"{result.name}: not drawn, values of another kind ({str(error)[:80]}); {WRITTEN}") from None


def charts_found(found: Found) -> list[tuple[Result, list[Drawing]]]:
    """Return the charts of every result; one that cannot be drawn has none, and is among the failed ones by name."""
    drawn = []
    for result in found.results:
        try:
            drawn.append((result, charts_of(result)))
        except InputError as error:
            found.failed.append(str(error))
            drawn.append((result, []))
    return drawn
