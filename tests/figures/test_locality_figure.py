"""The locality and miss_ratio figures where several sets hold traces of one name; looks that stay distinct."""

import matplotlib.pyplot as plt
import pandas as pd
import pytest
from locality_tables import DOMAINS, locality_tables

from moe_replay.figures.drawing import style
from moe_replay.figures.drawing.table_files import TableFiles
from moe_replay.figures.expert_memory import miss_ratio
from moe_replay.figures.routing import locality

SETS = ("cpu/text", "gpu/text")


@pytest.fixture
def of_two_sets(tmp_path):
    """Tables in which both sets hold a trace `language-decode`."""
    made = {name: locality_tables(name) for name in SETS}
    for table in made[SETS[0]]:
        pd.DataFrame([row for name in SETS for row in made[name][table]]).to_csv(tmp_path / f"{table}.csv", index=False)
    pd.DataFrame(
        {"set": name, "trace": "language-decode", "policy": "lru", "slots": slots, "mode": mode, "emptied": "never",
         "experts": 4, "experts_per_step": 2.0, "miss_ratio": 1 / slots, "over_lru_percent": 0.0,
         "over_optimum_points": 0.0}
        for name in SETS for mode in ("flat", "group") for slots in (1, 2, 4)
    ).to_csv(tmp_path / "miss_ratio.csv", index=False)  # fmt: skip
    yield TableFiles(tmp_path)
    plt.close("all")


def title(axes):
    """A panel's title: at the left where another test has applied the style."""
    return axes.get_title() or axes.get_title("left")


def titles(figure):
    return [title(axes) for axes in figure.axes]


def test_equal_names_of_several_sets_stay_apart(of_two_sets):
    figure = locality.draw(of_two_sets)
    heat = [axes for axes in figure.axes if ", layer" in title(axes)]
    assert [title(axes).partition("\n")[2] for axes in heat] == ["recorded order", "control, random order"]
    assert [[tick.get_text() for tick in axes.get_xticklabels()] for axes in heat] == [list(DOMAINS)] * 2
    (legend,) = figure.legends
    shown = [text.get_text() for text in legend.get_texts()]
    assert shown[2:] == [f"{name}: {trace}" for name in SETS for trace in ("decode", "vtest")]
    shown = titles(miss_ratio.draw(of_two_sets))
    assert [title.partition("\n")[0] for title in shown] == [f"{name}: decode" for name in SETS]


def test_as_many_looks_as_pairs_of_colour_and_marker():
    looks = [tuple(style.look(index).values()) for index in range(len(style.COLOURS) * len(style.MARKERS))]
    assert len(set(looks)) == 36
