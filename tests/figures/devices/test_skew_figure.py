"""The figure skew: a panel per layer and step, measured times as lines, a trace's as crosses with the rule's error."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from moe_replay.figures.drawing.table_files import TableFiles
from moe_replay.figures.gallery import draw_one


def drawn(tables):
    figure = draw_one("skew", TableFiles(tables))
    return figure, [axes for axes in figure.findobj(Axes) if axes.axison]


def test_lines_are_what_was_measured_and_a_trace_reaches_as_far_as_the_rule_is_off(tables):
    figure, panels = drawn(tables)
    assert [axes.get_title(loc="left") for axes in panels] == [
        f"{served} (vllm 1, GPU)\n{tokens} tokens a step" for served in ("toy", "small") for tokens in ("64", "2,048")
    ]
    toy, small = panels[0], panels[2]
    lines = {line.get_label(): line.get_ydata() for line in toy.lines}
    np.testing.assert_allclose(lines["balanced (measured)"], [100, 50, 25])
    np.testing.assert_allclose(lines["power law 1.2"], [200, 100, 50])
    np.testing.assert_allclose(lines["cluster model, balanced"], [500, 250, 125])
    np.testing.assert_allclose(lines["cluster model at the roofline"], [50, 25, 12.5])
    (bars,) = (each for each in toy.collections if hasattr(each, "get_segments"))
    for segment, us in zip(bars.get_segments(), (120, 60, 30), strict=True):
        np.testing.assert_allclose(segment[:, 1], [us / 1.1, us / 0.8])  # 10 % too long, 20 % too short
    assert not [each for each in small.collections if hasattr(each, "get_segments")]
    said = figure.get_suptitle().replace("\n", " ")
    assert said.startswith("Power laws make a layer of toy (vllm 1, GPU) up to 2.00 times as long on 4 devices")
    assert said.endswith("a language model's selections up to 1.20 (by a rule)")


def test_a_layer_that_is_missing_is_named_beside_the_others(tables):
    path = tables / "skew.csv"
    rows = pd.read_csv(path)
    hole = {"set": "gpu", "served": "other", "status": "missing", "reason": "skew/other.csv: no such file"}
    pd.concat([rows, pd.DataFrame([hole])]).to_csv(path, index=False)
    _, panels = drawn(tables)
    assert len(panels) == 4
    assert "no such file" in " ".join(text.get_text() for axes in panels for text in axes.texts)
