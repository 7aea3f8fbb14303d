"""Plans: the exact search is exact, the others never better, fits recover laws, impossible budgets are named."""

import csv
from itertools import product

import numpy as np
import pytest
from typer.testing import CliRunner

from moe_replay.simulate.__main__ import app
from moe_replay.simulate.planning.fitted_models import LossModel, Models, errors, fit
from moe_replay.simulate.planning.measurements import Profile, read_profile, read_profiles, text_of
from moe_replay.simulate.planning.search import Budget, exact, genetic, keeps, search_all, uniform
from moe_replay.traces.errors import InputError

LAYERS, EXPERTS, K = 3, 6, 2


def random_models(seed):
    draws = np.random.default_rng(seed)
    weights_LP = draws.exponential(size=(LAYERS, 2)) * draws.integers(2, size=(LAYERS, 2))
    quality = LossModel(EXPERTS, (1, 3), 1.5, weights_LP, {0: 1.0, 16: 0.8, 64: 0.9})
    return Models(EXPERTS, K, (1000.0, 10.0), (2.0, 0.25, float(draws.uniform(0, 20))), quality)


@pytest.mark.parametrize("seed", range(40))
def test_the_exact_search_equals_trying_every_plan(seed):
    models, draws = random_models(seed), np.random.default_rng(seed + 1000)
    budget = Budget(1000 + 10 * int(draws.integers(LAYERS, LAYERS * EXPERTS + 3)), [None, 3.1, 3.6][seed % 3])
    every = [
        models.loss(np.array(slots), period)
        for slots in product(range(1, EXPERTS + 1), repeat=LAYERS)
        for period in models.periods
        if keeps(models, np.array(slots), period, budget)
    ]
    found = exact(models, LAYERS, budget)
    assert found.loss == pytest.approx(min(every), abs=1e-12)
    for plan in (found, genetic(models, LAYERS, budget), uniform(models, LAYERS, budget)):
        assert keeps(models, np.array(plan.slots_L), plan.period, budget)
        assert plan.loss >= found.loss - 1e-12
        assert plan.loss == models.loss(np.array(plan.slots_L), plan.period)


def test_the_genetic_search_comes_close_and_repeats_itself():
    models, budget = random_models(3), Budget(1000 + 10 * 11)
    first = genetic(models, LAYERS, budget, seed=5)
    assert first.slots_L == genetic(models, LAYERS, budget, seed=5).slots_L
    assert first.loss <= 1.05 * exact(models, LAYERS, budget).loss + 1e-12
    assert [plan.loss for plan in search_all(models, LAYERS, budget)] == sorted(
        plan.loss for plan in search_all(models, LAYERS, budget)
    )


def measured(models, count=80, seed=0):
    """A profile that a law gives exactly."""
    draws = np.random.default_rng(seed)
    slots_NL, period_N = draws.integers(1, EXPERTS + 1, (count, LAYERS)), draws.choice(models.periods, count)
    pairs = list(zip(slots_NL, period_N.tolist(), strict=True))
    return Profile(
        slots_NL, period_N, np.array([models.loss(*pair) for pair in pairs]),
        np.array([models.latency_ms(*pair) for pair in pairs]),
        np.array([models.memory_bytes(slots_L) for slots_L, _ in pairs]), EXPERTS, K,
    )  # fmt: skip


def test_fits_recover_the_laws_that_made_a_profile():
    law = random_models(7)
    profile, new = measured(law), measured(law, seed=1)
    found = fit(profile)
    assert found.memory == pytest.approx(law.memory)
    assert found.latency == pytest.approx(law.latency)
    predicted = found.quality.loss(new.slots_NL, new.period_N)
    assert np.abs(predicted - new.loss_N).max() < 0.05 * new.loss_N.max()
    assert errors(profile, found)["memory_bytes"] < 1e-6


def test_a_budget_that_nobody_can_keep_names_what_binds_and_by_how_much():
    models = random_models(0)  # one slot in each of three layers: 1030 bytes, 2.75 ms where residents stay
    with pytest.raises(InputError, match=r"memory: 1010 bytes, the smallest plan needs 1030, 20 more$"):
        exact(models, LAYERS, Budget(1010))
    with pytest.raises(InputError, match=r"latency: 2.5 ms, the fastest plan needs 2.750 ms, 0.250 more"):
        genetic(models, LAYERS, Budget(2000, 2.5))
    with pytest.raises(InputError, match=r"memory: .*; latency: "):
        uniform(models, LAYERS, Budget(1, 1.0))


def write_profile(path, profile):
    with open(path, "w", newline="") as opened:
        writer = csv.writer(opened)
        writer.writerow(["slots", "period", "loss", "loss_error", "latency_ms", "memory_bytes", "experts", "k"])
        for i, slots_L in enumerate(profile.slots_NL):
            writer.writerow([text_of(slots_L), profile.period_N[i], profile.loss_N[i], 0.01, profile.latency_ms_N[i],
                             profile.memory_bytes_N[i], EXPERTS, K])  # fmt: skip
    return path


def test_the_command_plans_from_files(tmp_path):
    law = random_models(2)
    files = [write_profile(tmp_path / f"{seed}.csv", measured(law, 40, seed)) for seed in (0, 1)]
    assert len(read_profiles(files).loss_N) == 80
    words = [
        "plan",
        *map(str, files),
        "--memory",
        "1080,1120",
        "--pass-latency",
        "5",
        "--out",
        str(tmp_path / "p.csv"),
    ]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    rows = list(csv.DictReader((tmp_path / "p.csv").open()))
    assert [row["search"] for row in rows].count("exact") == 2
    assert len(rows) == 6
    for row in rows:
        assert float(row["predicted_memory_bytes"]) <= float(row["memory_budget"])
        assert float(row["seconds"]) < 10
    done = CliRunner().invoke(app, ["plan", str(files[0]), "--memory", "1020"])
    assert "no plan meets the budget: memory: 1020 bytes, the smallest plan needs 1030, 10 more" in str(done.exception)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace("loss,", "gain,", 1), "column loss is missing"),
        (lambda text: text.splitlines()[0] + "\n", "holds no rows"),
        (lambda text: text + "4.x.1,0,1,0,1,1,6,2\n", "slots is '4.x.1'"),
        (lambda text: text + "4.1,0,1,0,1,1,6,2\n", "layers, allowed one model's"),
        (lambda text: text + "4.1.1,0,bad,0,1,1,6,2\n", "row 10: loss is 'bad', allowed a number$"),
        (lambda text: text + "4.1.1,0,1,0,nan,1,6,2\n", "row 10: latency_ms is 'nan', allowed a number >= 0$"),
        (lambda text: text + "4.1.1,0,1,0,1,-1,6,2\n", "row 10: memory_bytes is '-1', allowed a number >= 0$"),
        (lambda text: text + "4.1.1,-4,1,0,1,1,6,2\n", "row 10: period is '-4', allowed a whole number >= 0$"),
        (lambda text: text + "4.1.1,2.5,1,0,1,1,6,2\n", "row 10: period is '2.5', allowed a whole number >= 0$"),
        (lambda text: text + "4.1.7,0,1,0,1,1,6,2\n", r"row 10: slots is 7, allowed 1\.\.6, the experts of a layer$"),
        (lambda text: text + "4.1.1,0,1,0,1,1,7,2\n", "row 10: experts is 7, allowed 6, as in row 0$"),
        (lambda text: text + "4.1.1,0,1,0,1,1,6,1\n", "row 10: k is 1, allowed 2, as in row 0$"),
        (
            lambda text: text.replace(",6,2\n", ",6,8\n"),
            r"k is 8, allowed 1\.\.6, the experts",
        ),
        (lambda text: text + "4.1.1,0,1\n", "row 10: has fewer or more values than the 8 columns$"),
        (lambda text: text + "4.1.1,0,1,0,1,1,6,2,9\n", "row 10: has fewer or more values than the 8 columns$"),
        (lambda text: text + "\udcff", "not a CSV table"),
    ],
)
def test_bad_profiles_are_refused_with_file_and_row(tmp_path, change, message):
    path = write_profile(tmp_path / "p.csv", measured(random_models(1), 10))
    path.write_text(change(path.read_text()), errors="surrogateescape")
    with pytest.raises(InputError, match=message):
        read_profile(path)
    with pytest.raises(InputError, match=r"absent.csv: no such file"):
        read_profile(tmp_path / "absent.csv")


def test_too_few_configurations_are_refused():
    with pytest.raises(InputError, match="the profile has 5 configurations, allowed 6 and more"):
        fit(measured(random_models(1), 5))
