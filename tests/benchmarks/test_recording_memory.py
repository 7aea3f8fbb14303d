"""Peak memory of a recording of a million tokens, beside one of a hundred thousand: it must not grow with the length.

    python -m pytest tests/benchmarks/test_recording_memory.py -o addopts="" -s

Each recording runs in a process of its own: steps of 256 tokens, 8 layers, 8 candidates with scores and norms, parts of
16,384 tokens, merged at the end. The peak is the process's largest resident set, its modules included.
"""

import subprocess
import sys

PROGRAM = """
import resource, sys
import numpy as np
from moe_replay.traces.file.trace_writer import TraceWriter
from moe_replay.traces.synthetic import SyntheticSpec, synthetic_trace
from moe_replay.traces.file.trace_file import load_trace

tokens, out = int(sys.argv[1]), sys.argv[2]
spec = SyntheticSpec(layers=8, experts=32, k=8, sequences=1, batch=1, prompt=(1, 1), decode=(1, 1))
header = synthetic_trace(spec, np.random.default_rng(0), {}).trace.header
draws = np.random.default_rng(1)
with TraceWriter(out, header) as writer:
    for step in range(tokens // 256):
        writer.append_arrays(
            experts_TLK=np.argsort(draws.random((256, 8, 32)), axis=2)[:, :, :8].astype(np.int16),
            scores_TLK=-np.sort(-draws.random((256, 8, 8), np.float32), axis=2) / 8,
            norm_TL=draws.random((256, 8), np.float32), sequence_T=np.full(256, step, np.int32),
            position_T=np.arange(256, dtype=np.int32), step_T=np.full(256, step, np.int32),
            phase_T=np.zeros(256, np.int8),
        )
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
assert load_trace(out).T == tokens // 256 * 256
"""


def peak_mib(tokens, out):
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(tokens), str(out)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return float(done.stdout)


def test_recording_memory(benchmark, tmp_path):
    short = peak_mib(102_400, tmp_path / "short.trace.parquet")
    long = benchmark.pedantic(peak_mib, (1_024_000, tmp_path / "long.trace.parquet"), rounds=1)
    summary = {"short_mib": round(short, 1), "long_mib": round(long, 1), "ratio": round(long / short, 3)}
    benchmark.extra_info.update(summary)
    print(f"\n{summary}")
    assert long < 1.25 * short
