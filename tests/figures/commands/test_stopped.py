"""Ctrl-C while figures are drawn: the command ends within a second, says nothing, and leaves nothing behind."""

import os
import signal
import subprocess
import sys
import time

SLOW = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background inherits that it is ignored
from moe_replay.figures.__main__ import app
from moe_replay.figures.commands import draw_command
from moe_replay.traces.command_line.command import status_of

def make(name, tables, out, width):
    print("drawing", flush=True)
    time.sleep(60)

draw_command.make = make
sys.exit(status_of(app, "figures", sys.argv[1:]))
"""


def test_ctrl_c_ends_figures_within_a_second(tables, tmp_path):
    out = tmp_path / "drawn" / "figures"
    out.parent.mkdir()
    words = [sys.executable, "-c", SLOW, str(tables), "--out", str(out)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stdout.readline().startswith("drawing")
    began = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all processes of the command
    _, wrong = process.communicate(timeout=20)
    assert time.monotonic() - began < 1
    assert process.returncode == 130
    assert "Traceback" not in wrong
    assert list(out.parent.iterdir()) == []
