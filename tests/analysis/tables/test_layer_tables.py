"""Tables of published layer shapes and links: rows by hand, claims, sets without such logs."""

import json

import numpy as np
import pandas as pd
import pytest
from layer_logs import BYTES, FIXED_NS, SIZES, WEIGHTS, cost_table, write_layer_logs

from moe_replay.analysis.reading.inputs import Inputs
from moe_replay.analysis.reading.log_sets import find_log_sets
from moe_replay.analysis.tables.layer_costs import break_even_tokens, build_layer_costs, form_rows
from moe_replay.analysis.tables.links import build_links


@pytest.fixture
def logs(tmp_path):
    write_layer_logs(tmp_path / "logs" / "gpu-toy" / "shapes")
    return tmp_path / "logs"


def build(builder, logs):
    out = logs.parent / "tables"
    out.mkdir(exist_ok=True)
    return builder(Inputs(find_log_sets(logs, None)), out), out


def test_every_form_has_a_row_per_size(logs):
    holes, out = build(build_layer_costs, logs)
    assert holes == []
    rows = pd.read_csv(out / "layer_costs.csv").set_index(["form", "tokens"])
    assert len(rows) == len(FIXED_NS) * len(SIZES)
    for form, fixed in FIXED_NS.items():
        for size in SIZES:
            row, ns = rows.loc[(form, size)], fixed + 100 * size
            assert row["expert_us"] == pytest.approx(ns / 1e3)  # of a step the fourth part; medians, not means
            assert row["token_us"] == pytest.approx(ns / 1e3 / size)
            assert row["teraflops"] == pytest.approx(2 * WEIGHTS * size / ns / 1e3)
            assert row["weights_gigabytes_per_s"] == pytest.approx(BYTES / ns)
            assert row["break_even_tokens"] == pytest.approx((fixed + 100) / ((fixed + 100_000) / 1000))
            assert rows.loc[(form, 1000), "token_us"] < row["break_even_token_us"] < rows.loc[(form, 1), "token_us"]
    assert (rows.loc[("wall", 1), "times"], rows.loc[("grouped", 1), "times"]) == (6, 3)
    about = json.loads((out / "layer_costs.json").read_text())
    assert set(about["inputs"]) == {"gpu-toy/shapes/toy.costs.parquet", "gpu-toy/shapes/toy.times.parquet"}


def test_the_claim_is_of_experts_alone_and_of_steps(logs):
    _, out = build(build_layer_costs, logs)
    claim = json.loads((out / "claims.json").read_text())["layer_costs"]
    assert "toy takes 6.1 us for a batch of 1 (98.4 GB/s of weights), breaks even at 58 tokens" in claim["claim"]
    assert claim["numbers"]["gpu-toy/shapes"]["toy"]["looped_over_grouped"] == pytest.approx(6.1 / 3.1)


def test_break_even_by_hand():
    assert break_even_tokens({1: 50.0, 10: 50.0, 100: 500.0}) == 10
    assert break_even_tokens({4: 8.0}) == 4  # a single size says nothing else


def test_the_time_per_token_at_break_even_lies_on_the_line_between_measured_sizes_in_logarithms():
    ns = {1: np.array([1000.0]), 16: np.array([4000.0]), 256: np.array([16_000.0])}  # breaks even at 16 tokens
    shape = {"name": "toy", "experts": 4, "k": 2, "width": 8, "hidden": 16, "dtype": "float32"}
    assert form_rows("loop", ns, 384, 4, shape)[0]["break_even_token_us"] == pytest.approx(0.25)
    del ns[16]  # from 1 us at 1 token to 1/16 us at 256: a quarter half-way, at 16
    assert form_rows("loop", ns, 384, 4, shape)[0]["break_even_token_us"] == pytest.approx(0.25)


def test_links_stand_beside_what_was_fitted(logs):
    holes, out = build(build_links, logs)
    assert holes == []
    rows = pd.read_csv(out / "links.csv")
    assert rows["host_memory"].tolist() == ["pinned"] * 4 + ["pageable"] * 2
    two = rows.iloc[3]
    assert (two["copies"], two["copy_bytes"]) == (2, 1_000_000)
    assert two["copy_us"] == two["fitted_us"] == pytest.approx(210)
    assert two["copied_gigabytes_per_s"] == pytest.approx(2e6 / 210e3)
    claim = json.loads((out / "claims.json").read_text())["links"]["claim"]
    assert "gpu-toy/shapes: 10 GB/s after 10 us from pinned memory, 10 GB/s after 10 us from pageable memory." in claim


def test_sets_without_such_logs_lack_nothing(tmp_path, capsys):
    folder = tmp_path / "logs" / "cpu-toy" / "digits"
    folder.mkdir(parents=True)
    cost_table().save(folder / "costs.parquet")
    for builder in (build_layer_costs, build_links):
        holes, out = build(builder, tmp_path / "logs")
        assert holes == []
        assert list(out.iterdir()) == []
    assert "no set holds SHAPE.times.parquet" in capsys.readouterr().out


def test_a_damaged_or_missing_file_is_a_hole(logs):
    folder = logs / "gpu-toy" / "shapes"
    (folder / "toy.costs.parquet").unlink()
    link = folder / "link.parquet"
    link.write_bytes(link.read_bytes()[:-40])
    found = [hole for builder in (build_layer_costs, build_links) for hole in build(builder, logs)[0]]
    assert ["missing" in found[0], "failed" in found[1]] == [True, True], found
