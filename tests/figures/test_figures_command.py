"""`python -m figures`: three files per figure, the same bytes twice, holes with names and a true exit status."""

import contextlib
import hashlib
import io
import json
import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.text import Text
from PIL import Image
from watched_tables import WatchedFiles, table_columns

from moe_replay.figures.__main__ import app
from moe_replay.figures.drawing.drawn_files import LIST
from moe_replay.figures.drawing.style import by_reason
from moe_replay.figures.drawing.table_files import TableFiles
from moe_replay.figures.gallery import FIGURES, draw_one, table_of
from moe_replay.traces.command_line.command import status_of

MOST_PANELS = 6


def draw(tables, out, *options):
    """Run the command; return its status and what it said, as a user meets them."""
    said, wrong = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(wrong):
        status = status_of(app, "figures", [str(tables), "--out", str(out), *options])
    return SimpleNamespace(exit_code=status, output=said.getvalue() + wrong.getvalue(), stderr=wrong.getvalue())


def panels_titled(figure, start):
    """Return the panels whose title starts with some words."""
    return [axes for axes in figure.findobj(Axes) if axes.get_title(loc="left").startswith(start)]


def words_of(figure):
    """Return every text in a figure."""
    texts = (text.get_text() for text in figure.findobj(Text))
    return " ".join(" ".join(texts).split())


def change(tables, name, function):
    path = tables / f"{name}.csv"
    function(pd.read_csv(path)).to_csv(path, index=False)


def test_three_files_per_figure_and_the_same_bytes_twice(tables, tmp_path):
    """PDF and caption to the byte; the PNG to one grey level, since anti-aliasing shows the last bit of a coordinate,
    and that bit was seen to change from one drawing to the next in one process."""
    done = draw(tables, tmp_path / "one")
    assert done.exit_code == 0, done.output
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert names == sorted([LIST, *(f"{name}.{kind}" for name in FIGURES for kind in ("pdf", "png", "md"))])
    for name in FIGURES:
        digest = hashlib.sha256((tables / f"{table_of(name)}.csv").read_bytes()).hexdigest()[:12]
        about = Image.open(tmp_path / "one" / f"{name}.png")
        assert f"{table_of(name)}.csv sha256 {digest}" in about.text["Description"]
        assert about.width == pytest.approx(7 * 200, abs=1)  # inches of the page, dots per inch
        assert f"{table_of(name)}.csv, sha256 {digest}" in (tmp_path / "one" / f"{name}.md").read_text()
    assert draw(tables, tmp_path / "two", "--only", "queue_size").exit_code == 0
    for kind in ("pdf", "md"):
        assert (tmp_path / f"two/queue_size.{kind}").read_bytes() == (tmp_path / f"one/queue_size.{kind}").read_bytes()
    first, second = (np.asarray(Image.open(tmp_path / f"{run}/queue_size.png"), int) for run in ("one", "two"))
    assert first.shape == second.shape
    assert np.abs(first - second).max() <= 1
    assert b"CreationDate" not in (tmp_path / "one" / "queue_size.pdf").read_bytes()


def test_caption_states_claim_numbers_and_tables(tables, tmp_path):
    draw(tables, tmp_path / "out", "--only", "queue_size")
    text = (tmp_path / "out" / "queue_size.md").read_text()
    assert "What queue_size shows." in text
    assert "gain: 1.235" in text
    assert "queue_size_tradeoff.csv, sha256" in text


@pytest.mark.parametrize("width", ["3.3", "column", "3.3in"])
def test_a_column_is_as_wide_as_it_is_printed(width, tables, tmp_path):
    assert draw(tables, tmp_path / "out", "--only", "links", "--width", width).exit_code == 0
    assert Image.open(tmp_path / "out" / "links.png").width == pytest.approx(3.3 * 200, abs=1)


def test_executed_simulated_and_theory_stand_on_the_same_axes(tables):
    figure = draw_one("queue_size", TableFiles(tables))
    throughput = panels_titled(figure, "cpu-toy/cifar10: throughput, closed loop")[0]
    assert len(throughput.containers) == 2  # executed: points with error bars, one series per N
    drawn = [line for line in throughput.lines if len(line.get_xdata()) == 5 and line.get_linestyle() != "None"]
    assert len(drawn) == 2 + 1  # a simulated line per N, and one of theory
    assert [tick for tick in throughput.get_xticks() if 1 <= tick <= 16] == [1, 2, 4, 8, 16]
    assert throughput.get_xscale() == "log"
    assert "lockstep, N=64, executed" in words_of(throughput)


def test_series_differ_without_colour(tables):
    figure = draw_one("queue_size", TableFiles(tables))
    for axes in figure.findobj(Axes):
        handles, _ = axes.get_legend_handles_labels()
        looks = [
            (str(handle.get_marker()), str(handle._dash_pattern)) for handle in handles if hasattr(handle, "get_marker")
        ]
        assert len(set(looks)) == len(looks)


def test_what_cannot_keep_up_is_crossed_outside_the_scale_and_not_drawn_as_a_value(tables):
    figure = draw_one("queue_size", TableFiles(tables))
    panels = [
        axes
        for name in ("cpu-toy/cifar10", "cpu-toy/digits")
        for axes in panels_titled(figure, f"{name}: median latency, Poisson")
    ]
    assert len(panels) == 2
    for axes in panels:
        crosses = [line for line in axes.lines if line.get_marker() == "x"]
        assert [sorted(set(line.get_xdata())) for line in crosses] == [[1, 2]] * 2  # of both loads
        assert all(min(line.get_ydata()) > 1 for line in crosses)  # of the axes' height
        assert "ms" in axes.get_ylabel()
        assert "lower is better" in axes.get_ylabel()


def test_two_runs_are_two_points_and_no_interval(tables):
    """With t over two runs it spanned 250 to 4,300 samples/s around points 5 % apart."""

    def panel():
        return panels_titled(draw_one("queue_size", TableFiles(tables)), "cpu-toy/cifar10: throughput")[0]

    (bars,) = panel().containers[0].lines[2]
    assert min(end[1] - start[1] for start, end in bars.get_segments()) > 0
    change(tables, "queue_size", lambda table: table.assign(replications=2))
    assert not panel().containers
    points = [line.get_ydata() for line in panel().lines if line.get_linestyle() == "None" and len(line.get_xdata())]
    rates = np.array([100 * size / (1 + size / 8) for size in (1, 2, 4, 8, 16)])
    np.testing.assert_allclose(points, [rates * end for end in (0.95, 1.05)] * 2)  # of both N


def test_a_set_without_poisson_arrivals_has_no_panel_of_them(tables):
    name = "cpu-toy/digits"
    change(tables, "queue_size", lambda table: table[(table["set"] != name) | (table["arrivals"] == "closed")])
    change(tables, "queue_size_tradeoff", lambda table: table[table["set"] != name])
    figure = draw_one("queue_size", TableFiles(tables))
    titles = [axes.get_title(loc="left") for axes in panels_titled(figure, "cpu-toy")]
    assert titles == ["cpu-toy/cifar10: throughput, closed loop", "cpu-toy/cifar10: median latency, Poisson arrivals",
                      "cpu-toy/digits: throughput, closed loop"]  # fmt: skip


@pytest.mark.parametrize("name", FIGURES)
def test_a_missing_table_is_a_hole_with_a_name(name, tables, tmp_path):
    (tables / f"{table_of(name)}.csv").unlink()
    done = draw(tables, tmp_path / "out", "--only", name)
    assert done.exit_code == 1
    assert f"{name}: {table_of(name)}.csv: no such file" in done.stderr
    assert (tmp_path / "out" / f"{name}.png").stat().st_size > 5000
    assert "no such file" in (tmp_path / "out" / f"{name}.md").read_text()
    assert "no such file" in words_of(draw_one(name, TableFiles(tables)))


@pytest.mark.parametrize(
    ("name", "status"), [("accuracy_vs_k", "missing"), ("load_vs_k", "failed"), ("queue_size", "failed")]
)
def test_a_failed_set_is_a_hole_beside_the_others(name, status, tables, tmp_path):
    def lose_one(table):
        lost = {"set": "cpu-toy/digits", "status": status, "reason": "the disk ate it"}
        return pd.concat([table[table["set"] != "cpu-toy/digits"], pd.DataFrame([lost])])

    change(tables, name, lose_one)
    done = draw(tables, tmp_path / "out", "--only", name)
    assert done.exit_code == 1
    assert "cpu-toy/digits: " + status + ": the disk ate it" in done.stderr
    text = words_of(draw_one(name, TableFiles(tables)))
    assert "the disk ate it" in text
    assert "cpu-toy/cifar10" in text


def test_a_missing_point_is_named_in_its_panel(tables, tmp_path):
    def lose(table):
        here = (table["source"] == "executed") & (table["setting"] == "N=64") & (table["queue_size"] == 4)
        return table.assign(
            status=table["status"].mask(here, "missing"), reason=table["reason"].astype(object).mask(here, "killed")
        )

    change(tables, "queue_size", lose)
    assert draw(tables, tmp_path / "out", "--only", "queue_size").exit_code == 1
    assert "executed N=64 B=4: missing: killed" in words_of(draw_one("queue_size", TableFiles(tables)))


def test_a_run_that_was_not_simulated_is_counted(tables, tmp_path):
    change(
        tables,
        "fidelity",
        lambda table: table.assign(status=["missing"] + ["ok"] * (len(table) - 1), reason="no simulation"),
    )
    assert draw(tables, tmp_path / "out", "--only", "fidelity").exit_code == 1
    assert "1 missing or failed" in words_of(draw_one("fidelity", TableFiles(tables)))


def test_only_simulated_still_draws(tables, tmp_path):
    for name in ("queue_size", "queue_size_tradeoff"):
        change(tables, name, lambda table: table[table["source"] != "executed"])
    assert draw(tables, tmp_path / "out", "--only", "queue_size").exit_code == 0


def test_wrong_names_are_one_line(tables, tmp_path):
    done = draw(tables, tmp_path / "out", "--only", "luck")
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert f"known: {', '.join(sorted(FIGURES))}" in done.stderr
    done = draw(tables, tmp_path / "out", "--width", "5in")
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert "--width 5in" in done.stderr
    assert "allowed: column (3.3 inches), page (7 inches)" in done.stderr
    done = draw(tmp_path / "nowhere", tmp_path / "out")
    assert done.exit_code == 2
    assert "no such folder of tables" in done.stderr


def test_equal_reasons_are_told_once():
    lines = ["theory B=1: missing: no costs", "theory B=2: missing: no costs", "N=64 B=8: failed: cut short"]
    assert by_reason(lines) == ["theory B=1 and 1 more: missing: no costs", "N=64 B=8: failed: cut short"]


def test_without_only_what_has_tables_is_drawn(tables, tmp_path):
    """As after `analysis tables --only X`: no figure that nobody asked for, and no hole for it."""
    claims = json.loads((tables / "claims.json").read_text())
    (tables / "claims.json").write_text(json.dumps({name: claims[name] for name in ("load_vs_k", "locality")}))
    for path in tables.glob("*.csv"):
        if not path.name.startswith("load_vs_k"):
            path.unlink()
    done = draw(tables, tmp_path / "out")
    assert done.exit_code == 1  # locality has a claim, so it was asked for, and no table
    assert "load_vs_k, locality, locality_supplement, " in done.output
    assert {path.stem for path in (tmp_path / "out").glob("*.png")} == {"load_vs_k", "locality", "locality_supplement"}
    for path in tables.iterdir():
        path.unlink()
    done = draw(tables, tmp_path / "out")
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert "holds no table of a figure; allowed: what `python -m analysis tables` wrote" in done.stderr


@pytest.mark.parametrize("name", FIGURES)
def test_whole_tables_leave_no_hole_and_lack_no_column_that_a_figure_asks_for(name, tables, lacking):
    """A column renamed in analysis alone made `queue_size` a hole, and could take intervals away without a word."""
    files = WatchedFiles(tables)
    figure = draw_one(name, files)
    assert files.holes == []
    assert "status" in table_columns()[table_of(name)]  # tables of details have none, and `percent` no interval
    assert not lacking - {"status", "percent_low"}
    assert "missing or failed" not in words_of(figure)
    assert "sha256" not in words_of(figure)
    assert len([axes for axes in figure.findobj(Axes) if axes.axison and axes.get_title(loc="left")]) <= MOST_PANELS


@pytest.mark.parametrize("name", FIGURES)
def test_a_table_that_holds_nothing_to_draw_is_a_hole(name, tables, tmp_path):
    """Columns alone, no row: a panel was empty beside "0 holes"."""
    for path in tables.glob(f"{table_of(name)}*.csv"):
        path.write_text(path.read_text().splitlines()[0] + "\n")
    done = draw(tables, tmp_path / "out", "--only", name)
    assert done.exit_code == 1
    assert "holds no row that can be drawn" in done.stderr


@pytest.mark.parametrize("name", FIGURES)
def test_tables_of_another_version_are_one_line(name, tables, tmp_path):
    for path in tables.glob(f"{table_of(name)}*.csv"):
        path.write_text("set,trace,label,status,queue_size,view,k\nx,y,z,ok,1,1,1\n")
    done = draw(tables, tmp_path / "out", "--only", name)
    assert done.exit_code in (1, 2)
    assert "Traceback" not in done.output
    if done.exit_code == 2:
        assert f"a table of {name} lacks" in done.stderr


def test_figures_of_another_folder_of_tables_are_not_replaced_unasked(tables, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["figures/__main__.py", str(tables)])
    assert draw(tables, tmp_path / "out", "--only", "locality").exit_code == 0
    before = {path: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    monkeypatch.setattr(sys, "argv", ["figures/__main__.py", "other"])
    change(tables, "locality", lambda table: table.iloc[:-1])
    done = draw(tables, tmp_path / "out", "--only", "locality")
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert "allowed: --force to replace it" in done.stderr
    assert {path: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before
    assert draw(tables, tmp_path / "out", "--only", "locality", "--force").exit_code == 0
