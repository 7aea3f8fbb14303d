"""Costs come from full batches of exactly n over all experts in turn; the experiment's grid is what it says."""

import numpy as np
import pytest
import torch

from moe_replay.collect.execution.calibration import CalibrationPlan, measure_costs, round_robin_selections
from moe_replay.collect.execution.classifier_blocks import ClassifierCalibration
from moe_replay.collect.execution.experiment import QueueSizeExperiment
from moe_replay.traces.errors import InputError
from moe_replay.traces.runs.cost_table import COST_COLUMNS, CostTable


def test_selections_fill_every_queue_with_exactly_n_and_visit_every_expert():
    experts_TLK = round_robin_selections(experts=6, k=2, layers=3, size=4)
    assert experts_TLK.shape == (36, 3, 2)
    assert experts_TLK[:, 0].tolist() == ([[0, 1]] * 4 + [[2, 3]] * 4 + [[4, 5]] * 4) * 3
    uneven = round_robin_selections(experts=5, k=2, layers=1, size=1)
    assert uneven[:4, 0].tolist() == [[0, 1], [2, 3], [4, 0], [1, 2]]


def test_cost_table_has_every_block_at_every_size(trained, blobs):
    model, _, _ = trained
    said = []
    plan = CalibrationPlan(sizes=(1, 3, 8), repetitions=2)
    table = measure_costs(
        ClassifierCalibration(model, torch.from_numpy(blobs.train_NF)), 2, plan, {"device": "test"}, say=said.append
    )
    assert sorted(said) == [1, 1, 3, 3, 8, 8]
    for layer in range(2):
        for block in range(7):
            chosen = (table.columns["layer"] == layer) & (table.columns["block"] == block)
            assert sorted(set(table.columns["tokens"][chosen])) == [1, 3, 8]
            assert sorted(set(table.columns["repetition"][chosen])) == [0, 1]
    assert table.dense_layers == [0, 1, 2]
    assert (table.columns["service_ns"] > 0).all()


def test_sizes_below_one_are_refused():
    with pytest.raises(InputError, match="allowed: batch sizes >= 1"):
        CalibrationPlan(sizes=(0, 4))


@pytest.fixture
def costs():
    """Dense 100 us + 1 us a token, expert 200 us + 10 us a token, for 1 and 512 tokens: straight lines."""
    rows = [
        (layer, block, tokens, 0, ((100 + tokens) if block == 0 else (200 + 10 * tokens)) * 1000)
        for layer in range(3)
        for block in (0, 1)
        for tokens in (1, 512)
    ]
    columns = {
        name: np.array(values, dtype)
        for (name, dtype), values in zip(COST_COLUMNS.items(), zip(*rows, strict=True), strict=True)
    }
    return CostTable(columns, {})


def test_grid_covers_the_cross_product_with_rates_from_the_capacity(costs):
    experiment = QueueSizeExperiment(queue_sizes=(1, 16), loads=(0.5,), in_flight=(8, 64), replications=2)
    plan = experiment.configurations(costs, k=4, layers=2, experts=16)
    assert len({config.name for config in plan}) == len(plan) == 2 * (2 * 2 + 2 * 1 + 2)
    assert [config.seed for config in plan] == [0] * 8 + [1] * 8
    capacity = 1e9 / (3 * (100 + 16) * 1000 / 16 + 4 * 2 * (200 + 160) * 1000 / 16)
    rates = [config.rate_per_s for config in plan if config.arrivals == "poisson"]
    assert rates == pytest.approx([0.5 * capacity] * 4)


def test_runs_are_long_enough_for_fifty_full_batches_of_a_mean_queue(costs):
    experiment = QueueSizeExperiment(queue_sizes=(128,), loads=(0.3,), in_flight=(2048,), replications=1)
    for config in experiment.configurations(costs, k=4, layers=4, experts=16)[:2]:
        batches = config.sequences * 4 / 16 / 128
        assert batches * 0.65 >= 50
    few = QueueSizeExperiment(queue_sizes=(128,), loads=(), in_flight=(8,), replications=1)
    assert few.configurations(costs, 4, 4, 16)[0].sequences == 616 + 16  # as for B = 2: 8 passes never fill 128


def test_unstable_points_run_short(costs):
    experiment = QueueSizeExperiment(
        queue_sizes=(1, 128), loads=(0.9,), in_flight=(), lockstep_step=None, replications=1
    )
    short, long = experiment.configurations(costs, 4, 4, 16)
    assert (short.queue_size, short.sequences) == (1, 300)
    assert long.sequences > 10_000
