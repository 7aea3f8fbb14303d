"""Commands that take layers of a published shape in the place of a checkpoint."""

import re
from dataclasses import replace

import numpy as np
import pytest
from cuda_stand_in import stand_in_for_cuda
from typer.testing import CliRunner

import moe_replay.collect.commands.dispatch_memory_command
import moe_replay.collect.commands.execution_commands
import moe_replay.collect.commands.shape_runs_command  # noqa: F401 - all three register their commands
from moe_replay.collect.commands.app import app
from moe_replay.collect.real_layers import layer_shapes
from moe_replay.collect.real_layers.layer_shapes import LayerShape
from moe_replay.collect.real_layers.layer_stack_blocks import LayerStackOnWeights
from moe_replay.simulate.config.memory_config import MemoryConfig
from moe_replay.traces.file.trace_file import load_trace, save_trace
from moe_replay.traces.runs.cost_table import load_costs
from moe_replay.traces.runs.run_records import load_run, run_names
from moe_replay.traces.synthetic import SyntheticSpec, synthetic_trace

TINY = ["--shape", "tiny", "--layers", "2", "--device", "cpu"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a decode trace of the tiny shape's layers and experts: 12 sequences of 7 tokens in 5 passes."""
    monkeypatch.setitem(layer_shapes.SHAPES, "tiny", LayerShape("tiny", 16, 24, 4, 2))
    spec = SyntheticSpec(layers=2, experts=4, k=2, sequences=12, prompt=(3, 3), decode=(4, 4))
    save_trace(synthetic_trace(spec, np.random.default_rng(3)).trace, tmp_path / "drawn.trace.parquet")
    return tmp_path


def run(*words):
    return CliRunner().invoke(app, list(map(str, words)))


def done(*words):
    result = run(*words)
    assert result.exit_code == 0, result.output
    return result.output


def test_costs_and_queues_of_a_shape(folder):
    costs, out = folder / "costs.parquet", folder / "executed"
    done("costs", *TINY, "--sizes", "1,4,64", "--repetitions", 1, "--out", costs)
    table = load_costs(costs)
    assert table.header["model"]["name"] == "tiny"
    assert table.header["data"] == "random"
    done("execute", *TINY, "--trace", folder / "drawn.trace.parquet", "--costs", costs, "--out", out, "--queue-size", 4,
         "--in-flight", 3, "--load", 0.5, "--lockstep", 3, "--replications", 1, "--batches-per-queue", 2,
         "--least-passes", 40)  # fmt: skip
    runs = [load_run(out, name) for name in run_names(out)]
    assert {each.header["config"]["arrivals"] for each in runs} == {"closed", "poisson"}
    # Lengths count passes of one token, of which a sequence has seven.
    closed = [each.header["config"] for each in runs if each.header["config"]["arrivals"] == "closed"]
    assert {config["sequences"] for config in closed} == {7, 18}


def test_slots_of_a_shape(folder):
    costs, out = folder / "load.parquet", folder / "memory-executed"
    done("costs", *TINY, "--sizes", "1,3", "--repetitions", 1, "--slots", 2, "--bandwidth", 2, "--out", costs)
    done("execute", *TINY, "--trace", folder / "drawn.trace.parquet", "--costs", costs, "--out", out, "--slots", "1,2",
         "--miss", "load,block", "--bandwidth", 2, "--in-flight", 1, "--queue-size", 1, "--lockstep", 0,
         "--replications", 1)  # fmt: skip
    runs = [load_run(out, name).header for name in run_names(out)]
    assert len(runs) == 1 + 4
    memories = [MemoryConfig.from_dict(each["config"]["memory"]) for each in runs if "memory" in each["config"]]
    assert {memory.expert_bytes for memory in memories} == {3 * 16 * 24 * 2}
    assert all(load_costs(costs).transfer_ns(memory.link_fields) for memory in memories)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "--checkpoint, --shape and --model: allowed exactly one of them"),
        (["--shape", "tiny", "--checkpoint", "m.pt"], "--checkpoint, --shape and --model: allowed exactly one of them"),
        (["--checkpoint", "m.pt", "--scale", "2"], "--scale and --layers have a meaning only with --shape"),
        (["--shape", "mixtral"], "unknown layer shape 'mixtral'; known:"),
        (["--shape", "mixtral-8x7b", "--layers", 10**6], "--shape mixtral-8x7b: bytes of weights:"),
    ],
)
def test_options_that_name_no_subject_or_two_are_refused(folder, words, message):
    assert message in str(run("costs", *words, "--device", "cpu", "--out", folder / "costs.parquet").exception)


@pytest.mark.parametrize("words", [["costs"], ["dispatch-memory"]])
def test_weights_that_a_gpu_has_no_room_for_are_refused(folder, words):
    with stand_in_for_cuda(1 << 30):
        refused = run(*words, "--shape", "mixtral-8x7b", "--device", "cuda", "--out", folder / "out.csv")
    assert re.search(r"its weights take [\d.]+ GiB, the device has 1 GiB left", str(refused.exception))


def test_costs_of_another_model_are_refused(folder):
    costs = folder / "costs.parquet"
    done("costs", *TINY, "--sizes", "1,4", "--repetitions", 1, "--out", costs)
    words = ["--trace", folder / "drawn.trace.parquet", "--costs", costs, "--out", folder / "executed"]
    refused = run("execute", *TINY, "--scale", 2, *words)
    assert "was measured on 2 layers of tiny, this is 2 layers of tiny-by-2" in str(refused.exception)


def decode_words(folder, **changed):
    """The words of shape-runs on a decode and a stepwise trace of the tiny shape."""
    spec = SyntheticSpec(layers=2, experts=4, k=2, sequences=4, prompt=(1, 1), decode=(9, 9))
    stepwise = synthetic_trace(spec, np.random.default_rng(5)).trace
    stepwise = replace(stepwise, norm_TL=np.ones((stepwise.T, 2), np.float32))
    save_trace(stepwise, folder / "stepwise.trace.parquet")
    options = {
        "trace": folder / "drawn.trace.parquet", "stepwise": folder / "stepwise.trace.parquet", "out": folder / "set",
        "share": 0.5, "queue_size": "1,4", "in_flight": "2,4", "slots": "1,2,3", "repetitions": 1, "device": "cpu",
    } | changed  # fmt: skip
    words = [(f"--{name.replace('_', '-')}", value) for name, value in options.items()]
    return ["shape-runs", "tiny", *(word for pair in words for word in pair)]


def test_runs_within_a_time_are_whole_and_go_on(folder):
    nothing = run(*decode_words(folder, seconds=0))
    assert nothing.exit_code == 1
    assert "skipped, the time is up: costs.parquet" in nothing.output
    said = done(*decode_words(folder))
    assert "0 missing" in said
    made = folder / "set"
    runs = [load_run(made / "executed", name).header["config"] for name in run_names(made / "executed")]
    assert len(runs) == 2 * 2 * (2 + 1)
    assert load_trace(made / "executed.trace.parquet").T == 12 * 2  # half of four decode steps, no prompts
    with_slots = [load_run(made / "memory-executed", name) for name in run_names(made / "memory-executed")]
    assert len(with_slots) == 1 + 3 * 3
    assert all(each.header["own_share"]["batches"] for each in with_slots)
    for name, miss in (("resident", None), ("load", "load"), ("masked", "redirect")):
        assert load_costs(made / "memory-costs" / f"{name}.parquet").header.get("miss") == miss
    again = done(*decode_words(folder))
    assert "queues" not in again


def test_a_run_that_fails_leaves_the_others_their_chance(folder, monkeypatch):
    def broken(real, config, header, known=None):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(LayerStackOnWeights, "execute", broken)
    failed = run(*decode_words(folder))
    assert failed.exit_code == 1
    assert failed.output.count("RuntimeError: out of memory") == 12 + 10
    assert (folder / "set" / "memory-costs" / "masked.parquet").exists()


def test_a_gpu_takes_the_same_way(folder, cuda):
    assert "0 missing" in done(*decode_words(folder, device="cuda"))
    runs = run_names(folder / "set" / "memory-executed")
    assert any("x10000ns+2304by6.4e+10" in name for name in runs)
    assert cuda.calls["non_blocking"]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"slots": "5"}, "allowed 1..4 slots"),
        ({"stepwise": "drawn.trace.parquet"}, "drawn.trace.parquet: allowed: a trace with scores and norms"),
    ],
)
def test_runs_of_other_sizes_are_refused(folder, changed, message):
    changed = {name: folder / value if name == "stepwise" else value for name, value in changed.items()}
    assert message in str(run(*decode_words(folder, **changed)).exception)
