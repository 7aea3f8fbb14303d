"""The figure random_routing: curves per configuration, times with spread, and what was not measured."""

import pandas as pd
from matplotlib.axes import Axes

from moe_replay.figures.drawing.table_files import TableFiles
from moe_replay.figures.gallery import draw_one


def panels(figure, start):
    return [axes for axes in figure.findobj(Axes) if start in axes.get_title(loc="left")]


def test_a_curve_per_configuration_and_the_threshold(tables):
    figure = draw_one("random_routing", TableFiles(tables))
    for axes in panels(figure, "test accuracy"):
        _, labels = axes.get_legend_handles_labels()
        assert labels == ["dense", "switch, 4 experts", "random routing, 4 experts"]
        means = [line for line in axes.lines if line.get_label() in labels]
        assert means[0].get_ydata()[-1] == 60.5  # over seeds 60 and 61
        assert any(set(line.get_ydata()) == {59.0} for line in axes.lines)


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
