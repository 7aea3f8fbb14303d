"""`simulate skew`: its rows worked out by hand, its files, and what it refuses in one line."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from moe_tables import layer_us, write_moe_tables

from moe_replay.simulate.__main__ import app
from moe_replay.traces.__main__ import app as traces_app
from moe_replay.traces.command_line.command import status_of
from moe_replay.traces.new_traces import trace_from_arrays

IMPORT = "import-costs --tables moe --gpu toy_sxm --framework vllm --dtype bfloat16 --name toy --out toy.served.parquet"

ROOFLINE = "roofline --gpu h200 --width 64 --hidden 32 --experts 8 --k 2 --out alone.parquet"


@pytest.fixture
def skew(tmp_path, monkeypatch, capsys):
    """Return a function (words) -> (status, printed, errors) of the command, in a folder with a table of layers."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    write_moe_tables(tmp_path / "moe")
    assert status_of(traces_app, "traces", IMPORT.split()) == 0
    capsys.readouterr()

    def call(line):
        monkeypatch.setattr("sys.argv", ["simulate/__main__.py", "skew", *line.split()])
        status = status_of(app, "simulate", ["skew", *line.split()])
        return status, *capsys.readouterr()

    return call


def save_trace(path, experts_TLK, experts=8):
    from moe_replay.traces.file.trace_file import save_trace as save

    tokens = len(experts_TLK)
    save(trace_from_arrays(np.asarray(experts_TLK), [0, tokens], experts=experts, phase="prefill"), path)


def rows_of(path):
    with open(path) as opened:
        return list(csv.DictReader(opened))


def test_rows_by_hand(skew):
    """Four tokens of two layers on two devices. Layer 0: experts 0 and 1 alone, 8 selections on 2 active of 4 experts.

    Weights of two: 10 + 10 + 2 us; 4 more selections than one for each of four: 26 us. Layer 1 is balanced: 34 us,
    10 and four times 5 and 4. So a layer takes 30 us in the mean.
    """
    experts_TLK = [[[0, 1], [n, n + 4]] for n in range(4)]
    save_trace("mine.trace.parquet", experts_TLK)
    status, said, errors = skew("toy.served.parquet mine.trace.parquet --tokens 4 --devices 2 --out x.csv")
    assert status == 0, errors
    balanced, law, recorded = rows_of("x.csv")
    assert [row["spread"] for row in (balanced, law, recorded)] == ["balanced", "power_law_1.2", "recorded"]
    assert float(balanced["layer_us"]) == pytest.approx(layer_us(2, 4)) == 34
    assert float(balanced["rule_error_percent"]) == pytest.approx(0, abs=0.01)
    assert float(law["layer_us"]) == pytest.approx(51)
    assert float(law["over_balanced"]) == pytest.approx(1.5)
    assert recorded["trace"] == "mine"
    assert float(recorded["layer_us"]) == pytest.approx((26 + 34) / 2)
    assert float(recorded["device_max_over_mean"]) == pytest.approx((2 + 1) / 2)
    assert float(recorded["active_experts_share"]) == pytest.approx((0.5 + 1) / 2)
    assert recorded["rule_error_percent"] == recorded["cluster_us"] == recorded["exchange_us"] == ""
    assert "measured by others (" in said
    assert "rule on the measured power laws:" in said
    about = json.loads(Path("x.json").read_text())
    assert set(about["inputs"]) == {"toy.served.parquet", "mine.trace.parquet"}
    assert about["rows"] == 3


def test_the_cluster_model_beside_it_is_that_of_the_simulator(skew):
    """Equal loads, links that take no time: the layer is the experts of a device one after another."""
    assert status_of(traces_app, "traces", ROOFLINE.split()) == 0
    Path("free.toml").write_text(
        '[inside]\nlatency = "0ns"\nbandwidth = "1e9GB/s"\n[network]\nlatency = "0ns"\nbandwidth = "1e9GB/s"\n'
    )
    line = "toy.served.parquet --tokens 4,16 --costs alone.parquet --links free.toml --gpu h200 --out x.csv"
    status, _, errors = skew(line)
    assert status == 0, errors
    rows = rows_of("x.csv")
    assert len(rows) == 2 * 3 * 2
    for row in rows:
        assert float(row["roofline_us"]) == pytest.approx(float(row["experts_us"]), abs=0.005)  # whole ns
        if row["devices"] == "1" or row["spread"] == "balanced":
            assert float(row["cluster_us"]) == pytest.approx(float(row["experts_us"]), abs=0.003)
        assert float(row["cluster_us"]) >= float(row["experts_us"]) - 0.003
        assert row["experts_dtype"] == row["dtype"] == "bfloat16"
    # Dispatch and combine of the quickest kernel, of 4 / 4 and 16 / 4 tokens that a device has.
    found = {(row["step_tokens"], row["devices"]): row["exchange_us"] for row in rows}
    assert found["4", "4"] == "12.0"
    assert found["16", "4"] == "18.0"
    assert found["16", "2"] == found["16", "1"] == ""


def test_steps_come_from_all_over_a_trace(skew):
    """Eight steps of one token: the first four on experts 0 and 1, the last on 0 and 4."""
    save_trace("mine.trace.parquet", [[[0, 1 if n < 4 else 4]] for n in range(8)])
    for steps, mean in ((1, 2.0), (2, 1.5), (8, 1.5)):
        line = f"toy.served.parquet mine.trace.parquet --tokens 1 --devices 2 --steps {steps} --out x.csv --force"
        assert skew(line)[0] == 0
        assert float(rows_of("x.csv")[-1]["device_max_over_mean"]) == pytest.approx(mean)


def test_what_was_measured_is_shown_where_the_rule_is_silent(skew):
    status, _, errors = skew("toy.served.parquet --tokens 64 --devices 4 --out x.csv")
    assert status == 0, errors
    balanced, law = rows_of("x.csv")
    assert balanced["rule_us"] != ""
    assert law["rule_us"] == law["rule_error_percent"] == ""
    assert float(law["layer_us"]) == pytest.approx(1.5 * layer_us(4, 64))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("none", "none: no such file, and no table of served layers of that name; known: nvidia-h200/gpt-oss-20b-vllm"),
        ("other.trace.parquet", "other.trace.parquet: holds 'trace', expected 'served-times'"),
        (
            "toy.served.parquet other.trace.parquet",
            "other.trace.parquet: has 9 experts, k 2; allowed: 8, k 2, as toy (vllm 0.24.0, NVIDIA Toy) was measured",
        ),
        ("toy.served.parquet --tokens 128", "128 tokens on 1 devices were not measured; allowed: 1..64"),
        ("toy.served.parquet --devices 8", "no balanced layer on 8 devices was measured; allowed: 1, 2, 4 devices"),
        ("toy.served.parquet short.trace.parquet", "short: 3 tokens, allowed: a step at least (64)"),
        ("toy.served.parquet hot.trace.parquet --tokens 64 --devices 2", "load is that of 128 balanced tokens on 2"),
        (
            "toy.served.parquet few.trace.parquet --tokens 8",
            "few: 1 rows of a token and layer have other than 2 experts, the first 1; allowed: 2 in each",
        ),
        ("toy.served.parquet --links h100-ndr", "--links: needs --costs"),
        ("toy.served.parquet --gpu v100", "unknown GPU 'v100'"),
        ("toy.served.parquet --tokens 0", "--tokens: 0 is not allowed"),
        ("toy.served.parquet --out x.parquet", "--out: 'x.parquet' is not allowed; allowed: a name that ends in .csv"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(skew, line, said):
    save_trace("other.trace.parquet", [[[3, 1]]] * 64, experts=9)
    save_trace("short.trace.parquet", [[[3, 1]]] * 3)
    save_trace("few.trace.parquet", [[[3, 1]]] * 7 + [[[2, -1]]])
    save_trace("hot.trace.parquet", [[[3, 1]]] * 64)
    status, _, errors = skew(line)
    assert status == 2
    lines = [each for each in errors.strip().splitlines() if each.startswith("simulate:")]
    assert len(lines) == 1
    assert said in lines[0]
