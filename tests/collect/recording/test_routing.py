"""A recorded trace says what ran: its first k are the gate's choice, its predictions are the model's."""

from functools import partial

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import moe_replay.collect.commands.classifier_commands
import moe_replay.collect.commands.route_command  # noqa: F401 - both register their commands
from moe_replay.collect.commands.app import app
from moe_replay.collect.models.classifier import CONFIGURATIONS, Classifier
from moe_replay.collect.recording.classifier_recording import record_trace, route
from moe_replay.collect.training.classifier_training import TrainingConfig, evaluate, restore, train
from moe_replay.traces.errors import InputError
from moe_replay.traces.file.trace_writer import TraceWriter
from moe_replay.traces.k_rules import KRule
from moe_replay.traces.regating import regate

CPU = torch.device("cpu")


def test_trace_holds_every_candidate_with_its_score(trained, blobs):
    trace = trained[2]
    assert (trace.T, trace.L, trace.K, trace.E) == (150, 2, 6, 6)
    assert np.array_equal(np.sort(trace.experts_TLK, axis=2), np.broadcast_to(np.arange(6), (150, 2, 6)))
    np.testing.assert_allclose(trace.scores_TLK.sum(axis=2), 1, rtol=1e-5)
    assert trace.header.model.used_k == 2
    assert np.array_equal(trace.label_S, blobs.test_label_N)


def test_recorded_choices_and_predictions_are_those_of_the_plain_model(trained, blobs):
    model, _, trace = trained
    images_NF = torch.from_numpy(blobs.test_NF)
    with torch.inference_mode():
        h_NM = model.norms[0](model.embed(images_NF))
        _, experts_NK, _ = model.gates[0](h_NM, 2)
        logits_NC, _ = model(images_NF)
    assert np.array_equal(trace.experts_TLK[:, 0, :2], experts_NK.numpy())
    assert np.array_equal(trace.prediction_S, logits_NC.argmax(1).numpy())
    accuracy, _ = evaluate(model, images_NF, torch.from_numpy(blobs.test_label_N), 2)
    assert (trace.prediction_S == trace.label_S).mean() == pytest.approx(accuracy)
    np.testing.assert_allclose(trace.norm_TL[:, 0], h_NM.norm(dim=1).numpy(), rtol=1e-4)


def test_an_untrained_gate_ties_everywhere_and_is_recorded_all_the_same(blobs, small_config):
    mean_F, deviation_F = (torch.from_numpy(values) for values in blobs.mean_and_deviation())
    seen = route(Classifier(small_config, mean_F, deviation_F, 10, 0), torch.from_numpy(blobs.test_NF[:5]), 2)
    assert np.array_equal(np.sort(seen.experts_NLE, axis=2)[0, 0], np.arange(6))


def test_a_recording_that_was_cut_off_goes_on_to_the_same_trace(trained, blobs, tmp_path, monkeypatch):
    model, description, whole = trained
    out = tmp_path / "cut.trace.parquet"
    append = TraceWriter.append
    counted = []

    def cut_off(writer, chunk):
        counted.append(chunk.T)
        if len(counted) == 3:
            raise KeyboardInterrupt
        append(writer, chunk)

    monkeypatch.setattr(TraceWriter, "append", cut_off)
    with pytest.raises(KeyboardInterrupt):
        record_trace(model, description, blobs, 2, 64, CPU, out)
    monkeypatch.setattr(TraceWriter, "append", append)
    assert not out.exists()
    again = record_trace(model, description, blobs, 2, 64, CPU, out)
    assert again.digest == whole.digest


def test_the_one_layer_configuration_trains_and_records_too(blobs, tmp_path):
    config = CONFIGURATIONS["one-layer"]
    train(blobs, config, TrainingConfig(epochs=3, batch=32), CPU, tmp_path / "m.pt")
    model, description = restore(tmp_path / "m.pt", blobs)
    trace = record_trace(model, description, blobs, config.k, 50, CPU, tmp_path / "m.trace.parquet")
    assert (trace.L, trace.K, trace.E) == (1, 10, 10)
    assert trace.header.model.d_model is None
    assert (trace.prediction_S == trace.label_S).mean() == description["history"][-1]["test_accuracy"] > 0.5


@pytest.mark.parametrize(("k", "mean_k"), [(3, 3), (KRule("delta", 0.5), None)])
def test_only_what_ran_is_the_same_choice_in_a_small_file(trained, blobs, tmp_path, k, mean_k):
    model, description, _ = trained
    record = partial(record_trace, model, description, blobs, k, 64, CPU)
    small, full = record(tmp_path / "s.trace.parquet", only_ran=True), record(tmp_path / "f.trace.parquet")
    ran = small.experts_TLK >= 0
    assert np.array_equal(small.experts_TLK[ran], full.experts_TLK[:, :, : small.K][ran])
    assert small.present == ("experts_TLK", "sequence_T", "position_T", "step_T", "phase_T", "label_S", "prediction_S")
    assert np.array_equal(small.prediction_S, full.prediction_S)
    assert small.header.notes == full.header.notes
    if mean_k:
        assert (small.K, ran.all()) == (mean_k, True)


@pytest.mark.parametrize("text", ["delta:0.5", "top-p:0.5", "xmoe:0.7", "gap:0.2", "entropy:4"])
def test_the_first_layer_of_a_regated_trace_is_the_recorded_one(trained, blobs, tmp_path, text):
    """Its input does not depend on how many experts run behind it; for later layers re-gating is open loop."""
    model, description, whole = trained
    recorded = record_trace(model, description, blobs, KRule.parse(text), 64, CPU, tmp_path / "r.trace.parquet")
    regated = regate(whole, KRule.parse(text))
    assert np.array_equal(regated.experts_TLK[:, 0], recorded.experts_TLK[:, 0, : regated.K])
    assert (recorded.experts_TLK[:, 0, regated.K :] == -1).all()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--rule", "detla:0.5"], "unknown rule for K 'detla'; known: delta, "),
        (["--rule", "delta:0"], "threshold of delta is 0.0, allowed above 0..1"),
        (["--rule", "delta:0.5", "--k", "2"], "--rule and --k: allowed one of them"),
    ],
)
def test_a_bad_rule_is_refused_before_anything_is_read(words, says, tmp_path):
    done = CliRunner().invoke(app, ["route", "--checkpoint", "none.pt", "--out", str(tmp_path / "x"), *words])
    assert isinstance(done.exception, InputError)
    assert says in str(done.exception)
