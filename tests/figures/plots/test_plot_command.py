"""`figures plot`: pictures of a user's own results, whole or not at all, and never a value that was not measured."""

import contextlib
import io
import json
import shutil
import sys
from types import SimpleNamespace
from unittest.mock import patch

import numpy as np
import pytest
from own_results import own_results, runs_table

from moe_replay.analysis.results.results_found import find_results
from moe_replay.figures.__main__ import app
from moe_replay.figures.charts.charts_of_results import charts_of
from moe_replay.figures.drawing.sheet import WIDTHS
from moe_replay.figures.plots.plotted_files import LIST
from moe_replay.figures.plots.static_charts import draw_chart
from moe_replay.traces.command_line.command import status_of


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return own_results(tmp_path_factory.mktemp("own"))


def plot(*words):
    said, wrong = io.StringIO(), io.StringIO()
    asked = ["plot", *map(str, words)]
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(wrong), patch.object(sys, "argv", ["x", *asked]):
        status = status_of(app, "figures", asked)
    return SimpleNamespace(status=status, said=said.getvalue(), wrong=wrong.getvalue())


def test_a_pdf_and_a_png_of_every_chart_and_a_list(folder, tmp_path):
    done = plot(folder / "over.csv", "--out", tmp_path / "plots")
    assert (done.status, done.wrong) == (0, "")
    about = json.loads((tmp_path / "plots" / LIST).read_text())
    assert [*about["plots"]] == ["over.csv-balance", "over.csv-balance-moves"]
    files = {path.name for path in (tmp_path / "plots").iterdir()}
    assert files == {LIST, *(f"{name}.{kind}" for name in about["plots"] for kind in ("pdf", "png"))}
    assert f"{len(about['plots'])} plots of 1 results, 0 not read" in done.said
    assert plot(folder / "over.csv", "--out", tmp_path / "plots").status == 0  # the same again


def test_another_commands_plots_are_kept(folder, tmp_path):
    words = (folder / "orders.csv", "--format", "png", "--out", tmp_path / "plots")
    assert plot(*words).status == 0
    refused = plot(*words, "--width", "column")
    assert refused.status == 2
    assert "--force" in refused.wrong
    assert plot(*words, "--width", "column", "--force").status == 0


@pytest.mark.parametrize("width", WIDTHS)
def test_only_what_was_measured_is_drawn(folder, width):
    """Points of all lines in data coordinates: those of the table's measured rows, none at the unstable setting."""
    (result,) = find_results(folder / "runs.csv").results
    chart = next(each for each in charts_of(result) if each.name == "latency_p95_ms-queue_size")
    figure = draw_chart(chart, width)
    (axes,) = figure.axes
    values = [line for line in axes.lines if line.get_transform() == axes.transData]
    drawn = {tuple(point) for line in values for point in line.get_xydata()}
    table = runs_table()
    fine = table[table["status"] == "ok"]
    assert drawn == set(zip(fine["queue_size"].astype(float), fine["latency_p95_ms"], strict=True))
    crosses = [line for line in axes.lines if line not in values and line.get_marker() == "x"]
    assert [list(each.get_xdata()) for each in crosses] == [[1]]
    assert figure.get_figwidth() == WIDTHS[width]


@pytest.mark.parametrize("width", WIDTHS)
def test_every_kind_is_drawn_within_its_frame(folder, width):
    """No title, label or name of a bar is cut off at the edge."""
    for result in find_results(folder).results:
        for chart in charts_of(result)[:3]:
            figure = draw_chart(chart, width)
            figure.canvas.draw()
            renderer = figure.canvas.get_renderer()
            for axes in figure.axes:
                extent = axes.get_tightbbox(renderer)
                assert extent.x0 >= -2, (chart.title, width)
                assert extent.x1 <= figure.bbox.x1 + 2, (chart.title, width)
            assert np.isfinite(figure.bbox.width)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["nowhere"], "nowhere: no such file or folder; allowed: what `simulate`"),
        (["theirs.csv"], "holds tables that have no plot; allowed: `figures report` shows tables"),
        (["theirs.csv", "--format", "svg"], "unknown --format 'svg'; known: pdf, png"),
    ],
)
def test_what_cannot_be_plotted_gets_one_line(tmp_path, monkeypatch, words, line):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "theirs.csv").write_text("city,height\nA,1\n")
    done = plot(*words)
    assert (done.status, done.wrong.count("\n")) == (2, 1)
    assert line in done.wrong
    assert not (tmp_path / "plots").exists()


def test_what_cannot_be_read_is_named_and_the_status_is_1(folder, tmp_path):
    (tmp_path / "x").mkdir()
    shutil.copy(folder / "orders.csv", tmp_path / "x")
    (tmp_path / "x" / "broken.csv").write_text('a,b\n"1,2\n')
    done = plot(tmp_path / "x", "--out", tmp_path / "plots", "--format", "png")
    assert done.status == 1
    assert "broken.csv: not a CSV table" in done.wrong
