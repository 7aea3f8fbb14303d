"""The table end_to_end: timed steps become rows and a sentence whose every number is a row's; the rest are holes."""

import json
import shutil

import pandas as pd
import pytest
from placing_logs import training_loads

from moe_replay.analysis.reading.inputs import Inputs
from moe_replay.analysis.reading.log_sets import find_log_sets
from moe_replay.analysis.tables.end_to_end.build import TIMED_STEPS, build_end_to_end
from moe_replay.analysis.tables.end_to_end.claim import end_to_end_claim
from moe_replay.analysis.tables.end_to_end.published_speed_ups import published_rows
from moe_replay.traces.errors import InputError

TRAINING = "cpu-toy/text/training/unbalanced.loads.parquet"


@pytest.fixture
def logs(placements, tmp_path):
    """Return a copy of (logs, simulated)."""
    for source, name in zip(placements, ("logs", "simulated"), strict=True):
        shutil.copytree(source, tmp_path / name)
    return tmp_path / "logs", tmp_path / "simulated"


def built(logs, out):
    out.mkdir(exist_ok=True)
    return build_end_to_end(Inputs(find_log_sets(*logs)), out)


def test_every_system_on_every_cluster(logs, tmp_path):
    assert built(logs, tmp_path / "out") == []
    table = pd.read_csv(tmp_path / "out" / "end_to_end.csv")
    assert len(table) == 5 * 2 * 2
    assert set(table["trace"]) == {"training"}  # the device of the other trace measured no layer
    split = table[["dense_ms", "expert_ms", "wire_ms", "waiting_ms"]].sum(axis=1)
    assert split.to_numpy() == pytest.approx(table["mean_step_ms"].to_numpy())
    assert (table.groupby(["nodes", "micro_batches"]).size() == 5).all()
    assert (table.loc[(table["system"] == "contiguous") & (table["micro_batches"] == 1), "speed_up"] == 1).all()
    claim = json.loads((tmp_path / "out" / "claims.json").read_text())["end_to_end"]
    assert "0.65 to 2.67 times as fast (figures 8 to 10" in claim["claim"]
    assert "affine 5000 100 ns" in claim["claim"]


def row(system, micro_batches, ms, expert_ms=0.5, redundant=0, **others):
    """A row of one trace on one cluster."""
    return {
        "set": "gpu/text", "trace": "decode", "status": "ok", "links": "l", "nodes": 1, "step_tokens": 64,
        "system": system, "redundant": redundant, "micro_batches": micro_batches, "mean_step_ms": ms,
        "expert_ms": expert_ms, "device_max_over_mean": 2.0, "hottest_over_device": 0.4, "step_costs": "gpu/layer",
        "replans": 0, "copy_ms": 0.0,
    } | others  # fmt: skip


def test_the_sentence_says_where_replicas_and_micro_batches_hurt_and_where_they_help():
    small = [
        row("contiguous", 1, 1.0),
        row("lpt", 1, 0.8, 0.4),
        row("eplb", 1, 1.2, 0.9, 8, replans=3, copy_ms=0.5),
        row("contiguous", 2, 1.9),
    ]
    hot = [
        row("contiguous", 1, 6.0, hottest_over_device=1.7), row("contiguous", 2, 3.0, hottest_over_device=1.7),
        row("lpt", 1, 5.0, device_max_over_mean=1.75, hottest_over_device=1.7),
        row("eplb", 1, 4.0, redundant=8, device_max_over_mean=1.2, hottest_over_device=1.7),
    ]  # fmt: skip
    rows = pd.DataFrame([*small, *({**each, "trace": "training"} for each in hot)])
    found = end_to_end_claim(rows, pd.DataFrame(published_rows()))
    for said in (
        "One hot expert: with 1.70 times a device's mean load in gpu/text training",
        "(reached: 1.75, lpt 5.00 ms a step, 6.00 in order); with 8 replicas eplb comes to 1.20 and 4.00 ms",
        "Redundant experts make a step longer in 1 of 2 cases, at most 1.50 times (gpu/text decode, 64 tokens, l, "
        "1 node: experts take 0.90 ms of it, not 0.40",
        "at least 0.80 times (gpu/text training",
        "Two micro-batches make a step longer in 1 of 2 cases, at most 1.90 times (gpu/text decode",
        "at least 0.50 times (gpu/text training",
        "Its rule here: not timed. Copying experts is no part of the steps: each time that they are placed anew it "
        "takes 0.50 ms (gpu/text decode, eplb, l, 1 node; a step 1.20) to 0.50 ms",
    ):
        assert said in found["claim"], said


def test_a_sentence_of_few_systems_says_what_it_has():
    found = end_to_end_claim(pd.DataFrame([row("contiguous", 1, 1.0)]), pd.DataFrame(published_rows()))
    assert "Redundant" not in found["claim"]
    assert "hot" not in found["claim"]
    assert found["numbers"]["gpu/text decode, 64 tokens, l, 1 node"]["replicas"] is None


def test_published_ratios_are_those_of_the_figures():
    """Means and extremes that the paper states itself: figure 9 1.11 in the mean, figure 8 at most 2.67."""
    table = pd.DataFrame(published_rows())
    assert len(table) == 8 + 4 + 4 + 4
    of_figure = table.groupby("published_figure")["published_speed_up"]
    assert of_figure.mean()["9, Swin"] == pytest.approx(1.1124, abs=1e-4)
    assert of_figure.max()["8, GPT on cluster inky"] == 2.6701
    assert of_figure.min()["8, GPT on cluster pinky"] == 0.6455


def test_what_was_not_timed_is_a_hole(logs, tmp_path):
    (logs[1] / "cpu-toy" / "text" / "end_to_end" / "training.csv").unlink()
    (hole,) = built(logs, tmp_path / "out")
    assert "cpu-toy/text" in hole
    assert "python -m simulate logs" in hole


def test_traces_whose_device_measured_the_layer_must_be_timed(logs, tmp_path):
    (logs[0] / "cpu-toy" / "shapes").mkdir(exist_ok=True)
    (logs[0] / "cpu-toy" / "shapes" / "gpt-oss-20b-alone.costs.parquet").touch()
    (hole,) = built(logs, tmp_path / "out")
    assert "end_to_end/language-decode.csv" in hole


def test_other_loads_than_were_timed_are_a_hole(logs, tmp_path):
    training_loads(0.5).save(logs[0] / TRAINING)
    (hole,) = built(logs, tmp_path / "out")
    assert "failed" in hole
    assert "is of another unbalanced.loads.parquet than the one here" in hole


def test_no_steps_are_said(logs, tmp_path):
    shutil.rmtree((logs[0] / TRAINING).parent)
    (hole,) = built(logs, tmp_path / "out")
    assert "no set holds training/unbalanced.loads.parquet of one expert a token" in hole
    assert "could be timed" in (tmp_path / "out" / "claims.json").read_text()


@pytest.mark.parametrize("content", ["a,b\n1,2\n", "system\nlpt\n"])
def test_other_tables_are_refused(content, tmp_path):
    (tmp_path / "x.csv").write_text(content)
    (tmp_path / "x.json").write_text('{"inputs": {"t": "d"}}')
    with pytest.raises(InputError, match=r"x.csv: lacks column"):
        TIMED_STEPS.read(tmp_path / "x.csv", "t", "d")
