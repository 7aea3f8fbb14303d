"""The figure peak_memory: what is drawn is what the tables say."""

import pytest
from matplotlib.axes import Axes

from moe_replay.figures.drawing.table_files import TableFiles
from moe_replay.figures.gallery import draw_one


def test_orders_bounds_gains_and_compiled_iterations_are_drawn(tables):
    figure = draw_one("peak_memory", TableFiles(tables))
    assert figure.get_size_inches()[0] == 7
    orders, gains, compiled, *others = [axes for axes in figure.findobj(Axes) if axes.get_title(loc="left")]
    assert [text.get_text() for text in orders.get_yticklabels()] == ["classifier b8", "ViT b8 AC"]
    drawn = {line.get_label(): list(line.get_xdata()) for line in orders.lines}
    assert drawn["best found"] == pytest.approx([0.6, 0.6])  # not the one in which the optimizer waits
    assert drawn["breadth first"] == pytest.approx([3, 3])
    (bounds,) = [each for each in orders.collections if each.get_label() == "no order needs less"]
    assert [path[0, 0] for path in bounds.get_segments()] == pytest.approx([0.5, 0.5])
    assert sorted(bar.get_width() for bar in gains.patches) == pytest.approx([10, 10, 100 / 3, 100 / 3])
    assert [bar.get_height() for bar in compiled.patches][:4] == pytest.approx([1.25, 1.25, 1.1, 1.1])
    assert [text.get_text() for text in compiled.texts] == ["0.50", "0.50", "0.60", "0.60", "none", "none"]
    assert "no compiled iteration was measured" in [text.get_text() for text in others[2].texts]
