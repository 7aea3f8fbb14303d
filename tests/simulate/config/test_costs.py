"""Costs: the mean curve between measured sizes, refusals outside, resampled repetitions."""

import numpy as np
import pytest
from scipy import stats

from moe_replay.simulate.config.costs import CostModel, MeanCosts, ResampledCosts, affine, constant
from moe_replay.traces.errors import InputError
from moe_replay.traces.runs.cost_table import CostTable

TIMES_NS = {1: [90, 110], 4: [190, 210, 230], 8: [401, 402]}  # means 100, 210, 401.5


def table(dense_layers=(0, 1), scale=1, any_ns=0):
    """One layer, two experts of which each was measured once per repetition, and dense blocks ten times as slow."""
    rows = []
    for tokens, times_ns in TIMES_NS.items():
        for repetition, time_ns in enumerate(times_ns):
            rows.append((0, 1 + repetition % 2, tokens, repetition, time_ns * scale))
            rows += [(layer, 0, tokens, repetition, (10 * (layer + 1) or any_ns) * time_ns) for layer in dense_layers]
    layer, block, tokens, repetition, service_ns = np.array(rows).T
    columns = {
        "layer": layer.astype(np.int16), "block": block.astype(np.int16), "tokens": tokens.astype(np.int32),
        "repetition": repetition.astype(np.int32), "service_ns": service_ns.astype(np.int64),
    }  # fmt: skip
    return CostTable(columns, {"device": "a toy"})


def test_means_are_met_at_measured_sizes_and_joined_by_lines():
    cost = MeanCosts(table())
    assert [cost(0, 1, n) for n in (1, 2, 3, 4, 8)] == [100, 137, 173, 210, 402]  # 136.67, 173.33, 401.5 rounded once
    assert cost(0, 2, 4) == 210  # experts share one curve
    assert cost(3, 1, 4) == 210
    assert (cost(0, 0, 4), cost(1, 0, 4)) == (2100, 4200)  # dense blocks do not
    assert isinstance(cost(0, 1, 2), int)


@pytest.mark.parametrize("tokens", [0, 9, 100])
@pytest.mark.parametrize("make", [MeanCosts, lambda costs: ResampledCosts(costs, np.random.default_rng(0))])
def test_sizes_that_were_not_measured_are_refused_below_as_above(tokens, make):
    with pytest.raises(InputError, match=rf"a batch of {tokens} tokens in an expert was not measured; allowed: 1..8"):
        make(table())(0, 1, tokens)


def test_capacity_refuses_the_same_sizes():
    assert table().capacity_per_s(k=2, layers=3, batch=4) == pytest.approx(1e9 / (6 * 210 / 4 + 2100 / 4 + 4200 / 4))
    with pytest.raises(InputError, match=r"a batch of 16 tokens in an expert was not measured; allowed: 1..8"):
        table().capacity_per_s(k=2, layers=3, batch=16)


def test_blocks_that_were_not_measured_are_refused():
    with pytest.raises(InputError, match="nothing was measured for layer 2, block 0"):
        MeanCosts(table())(2, 0, 1)
    CostModel(table()).check_dense(layers=1)
    with pytest.raises(InputError, match="dense block 2 was not measured"):
        CostModel(table()).check_dense(layers=2)


def any_layer(own_layers=()):
    """The table with a dense block for any layer, ten times as slow as an expert, and those of some layers."""
    return table(dense_layers=(-1, *own_layers), any_ns=10)


def test_a_dense_block_of_any_layer_serves_those_that_have_none_of_their_own():
    costs = MeanCosts(any_layer(own_layers=(1,)))
    assert [costs(layer, 0, 4) for layer in (0, 1, 2, 31)] == [2100, 4200, 2100, 2100]
    assert len({costs.curve(layer, block) for layer in (0, 1, 2, 31) for block in (0, 1, 2)}) == 3
    CostModel(any_layer()).check_dense(layers=80)
    drawn = {ResampledCosts(any_layer(), np.random.default_rng(seed))(7, 0, 1) for seed in range(40)}
    assert drawn == {900, 1100}
    with pytest.raises(InputError, match="a batch of 9 tokens in dense block 5 was not measured"):
        costs(5, 0, 9)


def test_capacity_counts_every_dense_block_of_the_model():
    expected = 1e9 / (6 * 210 / 4 + 4 * 2100 / 4)
    assert any_layer().capacity_per_s(k=2, layers=3, batch=4) == pytest.approx(expected)


def test_resampling_draws_every_repetition_of_a_measured_size_equally_often():
    cost = ResampledCosts(table(), np.random.default_rng(0))
    drawn, counts = np.unique([cost(0, 1, 4) for _ in range(3000)], return_counts=True)
    assert drawn.tolist() == TIMES_NS[4]
    assert stats.chisquare(counts).pvalue > 1e-3


def test_resampling_between_sizes_interpolates_equal_quantiles():
    cost = ResampledCosts(table(), np.random.default_rng(0))
    times = np.array([cost(0, 1, 2) for _ in range(4000)])
    pairs = {(90, 190), (90, 210), (110, 210), (110, 230)}  # halves of one size meet thirds of the other
    assert set(times.tolist()) == {round(2 / 3 * low + high / 3) for low, high in pairs}
    half_width = stats.t.ppf(0.9995, len(times) - 1) * stats.sem(times)
    assert abs(times.mean() - MeanCosts(table())(0, 1, 2)) < half_width + 0.5  # half a ns of rounding
    assert half_width < 0.02 * times.mean()


def test_resampling_is_reproducible():
    first, second = (ResampledCosts(table(), np.random.default_rng(7)) for _ in range(2))
    assert [first(0, 1, 3) for _ in range(20)] == [second(0, 1, 3) for _ in range(20)]


def test_laws():
    assert [affine(100, 2.5)(0, 0, n) for n in (0, 1, 2)] == [100, 102, 105]
    assert constant(7)(3, 2, 100) == 7
    with pytest.raises(InputError, match="allowed: two numbers >= 0"):
        affine(-1, 2)


def test_a_cost_model_has_one_source_and_a_digest_that_tells_sources_apart():
    measured, resampled = CostModel(table()), CostModel(table(), resampled=True)
    models = [measured, resampled, CostModel(table(scale=2)), CostModel(line_ns=(1, 2))]
    assert len({model.digest for model in models}) == 4
    assert CostModel(table()).digest == models[0].digest
    assert (models[0].device, models[3].device) == ("a toy", "affine costs")
    for fields in ({}, {"table": table(), "line_ns": (1.0, 2.0)}, {"line_ns": (1.0, 2.0), "resampled": True}):
        with pytest.raises(InputError):
            CostModel(**fields)
