"""What lies in figures/shipped, which the live page and README show, is of the shipped logs as they are.

    MOE_REPLAY_WRITE_SHIPPED=outputs/tables python -m pytest tests/figures/drawing/test_shipped_files.py

renews it from the tables that `./RUNME.sh` made.
"""

import os
from pathlib import Path
from shutil import copyfile

import pandas as pd
import pytest
from PIL import Image

from moe_replay.analysis.__main__ import app as analysis
from moe_replay.figures.commands.draw_command import make
from moe_replay.figures.live.page_inputs import EXECUTED, REPEATED, SHIPPED
from moe_replay.simulate.__main__ import app as simulate
from moe_replay.traces.command_line.command import status_of
from moe_replay.traces.shipped import DATA

PICTURE = "queue_size"
SMALL = "nvidia-h200/gpt-oss-20b"  # the set whose runs are simulated here, in seconds
SIMULATED = ["identical", "first_difference", "simulated_throughput", "throughput_error_percent",
             "simulated_latency_p50", "simulated_latency_p95"]  # fmt: skip
WRITE = os.environ.get("MOE_REPLAY_WRITE_SHIPPED")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Return the tables of fidelity made now: of all executed runs, beside simulations of the small set alone."""
    folder = tmp_path_factory.mktemp("shipped")
    logs = DATA / SMALL
    like = ["like", logs / "executed", logs / "executed.trace.parquet", "--costs", logs / "costs.parquet", "--jobs", 1]
    assert status_of(simulate, "simulate", [str(word) for word in [*like, "--out", folder / SMALL]]) == 0
    tables = ["tables", DATA, folder, "--only", EXECUTED, "--out", folder / "tables"]
    status_of(analysis, "analysis", [str(word) for word in tables])  # 1: most runs were not simulated here
    return pd.read_csv(folder / "tables" / f"{EXECUTED}.csv").set_index(["set", "run"])


@pytest.mark.skipif(not WRITE, reason="MOE_REPLAY_WRITE_SHIPPED names no folder of tables")
def test_shipped_files_are_renewed():
    for name in (EXECUTED, REPEATED):
        copyfile(Path(WRITE) / f"{name}.csv", SHIPPED / f"{name}.csv")
    make(PICTURE, Path(WRITE), SHIPPED, "page")
    for kind in ("pdf", "md"):
        (SHIPPED / f"{PICTURE}.{kind}").unlink()


def test_shipped_runs_are_those_of_the_shipped_logs(made):
    shipped = pd.read_csv(SHIPPED / f"{EXECUTED}.csv").set_index(["set", "run"])
    assert list(shipped.index) == list(made.index)
    executed = [name for name in shipped if name.startswith("executed_") or name == "queue_size"]
    pd.testing.assert_frame_equal(shipped[executed], made[executed])
    assert set(shipped["status"]) == {"ok"}


def test_shipped_predictions_are_those_of_the_simulator(made):
    shipped = pd.read_csv(SHIPPED / f"{EXECUTED}.csv").set_index(["set", "run"])
    pd.testing.assert_frame_equal(shipped.loc[SMALL, SIMULATED], made.loc[SMALL, SIMULATED])


def test_the_shipped_picture_says_of_what_it_is():
    said = Image.open(SHIPPED / f"{PICTURE}.png").text["Description"]
    assert f"{PICTURE}.csv sha256" in said
