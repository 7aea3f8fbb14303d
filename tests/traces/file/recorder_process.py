"""What the recording tests run in processes of their own, to be killed there.

As a program it imports everything once and then forks a process for every task that it reads: a line of JSON with the
name of a function below and its arguments. It answers with the process's number; after another line, with the exit
status.
"""

import json
import os
import signal
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pandas as pd  # noqa: F401  pyarrow would import it at its first array, in every process again
import pyarrow as pa
from tiny_traces import random_trace, tiny_header

from moe_replay.traces.file.trace_file import PART_NAME, parts_folder, save_trace
from moe_replay.traces.file.trace_writer import TraceWriter, finish_recording
from moe_replay.traces.selections import Trace

TOKENS, CHUNK, FLUSH = 120, 20, 40


def whole_trace():
    """What is recorded, chunk by chunk."""
    return random_trace(np.random.default_rng(4), tokens=TOKENS)


def record(path, start=0, resume=False, kill_at=None):
    """Record the trace from token `start` on; say in `acknowledged` what is safe; die at the n-th file operation."""
    if kill_at is not None:
        die_at(kill_at, Path(path).parent)
    trace = whole_trace()
    said = os.open(Path(path).with_name("acknowledged"), os.O_CREAT | os.O_WRONLY)
    with TraceWriter(path, trace.header, FLUSH, resume=resume) as writer:
        for first in range(start, TOKENS, CHUNK):
            writer.append(trace.rows(first, min(first + CHUNK, TOKENS)))
            os.pwrite(said, f"{writer.safe_rows:6d}".encode(), 0)
    os.close(said)


def die_at(operation, folder):
    """Send SIGKILL to this process before the given file operation (counted from 0) in a folder."""
    seen = 0

    def watch(event, arguments):
        nonlocal seen
        watched = event in ("open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "shutil.rmtree")
        if watched and str(arguments[0]).startswith(str(folder)) and "acknowledged" not in str(arguments[0]):
            if seen == operation:
                os.kill(os.getpid(), signal.SIGKILL)
            seen += 1

    sys.addaudithook(watch)


def merge_memory(path, tokens):
    """Write down the largest memory, in NumPy and in Arrow, that merging a recording of this length takes."""
    path = Path(path)
    rng = np.random.default_rng(1)
    header = tiny_header(score_kind=None)
    for number, start in enumerate(range(0, tokens, 10_000)):
        row_T = np.arange(start, start + 10_000, dtype=np.int32)
        experts_TLK = rng.integers(4, size=(10_000, 2, 1), dtype=np.int16)
        rows = {"sequence_T": row_T // 1000, "position_T": row_T % 1000, "step_T": row_T // 1000}
        part = Trace(header=header, experts_TLK=experts_TLK, phase_T=np.zeros(10_000, np.int8), **rows)
        save_trace(part, parts_folder(path) / PART_NAME.format(number))
    tracemalloc.start()
    finish_recording(path)
    peaks = tracemalloc.get_traced_memory()[1], pa.default_memory_pool().max_memory()
    path.with_name("peaks").write_text(json.dumps(peaks))


def serve():
    """Fork a process per task and wait for it."""
    for line in sys.stdin:
        task = json.loads(line)
        child = os.fork()
        if child == 0:
            globals()[task.pop("function")](**task)
            os._exit(0)
        print(child, flush=True)
        sys.stdin.readline()  # until then the child keeps its number, so that nobody else can be killed under it
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    serve()
