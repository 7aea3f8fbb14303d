"""The bar of tasks side by side: on a terminal it names what runs, and never swallows what goes to a file."""

import os
import pty
import re
import subprocess
import sys

PROGRAM = """
import sys
from moe_replay.traces.command_line.side_by_side import side_by_side
commands = [(sys.executable, "-S", "-c", f"import time; time.sleep(0.4); print({n})") for n in range(2)]
for status, lines in side_by_side(commands, 1, "simulating", ["what is first?", "what is " + "x" * 150]):
    print("said", *lines)
"""


def shown(stdout):
    """Run the program with a terminal as its stderr; return what the terminal was sent."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "150"}
    with subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=stdout, stderr=theirs, env=environment) as process:
        os.close(theirs)
        sent = b""
        while True:
            try:
                sent += os.read(ours, 4096)
            except OSError:  # Linux says so at the end of a terminal
                break
    os.close(ours)
    assert process.returncode == 0
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", sent.decode())


def test_a_terminal_sees_what_runs_and_a_file_what_was_said(tmp_path):
    with open(tmp_path / "out", "w") as out:
        terminal = shown(out)
    assert (tmp_path / "out").read_text() == "said 0\nsaid 1\n"
    assert "simulating what is first?" in terminal
    assert "0/2" in terminal
    assert "1/2" in terminal
    assert "xx..." in terminal
    assert "said" not in terminal
