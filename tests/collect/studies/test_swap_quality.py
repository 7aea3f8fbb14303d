"""Masked gating on a live model: who may run, what is lost, when residents change, and damaged experts."""

import csv
import json

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from moe_replay.collect.commands import masked_quality_commands, swap_profile_command  # noqa: F401 (registers the commands)
from moe_replay.collect.commands.app import ImageOptions, app
from moe_replay.collect.execution.classifier_blocks import ClassifierOnWeights
from moe_replay.collect.models.experts import expert_norms
from moe_replay.collect.models.masked_gating import Altered, MaskedGates
from moe_replay.collect.studies.masked_quality import MaskedPlan, altered_rows, masked_rows, scored, swapped
from moe_replay.collect.studies.quality_probes import ClassifierProbe
from moe_replay.collect.studies.swap_profile import Candidate, ProfileStage, draw_candidates
from moe_replay.collect.training.checkpoints import save_checkpoint
from moe_replay.simulate.config.memory_config import MemoryConfig
from moe_replay.simulate.planning.measurements import read_profile
from moe_replay.simulate.policies.memory.expert_worth import known_of
from moe_replay.simulate.policies.memory.swap_scheduler import wanted
from moe_replay.traces.command_line.files import write_rows
from moe_replay.traces.errors import InputError

CPU = torch.device("cpu")


@pytest.fixture
def probe(trained, blobs):
    return ClassifierProbe(trained[0], blobs, 120, CPU)


def test_with_all_experts_nothing_changes(trained, probe):
    gates = MaskedGates(trained[0], True, redirect=True)
    np.testing.assert_array_equal(scored(probe, gates), scored(probe, None))
    assert gates.lost_mass == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("redirect", [True, False])
def test_only_residents_run_and_weights_sum_to_one(trained, redirect):
    model = trained[0]
    gates = MaskedGates(model, True, redirect)
    gates.here_LE[0] = torch.tensor([1, 0, 0, 1, 1, 0], dtype=torch.bool)
    x_NM = torch.randn(50, model.config.width, generator=torch.Generator().manual_seed(0))
    weights_NK, experts_NK, _ = gates(0, x_NM)
    mass_NE = model.gates[0].logits(x_NM).softmax(1)
    selected_NK = mass_NE.topk(2, dim=1).indices
    ran = experts_NK >= 0
    assert gates.here_LE[0][experts_NK[ran]].all()
    some = ran.any(1)
    torch.testing.assert_close(weights_NK.sum(1)[some], torch.ones(int(some.sum())))
    if redirect:
        assert ran.all()
        best = mass_NE.masked_fill(~gates.here_LE[0], -1).topk(2, dim=1).indices
        assert torch.equal(experts_NK.sort(1).values, best.sort(1).values)
    else:
        assert torch.equal(experts_NK, selected_NK.masked_fill(~gates.here_LE[0][selected_NK], -1))
        assert not some.all()
    kept_N = mass_NE.gather(1, experts_NK.clamp_min(0)).masked_fill(~ran, 0).sum(1)
    lost = (1 - kept_N / mass_NE.gather(1, selected_NK).sum(1)).mean()
    assert gates.lost_mass == pytest.approx(lost.item(), abs=1e-6)


def test_importance_is_the_formula_before_the_mask(trained):
    model = trained[0]
    gates = MaskedGates(model, True, redirect=True)
    gates.keep(torch.rand(2, 6, generator=torch.Generator().manual_seed(1)), 2)
    x_NM = torch.randn(9, model.config.width, generator=torch.Generator().manual_seed(2))
    gates(1, x_NM)
    mass_NE, expected_E = model.gates[1].logits(x_NM).softmax(1), torch.zeros(6)
    for row in range(9):
        for expert in mass_NE[row].topk(2).indices.tolist():
            expected_E[expert] += x_NM[row].norm() * mass_NE[row, expert] * expert_norms(model.experts)[1, expert]
    torch.testing.assert_close(gates.importance_LE[1].float(), expected_E)
    assert gates.chosen_LE[1].sum() == 18


def test_a_recorded_trace_tells_the_norms_that_importance_needs(trained):
    """So an execution and its simulation choose residents by the formula that the live gates follow."""
    model, _, trace = trained
    told = known_of(trace, None, [MemoryConfig(cache="importance", miss="redirect", filled=True, period=8)])
    np.testing.assert_allclose(told.expert_norm, expert_norms(model.experts).flatten().numpy(), rtol=1e-5)


def test_residents_are_those_that_the_simulator_would_keep(trained):
    draws = np.random.default_rng(0)
    for _ in range(50):
        gates = MaskedGates(trained[0], True, redirect=True)
        slots = [int(each) for each in draws.integers(1, 7, 2)]
        gates.keep(torch.from_numpy(draws.random((2, 6))), slots)
        held = [row.nonzero().flatten().tolist() for row in gates.here_LE]
        score_LE = draws.integers(0, 3, (2, 6)).astype(float)  # ties
        gates.keep(torch.from_numpy(score_LE), slots)
        for layer in range(2):
            expected = wanted(score_LE[layer].tolist(), range(6), slots[layer], held[layer])
            assert sorted(expected) == gates.here_LE[layer].nonzero().flatten().tolist()


def test_residents_change_when_a_period_ends_and_only_then(trained, probe):
    """What they are chosen by is what their own period's 50 images selected: 2 experts in each of 2 layers."""
    gates, seen = MaskedGates(trained[0], True, redirect=True), []
    gates.keep(torch.arange(12.0).view(2, 6), 2)
    keep = gates.keep
    gates.keep = lambda *arguments: (seen.append((probe.scored, int(gates.chosen_LE.sum()))), keep(*arguments))[1]
    probe.scored, score = 0, probe.score

    def counted(first, last, select):
        probe.scored = last
        return score(first, last, select)

    probe.score, probe.batch = counted, 20
    assert len(swapped(probe, gates, 2, 50)) == 120
    assert seen == [(50, 200), (100, 200)]


def test_exchanged_experts_run_in_each_others_place(trained):
    model = trained[0]
    affected_LE = torch.zeros(2, 6, dtype=torch.bool)
    affected_LE[0, [1, 4]] = True
    x_NM = torch.randn(30, model.config.width, generator=torch.Generator().manual_seed(3))
    plain = model.gates[0].logits(x_NM).topk(2, dim=1).indices
    exchanged = Altered(model, True, affected_LE, exchange=True)(0, x_NM)
    assert torch.equal(exchanged.experts_NK, torch.tensor([0, 4, 2, 3, 1, 5])[plain])
    skipped = Altered(model, True, affected_LE, exchange=False)(0, x_NM)
    assert torch.equal(skipped.experts_NK, plain.masked_fill(affected_LE[0][plain], -1))
    untouched = Altered(model, True, affected_LE, exchange=True)(1, x_NM)
    assert torch.equal(untouched.experts_NK, model.gates[1].logits(x_NM).topk(2, dim=1).indices)


def test_every_way_has_a_row_and_fewer_slots_lose_more(trained, probe):
    plan = MaskedPlan((1, 6), (30,), random_keeps=2)
    said = []
    rows = masked_rows(probe, True, plan, lambda: said.append(1))
    assert len(rows) == len(said) == plan.ways == 1 + 2 * 2 * (3 + 2 + 1)
    assert all(row["loss"] == 0 for row in rows if row["slots"] == 6)  # nothing is absent
    assert all(row["lost_mass"] > 0.2 for row in rows if row["slots"] == 1)
    assert all(row["lost_mass"] == pytest.approx(0, abs=1e-6) for row in rows if row["slots"] == 6)
    assert {row["seed"] for row in rows if row["method"] == "random"} == {0, 1}
    altered = altered_rows(probe, True, 0.5, 2)
    assert [(row["treatment"], row["place"]) for row in altered[:3]] == [
        ("none", None), ("skip", "first layer"), ("exchange", "first layer"),
    ]  # fmt: skip
    assert len(altered) == 1 + 2 * 4


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        (MaskedPlan((7,), ()), r"slots is 7, allowed 1\.\.6, the experts of a layer"),
        (MaskedPlan((2,), (121,)), r"period is 121, allowed 1\.\.120, the units measured"),
    ],
)
def test_impossible_plans_are_refused(probe, plan, message):
    with pytest.raises(InputError, match=message):
        masked_rows(probe, True, plan)
    with pytest.raises(InputError, match="1 of 6 experts, allowed at least 2"):
        altered_rows(probe, True, 0.2, 1)


def test_a_profile_is_what_the_planner_reads(trained, blobs, probe, tmp_path):
    model, _, trace = trained
    link = {"link_latency_ns": 50_000, "link_bytes_per_s": 1e9, "expert_bytes": 4000}
    memory = MemoryConfig(cache="importance", miss="redirect", filled=True, **link)
    real = ClassifierOnWeights(model, trace, torch.from_numpy(blobs.test_NF), blobs.test_label_N)
    stage = ProfileStage(probe, True, real, known_of(trace, 2, [memory]), link, 1, 1000)
    candidates = draw_candidates(2, 6, (0, 40), 5, seed=1)
    assert {each.period for each in candidates} == {0, 40}
    rows = stage.rows([*candidates, Candidate((6, 6), 0)])
    write_rows(tmp_path / "profile.csv", rows)
    profile = read_profile(tmp_path / "profile.csv")
    assert profile.loss_N[-1] == 0
    expert_bytes = model.experts[0].expert_bytes
    np.testing.assert_array_equal(profile.memory_bytes_N, 1000 + (profile.slots_NL.sum(1) + 2) * expert_bytes)
    with pytest.raises(InputError, match="period is 500, allowed 0"):
        stage.rows([Candidate((6, 6), 500)])
    with pytest.raises(InputError, match=r"slots are \(7, 1\), allowed 1\.\.6 for 2 layers"):
        stage.rows([Candidate((7, 1), 0)])


def test_commands_write_tables_with_their_provenance(trained, blobs, tmp_path, monkeypatch):
    model, description, _ = trained
    history = description["history"]
    about = {name: value for name, value in description.items() if name != "history"}
    save_checkpoint(tmp_path / "m.pt", about, model, None, history)
    monkeypatch.setattr(ImageOptions, "read", lambda _: blobs)
    shared = ["--checkpoint", tmp_path / "m.pt", "--units", 100, "--device", "cpu", "--out"]
    run = lambda *words: CliRunner().invoke(app, list(map(str, words)))  # noqa: E731
    done = run("swap-quality", *shared, tmp_path / "q.csv", "--slots", "2,3", "--period", "20", "--random-keeps", 1)
    assert done.exit_code == 0, done.output
    assert run("skip-exchange", *shared, tmp_path / "x.csv", "--seeds", 1).exit_code == 0
    with open(tmp_path / "q.csv") as opened:
        assert len(list(csv.DictReader(opened))) == 1 + 2 * 2 * 5
    found = json.loads((tmp_path / "q.json").read_text())
    assert (found["experts"], found["k"], found["layers"]) == (6, 2, 2)
    assert found["model_bytes"] > 2 * 6 * found["expert_bytes"]
    refused = run("swap-quality", *shared, tmp_path / "no.csv", "--miss", "load")
    assert "unknown handling 'load'; known: redirect, skip" in str(refused.exception)
    refused = run(
        "swap-quality", *shared, tmp_path / "no.csv", "--slots", "2", "--period", "20", "--dense", tmp_path / "m.pt"
    )
    assert "--dense: allowed beside a language model" in str(refused.exception)
