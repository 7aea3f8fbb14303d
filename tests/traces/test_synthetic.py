"""Synthetic traces hold what they state: load and reuse, in chi-square tests that would notice a small error."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from moe_replay.traces.describe import load_LE, reuse
from moe_replay.traces.errors import InputError
from moe_replay.traces.file.trace_file import load_trace, save_trace
from moe_replay.traces.synthetic import SyntheticSpec, inclusion, synthetic_trace

SEQUENCES = 6000


def sequence_loads(trace, layer):
    """The selections of every sequence, (S, E): sequences are drawn independently of each other."""
    load_SE = np.zeros((trace.S, trace.E))
    np.add.at(load_SE, (trace.sequence_T[:, None], trace.experts_TLK[:, layer]), 1)
    return load_SE


def chi_square(load_SE, expected_E):
    """The p-value of equally long sequences whose load is `expected_E` on average.

    Wald's statistic n d' C+ d with the mean deviation d and the covariance C of the sequences' own loads: it knows
    nothing of how rows were drawn. Loads that cannot vary (an expert in every row, the sum over all) leave the rank.
    """
    count = len(load_SE)
    deviation_E = load_SE.mean(0) - expected_E
    covariance = np.cov(load_SE.T)
    rank = np.linalg.matrix_rank(covariance, hermitian=True)
    fixed = np.diag(covariance) == 0
    assert not deviation_E[fixed].any()
    statistic = count * deviation_E @ np.linalg.pinv(covariance, hermitian=True) @ deviation_E
    # Hotelling's correction: the covariance itself was estimated from as many sequences
    return stats.f.sf(statistic * (count - rank) / (rank * (count - 1)), rank, count - rank)


@pytest.mark.parametrize("reuse_share", [0.0, 0.5])
@pytest.mark.parametrize(("alpha", "k"), [(0.0, 1), (0.7, 4), (1.2, 3)])
def test_the_load_is_what_is_stated(rng, alpha, k, reuse_share):
    sizes = {"layers": 2, "experts": 12, "sequences": SEQUENCES, "prompt": (2, 2), "decode": (3, 3), "scores": False}
    made = synthetic_trace(SyntheticSpec(alpha=alpha, k=k, reuse=reuse_share, **sizes), rng)
    np.testing.assert_allclose(made.load_LE.sum(1), made.trace.T * k)
    for layer in range(2):
        load_SE, expected_E = sequence_loads(made.trace, layer), made.load_LE[layer] / SEQUENCES
        assert chi_square(load_SE, expected_E) > 1e-4
        wrong_E = expected_E.copy()  # sharp: a quarter of a mean load moved from one expert to another is noticed
        middle = np.argsort(expected_E)[[3, 8]]
        wrong_E[middle] += np.array([1, -1]) * expected_E.mean() / 4
        assert chi_square(load_SE, wrong_E) < 1e-4


def test_with_one_slot_pearsons_test_needs_no_covariance(rng):
    spec = SyntheticSpec(layers=3, experts=16, k=1, alpha=1.0, reuse=0, sequences=200, prompt=(50, 50), scores=False)
    made = synthetic_trace(spec, rng)
    for observed_E, expected_E in zip(load_LE(made.trace), made.load_LE, strict=True):
        assert stats.chisquare(observed_E, expected_E).pvalue > 1e-4
        assert stats.chisquare(observed_E, np.roll(np.sort(expected_E), 1)).pvalue < 1e-9


def test_at_any_smaller_k_the_load_is_that_share(rng):
    made = synthetic_trace(SyntheticSpec(layers=1, k=4, alpha=1, sequences=3000, prompt=(1, 1), decode=(2, 2)), rng)
    part = made.trace.at_k(2)
    assert chi_square(sequence_loads(part, 0), made.load_LE[0] / 2 / 3000) > 1e-4


@pytest.mark.parametrize("reuse_share", [0.0, 0.3, 1.0])
def test_the_reuse_is_what_is_stated(rng, reuse_share):
    sizes = {"layers": 3, "sequences": 400, "prompt": (5, 30), "decode": (0, 10), "batch": 7}
    made = synthetic_trace(SyntheticSpec(alpha=0.8, reuse=reuse_share, **sizes), rng)
    found = reuse(made.trace)
    # Shares lie within 0..1 and tokens are at most linked through runs of 1 / (1 - reuse): a generous standard error
    half_width = 4 * 0.5 / np.sqrt(found.pairs_L[0] * (1 - reuse_share) + 1)
    if reuse_share == 1:
        assert found.share_L.tolist() == [1, 1, 1]
    else:
        assert np.abs(found.share_L - made.reuse_L).max() < half_width < 0.05


@given(alpha=st.floats(0, 5), experts=st.integers(1, 40), data=st.data())
def test_inclusion_probabilities(alpha, experts, data):
    k = data.draw(st.integers(1, experts))
    share_E = inclusion(alpha, experts, k)
    assert len(share_E) == experts
    assert share_E.sum() == pytest.approx(k)
    assert (np.diff(share_E) <= 1e-12).all()
    assert 0 < share_E.min() <= share_E.max() <= 1
    free_E = share_E[share_E < 1]
    ranks = np.arange(experts - len(free_E), experts) + 1
    np.testing.assert_allclose(
        free_E * ranks**alpha, np.broadcast_to(free_E[:1] * ranks[:1] ** alpha, free_E.shape)
    )  # Zipf's law where it is free


def test_inclusion_by_hand():
    np.testing.assert_allclose(inclusion(1, 4, 1), np.array([12, 6, 4, 3]) / 25)
    np.testing.assert_allclose(inclusion(1, 4, 2), [24 / 25, 12 / 25, 8 / 25, 6 / 25])
    np.testing.assert_allclose(inclusion(1, 4, 3), [1, 12 / 13, 8 / 13, 6 / 13])  # 36/25 is capped, 2 are left to share
    np.testing.assert_allclose(inclusion(9, 3, 3), [1, 1, 1])


def test_batches_are_prefilled_together_and_decoded_in_turn(rng):
    spec = SyntheticSpec(layers=1, sequences=3, prompt=(2, 2), decode=(1, 1), batch=2)
    trace = synthetic_trace(spec, rng).trace
    assert trace.sequence_T.tolist() == [0, 0, 1, 1, 0, 1, 2, 2, 2]
    assert trace.position_T.tolist() == [0, 1, 0, 1, 2, 2, 0, 1, 2]
    assert trace.step_T.tolist() == [0, 0, 0, 0, 1, 1, 2, 2, 3]
    assert trace.phase_T.tolist() == [0, 0, 0, 0, 1, 1, 0, 0, 1]
    assert trace.prompt_len_S.tolist() == [2, 2, 2]


def test_a_batch_lasts_as_long_as_its_longest_sequence(rng):
    trace = synthetic_trace(SyntheticSpec(layers=1, sequences=40, prompt=(1, 9), decode=(0, 9), batch=4), rng).trace
    for first in range(0, 40, 4):
        mine = (trace.sequence_T >= first) & (trace.sequence_T < first + 4)
        steps = np.unique(trace.step_T[mine])
        assert steps.tolist() == list(range(steps[0], steps[-1] + 1))
        assert set(trace.sequence_T[trace.step_T == steps[0]]) == set(range(first, first + 4))
        assert (trace.step_T[~mine] != steps[:, None]).all()


def test_equal_seeds_give_equal_traces(tmp_path):
    spec = SyntheticSpec(sequences=5, prompt=(1, 9))
    first, again, other = (synthetic_trace(spec, np.random.default_rng(seed)).trace for seed in (1, 1, 2))
    assert first.digest == again.digest != other.digest
    save_trace(first, tmp_path / "x")
    assert load_trace(tmp_path / "x").header.notes["synthetic"]["prompt"] == [1, 9]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"k": 17}, "k is 17, allowed 1..16, the experts"),
        ({"layers": 0}, "layers is 0, allowed 1..32,766"),
        ({"alpha": -1}, "alpha is -1, allowed >= 0"),
        ({"alpha": float("nan")}, "alpha is nan, allowed >= 0"),
        ({"reuse": 1.5}, "reuse is 1.5, allowed 0..1"),
        ({"prompt": (3, 2)}, "prompt is 3..2, allowed 1 <= low <= high <= 2,147,483,647"),
        ({"prompt": (0, 2)}, "prompt is 0..2, allowed 1 <= low <= high <= 2,147,483,647"),
    ],
)
def test_what_cannot_be_drawn_is_refused(wrong, message):
    with pytest.raises(InputError) as error:
        SyntheticSpec(**wrong)
    assert str(error.value) == message
