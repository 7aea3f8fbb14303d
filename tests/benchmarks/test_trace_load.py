"""Time and memory to load, and verify, a trace of 100 million selections with their scores.

    python -m pytest tests/benchmarks/test_trace_load.py -o addopts="" -s

Target: under 2.5 s and under 1.5 GB resident on 2 cores. Each load runs in a process of its own: seconds are those of
`load_trace` alone (wall clock and processor, imports not counted), memory is the largest resident set of the whole
process as the kernel counts it. Beside it is shown what pyarrow takes to read the same file into a table, its checksums
verified but no digest and no value, since that is what the file's format costs on the machine at hand. A slow or busy
machine fails nothing here; a load that does less than all of its work does: the digest that the reader states from the
bytes it verified must be the one that the writing process computed from its arrays.

The traces are synthetic ones of 1/16 of the length, repeated with new sequence numbers: a language model's shape, and
a classifier's with all candidates recorded. Making each takes about 15 s and 1.5 GB.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SELECTIONS = 100_000_000
ROUNDS = 5
SHAPES = {
    "L16-E64-k8": {"layers": 16, "experts": 64, "k": 8, "prompt": (64, 64), "decode": (64, 64)},
    "L4-E16-k16": {"layers": 4, "experts": 16, "k": 16, "prompt": (1, 1), "decode": (0, 0), "batch": 512},
}

MAKE = """
import json, sys
from dataclasses import replace
import numpy as np
from moe_replay.traces.synthetic import SyntheticSpec, synthetic_trace
from moe_replay.traces.file.trace_file import save_trace

path, selections, shape = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3])
tokens = selections // 16 // (shape["layers"] * shape["k"])
length = shape["prompt"][0] + shape["decode"][0]
spec = SyntheticSpec(sequences=-(-tokens // length), reuse=0.3, **shape)
once = synthetic_trace(spec, np.random.default_rng(0)).trace
names = ("experts_TLK", "scores_TLK", "sequence_T", "position_T", "step_T", "phase_T", "prompt_len_S")
arrays = {name: np.concatenate([getattr(once, name)] * 16) for name in names}
for name in ("sequence_T", "step_T"):
    arrays[name] += np.repeat(np.arange(16, dtype=np.int32) * (getattr(once, name).max() + 1), once.T)
trace = replace(once, **arrays)
save_trace(trace, path)
print(json.dumps({"selections": trace.experts_TLK.size, "digest": trace.digest}))
"""

MEASURE = """
import json, sys, time
{imports}

start, start_cpu = time.perf_counter(), time.process_time()
{load}
seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - start_cpu
import resource
try:  # VmHWM is this program's own; ru_maxrss also remembers the process that started it
    status = dict(line.split(":", 1) for line in open("/proc/self/status"))
    peak_bytes = int(status["VmHWM"].split()[0]) * 1024
except OSError:
    peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({{"seconds": seconds, "cpu_seconds": cpu_seconds, "peak_bytes": peak_bytes, "work": {work}}}))
"""
LOAD = MEASURE.format(
    imports="from moe_replay.traces.file.trace_file import load_trace",
    load="trace = load_trace(sys.argv[1])",
    work='{"selections": trace.experts_TLK.size, "digest": trace.digest}',
)
READ = MEASURE.format(
    imports="import pyarrow.parquet as pq",
    load="table = pq.read_table(sys.argv[1], page_checksum_verification=True)",
    work='{"rows": table.num_rows}',
)


def python(program, *words):
    """Run a program in a process of its own; return the JSON that it prints."""
    done = subprocess.run([sys.executable, "-c", program, *words], cwd=ROOT, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def best(results):
    return min(results, key=lambda result: result["seconds"])


@pytest.mark.timeout(900)
@pytest.mark.parametrize("shape", SHAPES)
def test_load(benchmark, tmp_path, shape):
    path = tmp_path / "large.trace.parquet"
    made = python(MAKE, str(path), str(SELECTIONS), json.dumps(SHAPES[shape]))
    assert abs(made["selections"] / SELECTIONS - 1) < 0.01
    loads, reads = [], []

    def load_once():
        reads.append(python(READ, str(path)))  # interleaved, so that both meet the same machine
        loads.append(python(LOAD, str(path)))

    benchmark.pedantic(load_once, rounds=ROUNDS)
    rows = made["selections"] // SHAPES[shape]["k"]
    assert all(result["work"] == made for result in loads)
    assert all(result["work"]["rows"] == rows for result in reads)
    fastest, plain = best(loads), best(reads)
    summary = {
        "load_s": sorted(round(result["seconds"], 2) for result in loads),
        "load_cpu_s": round(fastest["cpu_seconds"], 2),
        "load_peak_gb": round(max(result["peak_bytes"] for result in loads) / 1e9, 2),
        "pyarrow_s": sorted(round(result["seconds"], 2) for result in reads),
        "pyarrow_peak_gb": round(max(result["peak_bytes"] for result in reads) / 1e9, 2),
        "ratio_to_pyarrow": round(fastest["seconds"] / plain["seconds"], 2),
        "file_mb": round(path.stat().st_size / 1e6),
        "load_average": os.getloadavg()[0],
    }
    benchmark.extra_info.update(summary)
    print(f"\n{shape}: {made['selections']:,} selections; {json.dumps(summary)}")
