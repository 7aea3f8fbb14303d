"""The figure random_routing: curves per configuration, times with spread, and a table that can be read."""

import pandas as pd
from matplotlib.axes import Axes

from moe_replay.figures.drawing.table_files import TableFiles
from moe_replay.figures.gallery import draw_one


def panels(figure, start):
    return [axes for axes in figure.findobj(Axes) if axes.get_title(loc="left").startswith(start)]


def cells(figure):
    """Return the text of every results table, row by row."""
    tables = [table for axes in figure.findobj(Axes) for table in axes.tables]
    return [
        [" ".join(cell.get_text().get_text().split()) for _, cell in sorted(table.get_celld().items())]
        for table in tables
    ]


def test_a_curve_per_configuration_and_the_threshold(tables):
    figure = draw_one("random_routing", TableFiles(tables))
    for axes in panels(figure, "test accuracy"):
        _, labels = axes.get_legend_handles_labels()
        assert labels == ["dense", "switch, 4 experts", "random routing, 4 experts"]
        means = [line for line in axes.lines if line.get_label() in labels]
        assert means[0].get_ydata()[-1] == 60.5  # over seeds 60 and 61
        assert any(set(line.get_ydata()) == {59.0} for line in axes.lines)


def test_the_table_of_results_says_what_was_and_was_not_reached_or_measured(tables):
    first, second = cells(draw_one("random_routing", TableFiles(tables)))
    assert first[:2] == ["model", "weights trained"]
    assert "not reached" in first
    assert "1.30 (1.30 to 1.30)" in first
    assert "62.00 (61.00 to 63.00)" in first
    assert "not measured" not in first
    assert "not measured" in second


def test_unmeasured_times_are_named_in_their_panel(tables):
    whole, empty = panels(draw_one("random_routing", TableFiles(tables)), "time for 60,000 images")
    assert not [text for text in whole.texts if "not measured" in text.get_text()]
    assert [text for text in empty.texts if "not measured" in text.get_text()]


def test_a_hole_of_a_set_stands_beside_its_curves(tables):
    path = tables / "random_routing.csv"
    table = pd.read_csv(path)
    lost = {"set": "cpu-toy/digits", "status": "missing", "reason": "vision_times.csv: no such file"}
    pd.concat([table, pd.DataFrame([lost])]).to_csv(path, index=False)
    files = TableFiles(tables)
    figure = draw_one("random_routing", files)
    assert files.holes == ["cpu-toy/digits: missing: vision_times.csv: no such file"]
    assert len(panels(figure, "test accuracy")) == 2
