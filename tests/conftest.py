"""Hand-made runs: records whose every statistic can be worked out in the margin."""

import os

import numpy as np
import pytest

from moe_replay.simulate.config.run_config import RunConfig
from moe_replay.simulate.policies import rule_names
from moe_replay.traces.runs.run_records import BATCH_COLUMNS, PASS_COLUMNS, RunRecords

MS = 1_000_000

# No test asks a hub for anything. Its client reads this once, when it is imported, and else retries for half a minute.
os.environ.setdefault("HF_HUB_OFFLINE", "1")


def pytest_addoption(parser):
    parser.addoption("--policy", metavar="MODULE:NAME", help="the contract of cache policies holds yours, not all")


@pytest.fixture(autouse=True)
def rules_restored():
    """Every table of rules as it was: what a test registers, a placement's file too, no other test meets."""
    former = {field: (set(rules), set(rules.digests)) for field, rules in rule_names.TABLES.items()}
    yield
    for field, rules in rule_names.TABLES.items():
        for table, names in zip((rules, rules.digests), former.get(field, ((), ())), strict=True):
            for name in {*table} - {*names} - rules.shipped:
                del table[name]


def passes_of(arrival_ms, start_ms, end_ms):
    count = len(arrival_ms)
    columns = {
        "pass_id": np.arange(count), "sequence": np.arange(count), "step": np.zeros(count), "tokens": np.ones(count),
        "arrival_ns": np.asarray(arrival_ms) * MS, "start_ns": np.asarray(start_ms) * MS,
        "end_ns": np.asarray(end_ms) * MS,
    }  # fmt: skip
    return {name: np.asarray(columns[name]).astype(dtype) for name, dtype in PASS_COLUMNS.items()}


def batches_of(rows):
    """Columns from rows of (layer, block, size, ready_ms, start_ms, end_ms) and optionally forced, crc, device."""
    rows = [(*row, *(False, 0, 0)[len(row) - 6 :]) for row in rows]
    layer, block, size, ready, start, end, forced, crc, device = (
        np.array(column) for column in zip(*rows, strict=True)
    )
    columns = {
        "device": device, "layer": layer, "block": block, "size": size, "tokens": size, "ready_ns": ready * MS,
        "start_ns": start * MS, "end_ns": end * MS, "forced": forced, "hit": np.full(len(rows), -1), "members_crc": crc,
    }  # fmt: skip
    return {name: np.asarray(columns[name]).astype(dtype) for name, dtype in BATCH_COLUMNS.items()}


@pytest.fixture
def make_run():
    """Return a function (passes, batches, RunConfig fields) -> RunRecords."""

    def make(passes, batches, source="executed", header=(), **config):
        fields = {"arrivals": "closed", "in_flight": 1, **config}
        if fields["arrivals"] != "closed":
            fields.pop("in_flight")
        whole = {"source": source, "config": RunConfig(**fields).as_dict(), "trace_digest": "t", **dict(header)}
        return RunRecords(passes_of(*passes), batches_of(batches), whole)

    return make


@pytest.fixture
def one_at_a_time(make_run):
    """Return a function that makes a run of N=1: every pass takes 4 ms in a dense block, then 6 ms in one expert."""

    def make(count=100, slower=1, **config):
        start = np.arange(count) * 10 * slower
        batches = []
        for p, begin in enumerate(start):
            batches.append((0, 0, 1, begin, begin, begin + 4 * slower, False, p))
            batches.append((0, 1 + p % 2, 1, begin + 4 * slower, begin + 4 * slower, begin + 10 * slower, False, p))
        return make_run((start, start, start + 10 * slower), batches, **{"sequences": count, **config})

    return make
