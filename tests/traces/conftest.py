"""Every test draws from its own fixed generator, and runs commands of `traces` in this process."""

import runpy
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def rng():
    return np.random.default_rng(20240607)


@pytest.fixture
def traces(capsys, monkeypatch, tmp_path):
    """Run `python -m traces ...` in this process, in an empty folder; return status, output and errors."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")

    def run(words):
        monkeypatch.setattr(sys, "argv", [str(ROOT / "traces" / "__main__.py"), *shlex.split(words)])
        with pytest.raises(SystemExit) as ended:
            runpy.run_module("traces", run_name="__main__")
        return ended.value.code, *capsys.readouterr()

    return run
