"""Miss counts of another's program, libcachesim, on real traces: LRU, FIFO, LFU and the optimum at several sizes."""

import os
from pathlib import Path

import numpy as np
import pytest

from moe_replay.simulate.misses.access_streams import flat_streams
from moe_replay.simulate.misses.flat_misses import flat_counts
from moe_replay.simulate.policies.memory.knowledge import Knowledge
from moe_replay.traces.file.trace_file import load_trace
from moe_replay.traces.importers.importer_names import import_files
from moe_replay.traces.importers.reading.import_source import Options

libcachesim = pytest.importorskip("libcachesim", reason="needs libcachesim, whose miss counts are compared")

ROOT = Path(__file__).resolve().parents[3]
REAL = Path(os.environ.get("MOE_REPLAY_TRACES", ROOT.parent / "shared" / "data" / "traces"))
SHIPPED = sorted((ROOT / "traces" / "data").glob("*/*/wide.trace.parquet"))
PUBLISHED = {
    "deepseek-v2-lite/law.npz": Options(experts=64, phase="prefill"),
    "gpt-oss-20b/mmlu_dev.npz": Options(experts=32, phase="decode", score_kind="none"),
}
POLICIES = {"lru": "LRU", "fifo": "FIFO", "lfu": "LFU", "belady": "Belady"}
MOST = 60_000  # accesses of a layer: what another's program needs a moment for


def its_reader(expert_A, path):
    """Write accesses in libcachesim's own binary format, next accesses included, and open them."""
    order = np.argsort(expert_A, kind="stable")
    again = np.flatnonzero(np.diff(expert_A[order]) == 0)
    next_A = np.full(len(expert_A), -1, np.int64)
    next_A[order[again]] = order[again + 1] + 1  # its requests are numbered from 1
    record = np.dtype([("time", "<u4"), ("id", "<u8"), ("size", "<u4"), ("next", "<i8")])
    records = np.zeros(len(expert_A), record)
    records["time"], records["id"], records["size"] = np.arange(len(expert_A)), expert_A + 1, 1
    records["next"] = next_A
    records.tofile(path)
    return libcachesim.TraceReader(str(path), libcachesim.TraceType.ORACLE_GENERAL_TRACE)


def its_misses(reader, policy, slots, accesses):
    reader.reset()
    ratio, _ = getattr(libcachesim, POLICIES[policy])(cache_size=slots, hashpower=10).process_trace(reader)
    assert abs(ratio * accesses - round(ratio * accesses)) < 1e-3
    return round(ratio * accesses)


def compare(streams, tmp_path):
    """Compare every policy on some streams, with a few and with many slots; return how many counts were compared."""
    compared = 0
    for stream in streams:
        experts = len(stream.keys)
        expert_A = stream.expert_A[:MOST]
        stream = type(stream)(expert_A, stream.start_S, stream.keys, stream.layer)
        reader = its_reader(expert_A, tmp_path / f"{stream.layer}.oracle.bin")
        sizes = sorted({1, 2, experts // 8, experts // 4, experts // 2, experts - 1, experts})
        for policy in POLICIES:
            ours = [each.misses for each in flat_counts(stream, policy, sizes, Knowledge(1, experts), 0)]
            assert ours == [its_misses(reader, policy, slots, len(expert_A)) for slots in sizes], policy
            compared += len(sizes)
    return compared


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.parent.name)
def test_shipped_traces(path, tmp_path):
    trace = load_trace(path)
    assert compare(flat_streams(trace, trace.header.model.used_k, "layer"), tmp_path) == trace.L * 4 * 6


def test_shipped_trace_with_one_cache_for_all_layers(tmp_path):
    trace = load_trace(SHIPPED[0])
    assert compare(flat_streams(trace, trace.header.model.used_k, "global"), tmp_path) == 4 * 7


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_traces(name, tmp_path):
    path = REAL / name
    if not path.exists():
        pytest.skip(f"needs the published trace {name}, which is not part of the project")
    trace = import_files("npz", [path], PUBLISHED[name])
    assert compare(flat_streams(trace, None, "layer")[:: trace.L // 3], tmp_path) >= 3 * 4 * 6
