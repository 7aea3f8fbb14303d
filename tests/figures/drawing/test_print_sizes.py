"""Every figure at the size at which it is printed, a column and a page wide: texts neither cover others nor leave it.

Set MOE_REPLAY_TABLES to a folder that `python -m analysis tables` wrote, and its figures are held to the same.
"""

import os
from pathlib import Path

import pytest
from drawn_texts import crowding
from matplotlib.text import Text

from moe_replay.figures.drawing import style
from moe_replay.figures.drawing.sheet import TALLEST, WIDTHS
from moe_replay.figures.drawing.table_files import TableFiles
from moe_replay.figures.gallery import FIGURES, draw_one

WHOLE = os.environ.get("MOE_REPLAY_TABLES")


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", FIGURES)
def test_no_text_covers_another_or_leaves_the_paper(name, width, tables, monkeypatch):
    held_to_print(name, width, tables, monkeypatch)


@pytest.mark.skipif(not WHOLE, reason="MOE_REPLAY_TABLES names no folder of tables")
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", FIGURES)
def test_figures_of_whole_tables_are_held_to_the_same(name, width, monkeypatch):
    held_to_print(name, width, Path(WHOLE), monkeypatch)


def held_to_print(name, width, folder, monkeypatch):
    figure = draw_one(name, TableFiles(folder), width)
    style.freeze(figure)
    assert figure.get_figwidth() == WIDTHS[width]
    assert figure.get_figheight() <= TALLEST
    assert crowding(figure, monkeypatch) == []
    sizes = {text.get_fontsize() for text in figure.findobj(Text) if text.get_text().strip()}
    assert sizes <= {style.FONT, style.SMALL}
