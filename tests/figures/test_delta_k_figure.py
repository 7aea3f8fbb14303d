"""The figure delta_k: what was stated beforehand is marked, nothing outside a scale is lost, holes are named."""

import pandas as pd
import pytest
from matplotlib.axes import Axes

from moe_replay.figures.drawing.table_files import TableFiles
from moe_replay.figures.gallery import draw_one


def forests(figure):
    return [axes for axes in figure.findobj(Axes) if axes.get_title(loc="left").endswith("fixed K (mean 2)")]


def words_of(artist):
    return " | ".join(text.get_text() for text in artist.findobj(lambda each: hasattr(each, "get_text")))


def test_diamonds_are_the_comparisons_stated_beforehand(tables):
    for axes in forests(draw_one("delta_k", TableFiles(tables))):
        diamonds = [line.get_xdata()[0] for line in axes.lines if line.get_marker() == "D"]
        assert diamonds == [pytest.approx(0.2), pytest.approx(-0.4)]
        circles = [line for line in axes.lines if line.get_marker() == "o"]
        assert len(circles) == 2 * 2 + 1  # the other comparisons at equal mean K, and the other rule


def test_what_lies_outside_the_scale_is_told_in_words(tables):
    (first, _) = forests(draw_one("delta_k", TableFiles(tables)))
    assert first.get_xlim()[1] < 2
    assert "better; by 0.3: open: +7.0 (+6.6 to +7.4)" in words_of(first)
    assert "none: not timed" in words_of(first)


def test_points_beyond_the_shown_k_and_secondary_rules_stay_out_of_the_first_panel(tables):
    figure = draw_one("delta_k", TableFiles(tables))
    first = next(
        axes for axes in figure.findobj(Axes) if axes.get_title(loc="left").endswith("accuracy against mean K")
    )
    _, labels = first.get_legend_handles_labels()
    assert labels == ["trained at each fixed k", "fixed-4 at fixed k", "fixed-4 + delta: K per sample",
                      "trained with delta: K per sample"]  # fmt: skip
    assert max(line.get_xdata().max() for line in first.lines) < 4.1


def test_a_failed_set_is_named_beside_the_others(tables):
    path = tables / "delta_k.csv"
    table = pd.read_csv(path)
    lost = {"set": "cpu-toy/digits", "status": "failed", "reason": "the disk ate it"}
    pd.concat([table[table["set"] != "cpu-toy/digits"], pd.DataFrame([lost])]).to_csv(path, index=False)
    read = TableFiles(tables)
    figure = draw_one("delta_k", read)
    assert "the disk ate it" in words_of(figure)
    assert len(forests(figure)) == 1
    assert read.holes == ["cpu-toy/digits: failed: the disk ate it"]


def test_no_set_at_all_is_a_hole(tables):
    pd.DataFrame([{"set": "all sets", "status": "missing", "reason": "no set holds any"}]).to_csv(
        tables / "delta_k.csv", index=False
    )
    assert "no set holds any" in words_of(draw_one("delta_k", TableFiles(tables)))
