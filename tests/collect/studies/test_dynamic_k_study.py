"""The delta-MoE study: held-out images, thresholds that hit their target, controls that keep the numbers of experts."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from moe_replay.collect.studies import delta_k_family, delta_k_study
from moe_replay.collect.studies.chosen_thresholds import bisected, noise_for, rule_for
from moe_replay.collect.studies.delta_k_family import hold_out, train_family
from moe_replay.collect.studies.delta_k_study import measure_points
from moe_replay.collect.studies.operating_times import measure_times, timed_points
from moe_replay.collect.studies.sample_answers import answer, noisy_gates
from moe_replay.collect.training.classifier_training import TrainingConfig, evaluate, new_classifier
from moe_replay.traces.errors import InputError
from moe_replay.traces.k_rules import KRule
from moe_replay.traces.operating_points import OperatingPoints, load_operating_points

CPU = torch.device("cpu")


@pytest.fixture
def test_part(blobs):
    return torch.from_numpy(blobs.test_NF), torch.from_numpy(blobs.test_label_N)


def test_held_out_images_are_the_last_and_no_model_sees_them(blobs):
    held = hold_out(blobs, 200)
    assert len(held.images.train_NF) == 400
    assert np.array_equal(np.concatenate([held.images.train_NF, held.validation_NF]), blobs.train_NF)
    assert held.images.digest != blobs.digest
    with pytest.raises(InputError, match="needed 800 to hold out 400"):
        hold_out(blobs, 400)


def test_answers_are_those_of_evaluate_and_count_what_ran(trained, test_part):
    model = trained[0]
    for k in (1, 2, 5):
        found = answer(model, *test_part, k, batch=40)
        assert found.accuracy == pytest.approx(evaluate(model, *test_part, k)[0])
        assert (found.count_NL == k).all()
    assert (answer(model, *test_part, None).count_NL == model.config.k).all()
    found = answer(model, *test_part, KRule("delta", 1e-9))
    assert (found.count_NL == model.config.experts).all()
    assert not model.gates[0]._forward_hooks  # nothing stays behind


def test_given_numbers_of_experts_are_obeyed_row_by_row_and_layer_by_layer(trained, test_part):
    model = trained[0]
    generator = torch.Generator().manual_seed(0)
    wanted_NL = torch.randint(1, 6, (len(test_part[0]), 2), generator=generator)
    assert torch.equal(answer(model, *test_part, wanted_NL, batch=37).count_NL, wanted_NL)
    threes = answer(model, *test_part, torch.full_like(wanted_NL, 3))
    assert torch.equal(threes.right_N, answer(model, *test_part, 3).right_N)


def test_thresholds_come_as_close_to_their_target_as_the_images_allow(trained, blobs):
    model = trained[0]
    validation = torch.from_numpy(blobs.train_NF), torch.from_numpy(blobs.train_label_N)
    for name in ("delta", "top-p", "entropy"):
        rule, seen = rule_for(name, 2.0, 6, model, *validation)
        assert seen.mean_k == answer(model, *validation, rule).mean_k
        if name != "entropy":  # near-uniform gates make entropy jump
            assert seen.mean_k == pytest.approx(2.0, abs=0.05)
    assert bisected(lambda x: x * x, 9.0, 0.0, 10.0, 1e-3) == pytest.approx(3.0, abs=1e-3)
    assert bisected(lambda x: -x, -4.0, 0.0, 10.0, 1e-3) == pytest.approx(4.0, abs=1e-3)
    assert bisected(lambda x: x, 99.0, 0.0, 10.0, 1e-3) == pytest.approx(10.0, abs=1e-3)  # out of reach: the nearer end


def test_noisy_tries_differ_and_leave_the_gates_as_they_were(blobs, small_config, test_part):
    """An untrained model whose own answers are the labels: right without noise, less and less right with it."""
    model = new_classifier(blobs, replace(small_config, gate="top-k"), 0).eval()
    images_NF = test_part[0]
    own = images_NF, model(images_NF)[0].argmax(1)
    assert answer(model, *own, 2).accuracy == 1
    with noisy_gates(model, 50.0, torch.Generator().manual_seed(0)):
        first, second = answer(model, *own, 2), answer(model, *own, 2)
    assert not torch.equal(first.right_N, second.right_N)
    assert answer(model, *own, 2).accuracy == 1
    half = (1 + first.accuracy) / 2
    deviation = noise_for(half, 2, model, *own, seed=1)
    with noisy_gates(model, deviation, torch.Generator().manual_seed(1)):
        assert answer(model, *own, 2).accuracy == pytest.approx(half, abs=0.05)


@pytest.fixture(scope="module")
def small_study(blobs, tmp_path_factory):
    """The whole study on the blobs with small models: (points, held, training, models folder)."""
    patch = pytest.MonkeyPatch()
    small = {"layers": 2, "experts": 16, "width": 16, "hidden": 16}
    for table in (delta_k_family.FAMILY, delta_k_study.FIXED, delta_k_study.DYNAMIC):
        for name, config in list(table.items()):
            patch.setitem(table, name, replace(config, **small))
    models, held, training = tmp_path_factory.mktemp("family"), hold_out(blobs, 200), TrainingConfig(epochs=2, batch=64)
    train_family(held.images, training, [0], models, CPU, 1, lambda _: None)
    yield measure_points(held, training, [0, 1], models, CPU, 1, lambda _: None), held, training, models
    patch.undo()


def test_every_seed_has_the_same_points_and_shuffling_keeps_the_numbers_of_experts(small_study):
    points = small_study[0]
    kinds = [
        (p["model"], p["how"], p.get("target_k"), p.get("k"), p.get("rule", "").split(":")[0]) for p in points.points
    ]
    assert kinds[: len(kinds) // 2] == kinds[len(kinds) // 2 :]
    assert {kind[1] for kind in kinds} == {"fixed", "rule", "trained", "shuffled", "noisy"}
    by_what = {(p["model"], p["seed"], p["how"], p.get("rule"), p.get("k")): i for i, p in enumerate(points.points)}
    for (model, seed, how, rule, _), index in by_what.items():
        if how == "shuffled":
            own = next(i for (m, s, h, r, _), i in by_what.items() if (m, s, r) == (model, seed, rule) and h != how)
            assert np.array_equal(np.sort(points.mean_k_PN[index]), np.sort(points.mean_k_PN[own]))
    for index, point in enumerate(points.points):
        assert points.right_PN[index].mean() == pytest.approx(point["accuracy"])
        assert points.mean_k_PN[index].mean() == pytest.approx(point["mean_k"])


def test_points_survive_the_file_and_a_broken_grid_is_refused(small_study, tmp_path):
    points = small_study[0]
    points.save(tmp_path / "p.parquet")
    loaded = load_operating_points(tmp_path / "p.parquet")
    assert loaded.points == points.points
    assert np.array_equal(loaded.right_PN, points.right_PN)
    with pytest.raises(InputError, match="as many rows for each point"):
        OperatingPoints({name: values[:-1] for name, values in points.columns.items()}, points.header)
    swapped = {name: values.copy() for name, values in points.columns.items()}
    swapped["sample"][[0, 1]] = swapped["sample"][[1, 0]]
    with pytest.raises(InputError, match="equal samples in equal order"):
        OperatingPoints(swapped, points.header)


def test_times_visit_every_point_as_often_and_take_the_stored_models(small_study):
    points, held, training, models = small_study
    rows = measure_times(held, points, training, models, CPU, 100, 2)
    chosen = timed_points(points, 0)
    assert len(rows) == 2 * len(chosen)
    assert all(row["seconds"] > 0 and row["images"] == 100 for row in rows)
    assert max(row["k"] for row in rows if row["k"]) == 8
    with pytest.raises(InputError, match="none of seed 7"):
        timed_points(points, 7)
