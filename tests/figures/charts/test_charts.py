"""What charts say of a result: every measured value and no other, in few lines, with words for what is left out."""

from pathlib import Path

import pandas as pd
import pytest
from own_results import TABLES, own_results, runs_table

from moe_replay.analysis.results.result import RUNS, TABLE, Result
from moe_replay.analysis.results.results_found import find_results
from moe_replay.analysis.results.runs_result import runs_result
from moe_replay.figures.charts.chart import MOST_SERIES, REFERENCE, Bars, Chart, HeatMap, distinct, groups
from moe_replay.figures.charts.charts_of_results import CHARTS, charts_of
from moe_replay.figures.charts.further_tables import CURVES
from moe_replay.figures.charts.runs_charts import runs_charts
from moe_replay.figures.charts.table_charts import table_charts
from moe_replay.traces.errors import InputError


@pytest.fixture(scope="module")
def charts(tmp_path_factory):
    """{result: {chart: it}} of a folder with every kind of result."""
    found = find_results(own_results(tmp_path_factory.mktemp("own")))
    return {each.name: {chart.name: chart for chart in charts_of(each)} for each in found.results}


def test_every_kind_of_result_has_charts(charts):
    assert all(charts.values())
    assert len(CHARTS) == 10


def test_measured_values_are_drawn_and_what_is_none_is_crossed(charts):
    """At B = 1 only 200/s can be served: no value there at 400/s in any chart, and a cross in all of them."""
    table = runs_table()
    for metric in ("throughput_per_s", "latency_p50_ms", "latency_p95_ms"):
        chart = charts["runs.csv"][f"{metric}-queue_size"]
        assert [each.name for each in chart.series] == ["rate/s 200", "rate/s 400"]
        for series, rate in zip(chart.series, (200, 400), strict=True):
            rows = table[(table["rate_per_s"] == rate) & (table["status"] == "ok")]
            assert (list(series.x), list(series.y)) == (list(rows["queue_size"]), list(rows[metric]))
        assert [list(each.crossed) for each in chart.series] == [[], [(1, "unstable")]]
        assert "nothing was measured there (unstable)" in chart.note
    throughput = charts["runs.csv"]["throughput_per_s-queue_size"].series[0]
    assert (list(throughput.low), list(throughput.high)) == ([190] * 3, [210] * 3)


def test_both_swept_axes_and_the_trade_off_are_drawn(charts):
    names = [*charts["runs.csv"]]
    assert [name for name in names if name.endswith("rate_per_s")] == [
        "throughput_per_s-rate_per_s", "latency_p50_ms-rate_per_s", "latency_p95_ms-rate_per_s",
    ]  # fmt: skip
    trade_off = charts["runs.csv"]["trade-off"]
    assert sum(len(each.x) for each in trade_off.series) == 5  # the unstable one is nowhere


def swept(**axes):
    """Runs over the product of some axes, all measured."""
    rows = [{}]
    for name, values in axes.items():
        rows = [{**row, name: value} for row in rows for value in values]
    common = {"replications": 1, "status": "ok", "reason": "", "latency_p50_ms": 1.0, "latency_p95_ms": 2.0}
    return runs_result(
        pd.DataFrame([{**row, **common, "throughput_per_s": 10.0 + at} for at, row in enumerate(rows)]), "x", {}
    )


@pytest.mark.parametrize(
    "axes",
    [
        {"queue_size": (1, 2), "rate_per_s": range(100, 108)},
        {"queue_size": (1, 2), "rate_per_s": range(100, 109)},
        {"queue_size": (1, 2), "placement": ("a", "b", "c"), "rate_per_s": (1, 2, 3, 4)},
        {"queue_size": (1, 2), "placement": tuple("abcdefghijk"), "rate_per_s": (1, 2, 3, 4)},
        {"queue_size": (1, 2), "placement": tuple("abc"), "served": tuple("abc"), "rate_per_s": (1, 2, 3, 4)},
    ],
)
def test_no_chart_has_more_lines_than_can_be_told_apart_and_those_left_out_are_counted(axes):
    result = swept(**axes)
    drawn = [each for each in runs_charts(result) if each.name.startswith("throughput_per_s-queue_size")]
    assert all(len(each.series) <= MOST_SERIES for each in drawn)
    lines = len(result.table) // 2
    left = int(drawn[0].note.split(" more lines")[0].split()[-1]) if "more lines" in drawn[0].note else 0
    assert sum(len(each.series) for each in drawn) + left == lines
    assert len({each.title for each in drawn}) == len(drawn)
    assert all(len({line.name for line in each.series}) == len(each.series) for each in drawn)


def test_what_has_no_b_is_a_level_across():
    table = pd.DataFrame({
        "scheduler": ["queues", "queues", "lockstep"], "queue_size": [1, 64, None], "replications": 1, "status": "ok",
        "reason": "", "throughput_per_s": [1.0, 5.0, 4.0], "latency_p50_ms": 1.0, "latency_p95_ms": 1.0,
    })  # fmt: skip
    chart = next(each for each in runs_charts(runs_result(table, "x", {})) if each.name.startswith("throughput"))
    level = next(each for each in chart.series if each.form == REFERENCE)
    assert (list(level.x), list(level.y), level.name) == ([1, 64], [4, 4], "lockstep")
    assert chart.x_log


def test_short_runs_are_hollow():
    table = runs_table().assign(status="short", throughput_per_s=1.0, latency_p95_ms=1.0)
    chart = runs_charts(runs_result(table, "x", {}))[0]
    assert all(all(each.hollow) for each in chart.series)
    assert "Hollow: of a whole run" in chart.note


def test_settings_without_a_number_are_places_in_a_row():
    table = runs_table().head(2).assign(queue_size=1, rate_per_s=200, arrivals=["even", "skewed"])
    chart = runs_charts(runs_result(table, "x", {}))[0]
    assert list(chart.categories) == ["even", "skewed"]
    assert (list(chart.series[0].x), list(chart.series[0].crossed)) == (["even"], [("skewed", "unstable")])


def test_a_single_run_shows_its_percentiles():
    (chart,) = runs_charts(runs_result(runs_table().head(1), "x", {}))
    assert (list(chart.series[0].x), list(chart.series[0].y)) == (["p50", "p95", "p99"], [100, 200, 400])
    assert runs_charts(Result(RUNS, "x", runs_table()[1:2])) == []  # unstable: nothing was measured


def test_memory_misses_and_plans(charts):
    tokens = charts["memory.csv"]["tokens_per_s-slots"]
    assert {each.name: list(each.y) for each in tokens.series} == {
        "lru": pytest.approx([500 / 1.5, 400]), "lfu": pytest.approx([400, 500 / 1.125]),
        "all experts resident": [500, 500],
    }  # fmt: skip
    misses = charts["misses.csv"]["miss_ratio"]
    assert [(each.name, each.form) for each in misses.series][-1] == ("belady", REFERENCE)
    assert list(misses.series[0].y) == [1, 0.5, 0.25]  # of all layers, once
    loss = charts["plans.csv"]["loss-memory"]
    assert {each.name: (list(each.x), list(each.y)) for each in loss.series} == {
        "exact": ([20, 30], [0.3, 0.1]), "uniform": ([20], [0.5]),  # the one that was refused has no loss
    }  # fmt: skip


def test_bars_and_heat_maps(charts):
    balance = charts["placed/placements.csv"]["balance"]
    assert isinstance(balance, Bars)
    assert list(balance.categories) == ["lpt", "eplb", "eplb, redundant 8, even"]
    assert balance.parts == {"device max/mean": [2.5, 2.25, 1.125]}
    peak = charts["orders.csv"]["peak"]
    assert (list(peak.categories), peak.parts["peak"], peak.reference[0]) == (["captured", "lpmf"], [8, 6], 5)
    assert peak.note == "Refused: liu."
    heat = charts["toy.trace.parquet"]["over_mean"]
    assert isinstance(heat, HeatMap)
    assert (len(heat.rows), len(heat.columns), heat.centre) == (3, 8, 1.0)
    over_time = charts["training.loads.parquet"]["max_over_mean"]
    assert over_time.values == [[1, 1, 1, 1], [1, 1, 2.5, 2.5]]


def test_names_of_bars_differ():
    assert distinct(["a", "b", "a", "a"]) == ["a", "b", "a (2)", "a (3)"]


@pytest.mark.parametrize(
    ("used", "logarithmic", "ticks"),
    [((1, 2, 4), False, [1, 2, 4]), ((1, 2, 1000), False, []), ((1, 2, 1024), True, [1, 2, 1024]),
     ((0.5, 1), False, []), (range(30), False, [])],
)  # fmt: skip
def test_each_x_has_a_tick_where_there_is_room(used, logarithmic, ticks):
    from moe_replay.figures.charts.chart import Series

    chart = Chart("", "", "", "", [Series("", used, used)], x_log=logarithmic)
    assert chart.ticks == ticks


@pytest.mark.parametrize("name", TABLES)
def test_a_damaged_table_is_read_or_refused_by_name(tmp_path, name):
    """Each column in turn is gone, empty, text, or the same everywhere: charts, or one line that says why not."""
    whole = TABLES[name]()
    path = tmp_path / name.rpartition("/")[2]
    changes = [lambda t, column: t.drop(columns=column), lambda t, column: t.assign(**{column: None}),
               lambda t, column: t.assign(**{column: "word"}), lambda t, column: t.assign(**{column: 1})]  # fmt: skip
    refused = []
    for column in whole:
        for change in changes:
            change(whole, column).to_csv(path, index=False)
            try:
                for result in find_results(path).results:
                    charts_of(result)
            except InputError as error:
                refused.append(str(error))
    wanted = "allowed: what this version of the command wrote"
    assert [line for line in refused if path.name not in line or wanted not in line] == []


def listed_columns():
    """{table: columns} of the tables behind the shipped figures, as analysis makes them."""
    listed = (Path(__file__).resolve().parents[2] / "table_columns.txt").read_text()
    pairs = (line.partition(":") for line in listed.replace("\n    ", " ").splitlines())
    return {name: columns.split() for name, _, columns in pairs}


def small_table(columns, asked):
    """A table with these columns: two x for each of two lines in each of two panels, y as 10, 20, ..."""
    rows = []
    for panel in "ab":
        for line in "cd":
            for x in (1, 2):
                row = dict.fromkeys(columns, 0) | {name: line for name in asked.lines if name in columns}
                row |= dict.fromkeys(asked.panels, panel) | {asked.x: x, asked.y: 10.0 * (len(rows) + 1)}
                rows.append({**row, **({"status": "ok"} if "status" in columns else {})})
    return pd.DataFrame(rows)


@pytest.mark.parametrize("name", CURVES)
def test_described_tables_are_drawn_from_their_own_columns(name):
    """Every described column is one of its table's, or made from them; every row that is kept is drawn once."""
    asked, columns = CURVES[name], listed_columns()[name]
    table = small_table(columns, asked)
    for column, value in {"form": "loop", "planner": "lpt"}.items():
        if column in columns and column not in asked.panels:
            table[column] = value
    if "form" in asked.panels:
        table["form"] = table["form"].map({"a": "loop", "b": "grouped"})
    made = asked.rows(table.copy())
    assert {asked.x, asked.y, *asked.lines, *asked.panels} <= {*made}
    charts = table_charts(Result(TABLE, f"tables/{name}.csv", table))
    assert len(charts) == len(groups(made, asked.panels))
    drawn = [y for chart in charts for series in chart.series if series.form != REFERENCE for y in series.y]
    assert sorted(drawn) == sorted(made[asked.y])
    for chart in charts:
        assert not chart.categories or all(x in chart.categories for series in chart.series for x in series.x)


def test_times_to_tokens_are_drawn_where_a_table_has_them():
    table = runs_table().assign(ttft_p95_ms=3.0, tpot_p95_ms=float("nan"))
    names = [chart.name for chart in runs_charts(runs_result(table, "runs.csv", {}))]
    assert "ttft_p95_ms-queue_size" in names
    assert not [name for name in names if name.startswith("tpot")]
