"""The table of figures in figures/README.md: a row each with title, data, tables and commands; the titles are drawn.

Titles are compared with those of whole tables, where MOE_REPLAY_TABLES names a folder of them.
"""

import os
from pathlib import Path

import pytest

from moe_replay.figures.drawing.table_files import TableFiles
from moe_replay.figures.gallery import FIGURES, draw_one, table_of

README = Path(__file__).resolve().parents[3] / "figures" / "README.md"
WHOLE = os.environ.get("MOE_REPLAY_TABLES")


def row_of(name):
    """Return the cells of a figure's row: question, title, data, tables, commands."""
    (row,) = [line for line in README.read_text().splitlines() if line.startswith(f"| `{name}` |")]
    return [cell.strip() for cell in row.strip("| ").split(" | ")][1:]


def one_line(text):
    return " ".join(text.split())


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_has_title_data_tables_and_commands(name):
    question, title, data, tables, commands = row_of(name)
    assert all((question, title, data))
    assert f"`{table_of(name)}`" in tables
    assert f"--only {table_of(name)} --out T`" in commands
    assert commands.endswith(f"`python -m figures T --only {name}`")


@pytest.mark.skipif(not WHOLE, reason="MOE_REPLAY_TABLES names no folder of tables")
@pytest.mark.parametrize("name", FIGURES)
def test_titles_in_the_table_are_those_drawn(name):
    assert row_of(name)[1] == one_line(draw_one(name, TableFiles(Path(WHOLE))).get_suptitle())


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_has_a_title_or_no_numbers_to_make_it_of(name, tables):
    """With the claims of the small tables some have none; those that are made of a table alone always have one."""
    title = one_line(draw_one(name, TableFiles(tables)).get_suptitle())
    assert title == "" or any(letter.isdigit() for letter in title)
