"""Processor time and memory to import a long recording of plain arrays, and a table of as many selections.

    python -m pytest tests/benchmarks/test_import_speed.py -o addopts="" -s

Each import runs in a process of its own, start included. Beside it is shown what pyarrow takes to write the arrays
alone with the same compression. No clock fails anything here; an import that does less than all of its work does: the
file must hold every selection that was put in, in its place, under the digest that was printed.
"""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from moe_replay.traces.file.trace_file import load_trace

ROOT = Path(__file__).resolve().parents[2]
TOKENS, LAYERS, K, EXPERTS, LENGTH = 2_000_000, 2, 8, 256, 1000
MEASURE = """
import resource, runpy, sys
sys.argv = ["traces", *sys.argv[1:]]
try:
    runpy.run_module("moe_replay.traces", run_name="__main__")
except SystemExit as ended:
    code = ended.code
used = resource.getrusage(resource.RUSAGE_SELF)
print(f"{used.ru_utime:.2f} s user, {used.ru_stime:.2f} s system, {used.ru_maxrss // 1024} MB", file=sys.stderr)
sys.exit(code)
"""
WRITE = """
import resource, sys
import numpy as np, pyarrow as pa, pyarrow.parquet as pq
rows = np.load(sys.argv[1])["experts"].reshape(-1, 8).astype(np.int16)
pq.write_table(pa.table({str(k): rows[:, k] for k in range(8)}), sys.argv[2], compression="zstd", compression_level=9)
used = resource.getrusage(resource.RUSAGE_SELF)
print(f"{used.ru_utime:.2f} s user, {used.ru_stime:.2f} s system, {used.ru_maxrss // 1024} MB", file=sys.stderr)
"""


def measured(program, *words):
    """Run a program in a process of its own; return its output, and what it says of time and memory."""
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, words)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return done.stdout, done.stderr.strip().splitlines()[-1]


@pytest.fixture(scope="module")
def experts():
    """Rows drawn from 4,096 different ones, so that they are quickly made: uint8 [T, L, K]."""
    rng = np.random.default_rng(5)
    rows = np.stack([rng.permutation(EXPERTS)[:K] for _ in range(4096)]).astype(np.uint8)
    return np.stack([rows[rng.integers(0, len(rows), TOKENS)] for _ in range(LAYERS)], axis=1)


def test_plain_arrays(tmp_path, experts):
    offsets = np.arange(0, TOKENS + 1, LENGTH)
    np.savez(tmp_path / "big.npz", experts=experts, offsets=offsets, prompt_len=np.full(len(offsets) - 1, LENGTH // 2))
    _, alone = measured(WRITE, tmp_path / "big.npz", tmp_path / "alone.parquet")
    out = tmp_path / "big.trace.parquet"
    words = ("import", "npz", tmp_path / "big.npz", "--experts", EXPERTS, "--phase", "both", "--out", out)
    printed, used = measured(MEASURE, *words)
    print(f"\n{TOKENS:,} tokens x {LAYERS} x {K} from .npz: {used}; pyarrow writes them in {alone}")
    trace = load_trace(out)
    assert f"digest {trace.digest}" in printed
    np.testing.assert_array_equal(trace.experts_TLK, experts)
    assert (trace.phase_T.sum(), trace.S) == (TOKENS // 2, TOKENS // LENGTH)
    assert int(trace.step_T[-1]) + 1 == trace.S * (1 + LENGTH // 2)


def test_a_table(tmp_path, experts):
    """A tenth of the tokens, a row per selection: as many rows as numbers in a list."""
    tokens = TOKENS // 10
    part = experts[:tokens]
    names = ("token", "layer", "slot", "expert")
    numbers = (np.arange(tokens)[:, None, None], np.arange(LAYERS)[None, :, None], np.arange(K))
    grid = np.broadcast_arrays(*numbers, part)
    pq.write_table(
        pa.table({name: each.ravel() for name, each in zip(names, grid, strict=True)}), tmp_path / "t.parquet"
    )
    out = tmp_path / "t.trace.parquet"
    words = ("import", "table", tmp_path / "t.parquet", "--experts", EXPERTS, "--phase", "prefill", "--out", out)
    _, used = measured(MEASURE, *words)
    print(f"\n{part.size:,} rows of a table: {used}")
    np.testing.assert_array_equal(load_trace(out).experts_TLK, part)
