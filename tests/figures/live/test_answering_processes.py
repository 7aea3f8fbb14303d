"""The processes behind the page: whatever happened to one of them, closing ends both, soon."""

import os
import signal
import threading

from moe_replay.figures.live.answering_processes import LONG, QUICK, AnsweringProcesses


def test_closing_does_not_wait_for_a_process_that_was_killed():
    processes = AnsweringProcesses()
    pids = [processes.submit(name, os.getpid).result(60) for name in (QUICK, LONG)]
    os.kill(pids[0], signal.SIGKILL)
    assert processes.submit(LONG, os.getpid).result(60) == pids[1]
    closing = threading.Thread(target=processes.close, daemon=True)
    closing.start()
    closing.join(30)
    assert not closing.is_alive()
