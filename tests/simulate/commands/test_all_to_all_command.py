"""`simulate all-to-all`: what ports take for a log of exchanges, by its own links or by others."""

import numpy as np
import pytest

from moe_replay.simulate.__main__ import app
from moe_replay.traces.command_line.command import status_of
from moe_replay.traces.file.mixed_table import load_mixed, mixed_digest, save_mixed
from moe_replay.traces.runs.port_log import (
    EXECUTED_COLUMNS,
    KIND,
    PREDICTED,
    exchanges_in,
    load_port_log,
    port_table,
)

# Three devices by hand, as in test_one_exchange, executed twice, and a lone message to which nothing was fitted.
SIZES = {"by-hand": [(0, 1, 10), (0, 2, 20), (1, 2, 30), (2, 0, 40)], "lone": [(1, 0, 7)]}


@pytest.fixture
def log(tmp_path, monkeypatch):
    """A log of 5 ns and a byte a ns, in the folder that is worked in."""
    monkeypatch.chdir(tmp_path)
    rows = [
        ("paced", 3, "check", pattern, repetition, *message, 1, 99)
        for repetition in range(2) for pattern, messages in SIZES.items() for message in messages
    ]  # fmt: skip
    links = [{"way": "paced", "exchanges": 1, "latency_ns": 5, "bytes_per_s": 1e9, "error_percent": 0.0}]
    save_mixed("ports.parquet", port_table(rows, EXECUTED_COLUMNS), {"ways": {"paced": {}}, "links": links}, KIND)
    return tmp_path


def test_every_exchange_is_predicted_once(log, capsys):
    assert status_of(app, "simulate", ["all-to-all", "ports.parquet", "--out", "predicted.parquet"]) == 0
    assert capsys.readouterr().out == "predicted.parquet: 5 messages of 2 exchanges\n"
    table, header = load_mixed("predicted.parquet", PREDICTED)
    found = {tuple(row[:3]): row[3:] for row in zip(*(table[name].to_pylist() for name in (
        "pattern", "source", "destination", "start_ns", "end_ns")), strict=True)}  # fmt: skip
    assert found == {
        ("by-hand", 0, 1): (0, 15), ("by-hand", 0, 2): (10, 55), ("by-hand", 1, 2): (0, 35), ("by-hand", 2, 0): (0, 45),
        ("lone", 1, 0): (0, 12),
    }  # fmt: skip
    executed = load_port_log("ports.parquet")[0]
    assert header["executed"] == mixed_digest(executed["end_ns"].combine_chunks())
    assert [each.pattern for each in exchanges_in(executed)] == ["by-hand", "lone"]


def test_other_links_take_another_time(log):
    (log / "mine.toml").write_text(
        '[inside]\nlatency = "1us"\nbandwidth = "2GB/s"\n[network]\nlatency = 0\nbandwidth = 1\n'
    )
    for links, end_ns in (("mine.toml", 1004), ("h800-ndr", 3330)):
        words = ["all-to-all", "ports.parquet", "--links", links, "--out", "predicted.parquet", "--force"]
        assert status_of(app, "simulate", words) == 0
        table = load_mixed("predicted.parquet", PREDICTED)[0].to_pandas()
        assert table.loc[table["pattern"] == "lone", "end_ns"].tolist() == [end_ns]
        assert np.array_equal(table["bytes"], [10, 20, 30, 40, 7])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("absent.parquet",), "absent.parquet"),
        (("ports.parquet", "--links", "rdma"), "rdma: no machine of that name"),
        (("ports.parquet", "--links", "absent.toml"), "absent.toml: no such file"),
        (("linkless.parquet",), "linkless.parquet: lacks links in its header"),
        (("other.parquet",), "other.parquet"), (("unfitted.parquet",), "holds no link of paced; allowed: --links"),
    ],
)  # fmt: skip
def test_what_is_no_log_is_refused_in_a_line(words, said, log, capsys):
    table = load_port_log("ports.parquet")[0]
    save_mixed("linkless.parquet", table, {}, KIND)
    save_mixed("unfitted.parquet", table, {"ways": {"paced": {}}, "links": []}, KIND)
    save_mixed("other.parquet", table, {"links": []}, "another kind")
    assert status_of(app, "simulate", ["all-to-all", *words, "--out", "predicted.parquet"]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert said in line
    assert not (log / "predicted.parquet").exists()
