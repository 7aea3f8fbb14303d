"""Puts this folder on the path: the tests in the rooms below import its worlds by name. Runs commands of `simulate`."""

import sys
from pathlib import Path

import pytest

from moe_replay.simulate.__main__ import app
from moe_replay.traces.command_line import command

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def simulate(capsys, monkeypatch):
    """Call the command in this process; return (exit status, stdout, stderr)."""

    def call(*words):
        monkeypatch.setattr(sys, "argv", [str(ROOT / "simulate" / "__main__.py"), *map(str, words)])
        with pytest.raises(SystemExit) as left:
            command.run(app, "simulate")
        captured = capsys.readouterr()
        return left.value.code or 0, captured.out, captured.err

    return call
