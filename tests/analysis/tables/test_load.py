"""Load against k: counts by hand, and a control that uniform routing meets."""

import numpy as np
import pandas as pd
import pytest

from moe_replay.analysis.tables.load_vs_k import (
    expert_rows,
    load_by_k,
    load_claim,
    load_rows,
    place_rows,
    step_variation,
    uniform_control,
)


def uniform_choices(tokens, layers, experts, rng):
    return np.argsort(rng.random((tokens, layers, experts)), axis=2).astype(np.int16)


def test_counts_by_hand():
    experts_TLK = np.array([[[0, 1]], [[0, 2]], [[1, -1]]], dtype=np.int16)
    load_KLE = load_by_k(experts_TLK, 3)
    assert load_KLE[:, 0].tolist() == [[2, 1, 0], [2, 2, 1]]


def test_variation_inside_steps_by_hand():
    """Step 0: loads 2, 0 (CV 1); step 1: loads 1, 1 (CV 0). Over both steps 3, 1 (CV 0.5)."""
    experts_TLK = np.array([[[0]], [[0]], [[0]], [[1]]], dtype=np.int16)
    step_T = np.array([3, 3, 8, 8])
    assert step_variation(experts_TLK, step_T, 2).tolist() == [[0.5]]
    rows = pd.DataFrame(load_rows("cpu/toy", experts_TLK, step_T, 2, 1, np.random.default_rng(0)))
    assert rows["cv"].tolist() == [0.5, 0.5]
    assert rows["samples_per_step"].tolist() == [1, 1]
    assert rows["max_over_mean"].tolist() == [1.5, 1.5]
    assert rows["layer"].tolist() == ["0", "all"]


def test_steps_and_tokens_without_a_route_are_left_out():
    """Step 3 has loads 2, 0; step 8 has none in this layer: the spread inside a step is 1, and tokens are 2."""
    experts_TLK = np.array([[[0]], [[0]], [[-1]], [[-1]]], dtype=np.int16)
    assert step_variation(experts_TLK, np.array([3, 3, 8, 8]), 2).tolist() == [[1]]
    rows = load_rows("cpu/toy", experts_TLK, np.array([3, 3, 8, 8]), 2, 1, np.random.default_rng(0))
    assert [row["tokens"] for row in rows] == [2, 2]


@pytest.mark.parametrize(("tokens", "k", "experts"), [(400, 1, 16), (400, 4, 16), (50, 2, 8)])
def test_uniform_routing_meets_its_control(tokens, k, experts):
    rng = np.random.default_rng(tokens + k)
    found = []
    for _ in range(300):
        load_E = load_by_k(uniform_choices(tokens, 1, experts, rng)[:, :, :k], experts)[k - 1, 0]
        found.append((load_E.std() / load_E.mean(), load_E.max() / load_E.mean(), load_E.min() / load_E.mean()))
    control = uniform_control(tokens, k, experts, rng)
    error = np.std(found, axis=0) / np.sqrt(len(found))
    assert np.all(np.abs(np.mean(found, axis=0) - control) < 5 * error + 0.004)


def test_all_experts_is_even_load():
    assert uniform_control(100, 16, 16, np.random.default_rng(0)) == (0, 1, 1)
    rows = load_rows("cpu/toy", uniform_choices(50, 2, 4, np.random.default_rng(0)), np.arange(50) // 10, 4, 2,
                     np.random.default_rng(0))  # fmt: skip
    last = [row for row in rows if row["k"] == 4]
    assert [row["cv"] for row in last] == [0, 0, 0]
    assert [row["samples_per_step"] for row in last] == [10, 10, 10]


def test_renaming_experts_changes_no_aggregate():
    rng = np.random.default_rng(5)
    experts_TLK = uniform_choices(200, 2, 8, rng)
    renamed = rng.permutation(8).astype(np.int16)[experts_TLK]
    step_T = np.arange(200) // 20
    both = [load_rows("s", each, step_T, 8, 2, np.random.default_rng(0)) for each in (experts_TLK, renamed)]
    pd.testing.assert_frame_equal(*map(pd.DataFrame, both))


def test_experts_are_ranked_and_shares_add_up():
    rows = pd.DataFrame(expert_rows("s", uniform_choices(200, 2, 8, np.random.default_rng(6)), np.arange(200) // 20, 8))
    assert rows.groupby(["k", "layer"])["share"].sum().to_numpy() == pytest.approx(1)
    first = rows[(rows["k"] == 1) & (rows["layer"] == 0)]
    assert first["place"].tolist() == list(range(1, 9))
    assert first["samples"].is_monotonic_decreasing
    places = place_rows(rows)
    assert len(places) == 8 * 8
    assert (places["over_mean_least"] <= places["over_mean"]).all()


def test_claim_names_the_models_own_k():
    rng = np.random.default_rng(7)
    rows = load_rows("cpu/toy", uniform_choices(200, 2, 8, rng), np.arange(200) // 20, 8, 2, rng)
    claim = load_claim(pd.DataFrame(rows))
    assert "model's own k=2" in claim["claim"]
    assert set(claim["numbers"]["cpu/toy"]) == {str(k) for k in range(1, 9)}
    assert load_claim(pd.DataFrame([{"set": "x", "status": "missing"}]))["numbers"] == {}
