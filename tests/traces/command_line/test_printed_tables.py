"""Printed tables: whole where they fit, turned on a narrow terminal, never wrapped in a file; one rule for all."""

import io
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table

from moe_replay.traces.command_line.printed_tables import print_table

ROOT = Path(__file__).resolve().parents[3]


def printed(columns, width, terminal):
    """Return the lines of a table with two rows on a terminal of some width, or in a file."""
    table = Table(*(f"column {at}" for at in range(columns)), box=None)
    for row in ("a", "b"):
        table.add_row(*(f"{row}{at}" for at in range(columns)))
    said = io.StringIO()
    print_table(table, Console(file=said, width=width, force_terminal=terminal, color_system=None))
    return [line.rstrip() for line in said.getvalue().splitlines()]


def test_what_fits_is_whole():
    assert [line.split() for line in printed(3, 80, terminal=True)[1:]] == [["a0", "a1", "a2"], ["b0", "b1", "b2"]]


def test_what_does_not_fit_80_columns_is_turned_and_loses_nothing():
    lines = printed(12, 80, terminal=True)
    assert max(map(len, lines)) <= 80
    values = [line.split() for line in lines if line]
    assert values == [["column", str(at), f"{row}{at}"] for row in "ab" for at in range(12)]


def test_a_file_has_whole_rows():
    assert [len(line.split()) for line in printed(12, 80, terminal=False)[1:]] == [12, 12]


@pytest.mark.parametrize("stage", ["simulate", "analysis"])
def test_no_command_has_a_width_of_its_own(stage):
    own = [path for path in (ROOT / stage).rglob("*.py") if "Console(width" in path.read_text()]
    assert not own
