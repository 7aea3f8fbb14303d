"""The closed forms give the values that were computed for them independently, and agree where they must meet."""

import numpy as np
import pytest

from moe_replay.analysis.estimates import closed_forms as cf
from moe_replay.traces.errors import InputError


@pytest.mark.parametrize(
    ("rate", "batch", "service", "wait"),
    [(1, 4, 2, 0.09930), (1, 8, 6, 0.58116), (2, 16, 7, 0.93861), (1, 2, 1.8, 3.86446), (0.5, 32, 40, 0.02154)],
)
def test_bulk_service_with_constant_service(rate, batch, service, wait):
    assert cf.bulk_wait_deterministic(rate, batch, service) == pytest.approx(wait, abs=6e-6)


@pytest.mark.parametrize(("rate", "batch", "mean", "wait"), [(1, 4, 2, 0.86505), (1, 8, 6, 8.54244)])
def test_bulk_service_with_exponential_service(rate, batch, mean, wait):
    assert cf.bulk_wait_exponential(rate, batch, mean) == pytest.approx(wait, abs=6e-6)
    by_roots = cf.bulk_service_wait(rate, batch, mean, 2 * mean**2, lambda s: -np.log(1 + s * mean))
    assert by_roots == pytest.approx(cf.bulk_wait_exponential(rate, batch, mean), rel=1e-9)


@pytest.mark.parametrize(
    ("rate", "batch", "service", "sojourn_before_service"), [(1, 4, 2, 1.5993), (1, 8, 6, 4.0812), (2, 16, 7, 4.6886)]
)
def test_fill_and_queue_wait_add_up(rate, batch, service, sojourn_before_service):
    total = cf.fill_wait(batch, rate) + cf.bulk_wait_deterministic(rate, batch, service)
    assert total == pytest.approx(sojourn_before_service, abs=6e-5)


@pytest.mark.parametrize(
    ("rate", "batch", "timeout", "members", "wait"), [(1, 4, 2, 2.78198, 1.0865), (2, 8, 1.5, 3.98281, 0.92337)]
)
def test_timeout_queue(rate, batch, timeout, members, wait):
    found = cf.timeout_queue(rate, batch, timeout)
    assert found.batch == pytest.approx(members, abs=6e-6)
    assert found.wait == pytest.approx(wait, abs=6e-5)
    assert found.hold == pytest.approx((members - 1) / rate, abs=6e-6)


def test_timeout_that_never_comes_is_the_fill_wait():
    assert cf.timeout_queue(0.7, 9, 1e6).wait == pytest.approx(cf.fill_wait(9, 0.7))


@pytest.mark.parametrize(
    ("rate", "batch", "service", "wait"), [(1, 4, 2, 1.03392), (1, 8, 6, 3.58001), (2, 16, 7, 4.43861)]
)
def test_drain_queue(rate, batch, service, wait):
    assert cf.drain_queue(rate, batch, service).wait == pytest.approx(wait, abs=6e-6)


def test_drain_queue_runs_more_and_smaller_batches():
    found = cf.drain_queue(1, 4, 2)
    assert found.batch == pytest.approx(2.12648, abs=6e-6)
    assert found.utilisation == pytest.approx(0.941, abs=6e-4)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_a_batch_of_one_is_the_classic_queue(rate):
    classic = cf.pollaczek_khinchine(rate, 1.0, 1.0)
    assert cf.bulk_wait_deterministic(rate, 1, 1.0) == pytest.approx(classic)
    assert cf.drain_queue(rate, 1, 1.0).wait == pytest.approx(classic, rel=1e-6)
    assert cf.bulk_wait_exponential(rate, 1, 1.0) == pytest.approx(cf.pollaczek_khinchine(rate, 1.0, 2.0))


@pytest.mark.parametrize("batch", [1, 2, 3, 16, 128])
def test_fill_wait_distribution_has_the_stated_moments(batch):
    rate = 1.7
    times = np.linspace(0, (batch + 12 * np.sqrt(batch) + 20) / rate, 60_001)
    beyond = 1 - cf.fill_wait_cdf(times, batch, rate)
    assert beyond[0] == pytest.approx(1 - 1 / batch)
    assert np.trapezoid(beyond, times) == pytest.approx(cf.fill_wait(batch, rate), rel=1e-5)
    variance = np.trapezoid(2 * times * beyond, times) - cf.fill_wait(batch, rate) ** 2
    assert variance == pytest.approx(cf.fill_wait_variance(batch, rate), rel=1e-4)


def test_affine_service():
    bound = cf.affine_smallest_batch(rate=5.0, fixed=1.0, per_member=0.1)
    assert bound == pytest.approx(10.0)
    assert cf.affine_capacity(11, 1.0, 0.1) > 5.0
    assert cf.affine_capacity(10, 1.0, 0.1) == pytest.approx(5.0)
    assert cf.affine_smallest_batch(10.0, 1.0, 0.1) == float("inf")
    assert cf.affine_capacity(10**9, 1.0, 0.1) == pytest.approx(10.0)


def test_expected_active_experts():
    assert cf.expected_active_experts(7, np.full(16, 4 / 16)) == pytest.approx(16 * (1 - (1 - 4 / 16) ** 7))
    assert cf.expected_active_experts(1, np.array([0.5, 0.25, 0.25])) == pytest.approx(1)


@pytest.mark.parametrize(("factor", "share"), [(1, 0.06811), (1.25, 0.00632), (1.5, 0.00017)])
def test_uniform_top_one_drop_share(factor, share):
    assert cf.drop_share_top_one(512, 16, int(512 / 16 * factor)) == pytest.approx(share, abs=6e-6)


@pytest.mark.parametrize("formula", [cf.bulk_wait_deterministic, cf.bulk_wait_exponential])
def test_unstable_queues_are_refused(formula):
    with pytest.raises(InputError, match="unstable"):
        formula(2, 4, 2.0)
    with pytest.raises(InputError, match="unstable"):
        cf.drain_queue(2, 4, 2.0)
