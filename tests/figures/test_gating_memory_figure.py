"""The figure gating_memory: what is drawn is what the tables say, and a panel without data says so."""

import pandas as pd
import pytest
from matplotlib.axes import Axes

from moe_replay.figures.drawing.table_files import TableFiles
from moe_replay.figures.gallery import draw_one

SUPPLEMENT = "gating_memory_supplement"


def waste_panels(tables):
    whole = panels(tables, "", SUPPLEMENT)
    return [axes for axes in whole if "rows computed" in axes.get_title(loc="left")]


def panels(tables, start, name="gating_memory"):
    figure = draw_one(name, TableFiles(tables))
    return [axes for axes in figure.findobj(Axes) if axes.get_title(loc="left").startswith(start)]


def test_current_and_peak_of_every_kind_of_expert(tables):
    language, trained = panels(tables, "cpu-toy/cifar10", SUPPLEMENT)[:2]
    drawn = {line.get_label(): line.get_ydata().tolist() for line in language.lines}
    assert drawn["static, every expert"] == [400, 1600]
    assert drawn["_dynamic, mean expert: current"] == pytest.approx([12.5, 50])
    assert len(drawn) == 6
    assert language.get_xscale() == language.get_yscale() == "log"
    assert list(language.get_xticks()) == [100, 400]
    assert "static drops up to 20 % of choices" in [text.get_text() for text in language.texts]
    assert "static drops nothing" in [text.get_text() for text in trained.texts]


def test_the_layers_peak_is_shown_for_the_published_ratios_alone(tables):
    for axes in panels(tables, "")[::2]:
        drawn = {line.get_label(): line.get_ydata() for line in axes.lines}
        assert len(drawn) == 2 * 3
        assert drawn["translation model's ratios, static"][0] == pytest.approx(10 * 100 * 64e4 / 2**20)


def test_measured_waste_stands_over_predicted_waste(tables):
    for axes in waste_panels(tables):
        (points,) = [line for line in axes.lines if line.get_linestyle() == "None"]
        assert points.get_ydata() == pytest.approx(1.01 * points.get_xdata())
        assert {"language model's ratios: 12.8", "translation model's ratios: 64"} <= {
            text.get_text() for text in axes.texts
        }


def test_dispatches_and_sizes_are_explained_once(tables):
    figure = draw_one("gating_memory", TableFiles(tables))
    assert not [axes for axes in figure.axes if axes.get_legend()]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "static", "gathered", "dynamic", "language model's ratios", "translation model's ratios",
    ]  # fmt: skip


def test_a_grid_without_published_ratios_still_draws(tables):
    table = pd.read_csv(tables / "gating_memory.csv")
    table[table["like"].isna()].to_csv(tables / "gating_memory.csv", index=False)
    assert "not among what was measured" in " ".join(panels(tables, "")[0].texts[0].get_text().split())
    (axes, _) = waste_panels(tables)
    assert [line.get_linestyle() for line in axes.lines].count("None") == 1


def test_layers_of_shapes_have_series_of_their_own(tables):
    def of_shape(table):
        own = table[table["convention"] == "CSk/E"].assign(like="tiny", set="gpu-toy/tiny", capacity_factor=1.2)
        return pd.concat([table, own, own.assign(capacity_factor=2.4)])

    path = tables / "gating_memory.csv"
    of_shape(pd.read_csv(path)).to_csv(path, index=False)
    peaks = panels(tables, "")[::2][-1]
    drawn = {line.get_label(): len(line.get_xdata()) for line in peaks.lines}
    assert drawn == {f"layer of tiny, {name}": 4 for name in ("static", "gathered", "dynamic")}  # not both capacities
