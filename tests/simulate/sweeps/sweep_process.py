"""A sweep that dies by SIGKILL at a chosen file operation, again and again, in processes forked from this program.

Reads a line of JSON with the folder, a name for the table and the number of the operation (null: none); carries the
sweep out in a fork, and answers with its exit status. `acknowledged` in the folder counts the points that the store
took.
"""

import io
import json
import os
import signal
import sys
from pathlib import Path

import pandas as pd  # noqa: F401  pyarrow would import it at its first array, in every process again
from sweep_worlds import closed_loops, swept, toy_study

from moe_replay.simulate.sweeps import store
from moe_replay.simulate.sweeps.store import Store


def carry_out(folder, name, kill_at):
    """Sweep a toy trace, a part for every point, and die at the given file operation (counted from 0)."""
    folder = Path(folder)
    store.FLUSH_S = 0.0
    study, configs = toy_study(folder, engine="simpy"), closed_loops(seeds=(0,))
    add, said = Store.add, os.open(folder / "acknowledged", os.O_CREAT | os.O_WRONLY)

    def acknowledged(self, place, result):
        add(self, place, result)
        os.pwrite(said, f"{len(self.results):6d}".encode(), 0)

    Store.add = acknowledged
    if kill_at is not None:
        die_at(kill_at, folder)
    swept(study, configs, folder / name)


def die_at(operation, folder):
    """Send SIGKILL to this process before the given file operation in a folder."""
    seen = 0

    def watch(event, arguments):
        nonlocal seen
        watched = event in ("open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "shutil.rmtree")
        if watched and str(arguments[0]).startswith(str(folder)):
            if seen == operation:
                os.kill(os.getpid(), signal.SIGKILL)
            seen += 1

    sys.addaudithook(watch)


if __name__ == "__main__":
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            sys.stderr = io.StringIO()
            carry_out(*json.loads(line))
            os._exit(0)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
