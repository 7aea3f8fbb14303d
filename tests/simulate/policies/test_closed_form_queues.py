"""The engine meets the closed forms of queues of size B, within what its replications leave open.

One layer, one expert, one selection per token, Poisson arrivals. The unit of time is 1 ms of simulated time. Where
values are in the tests they are those of the published forms, computed independently of
`analysis.estimates.closed_forms`.
"""

import numpy as np
import pytest
from scipy import stats
from worlds import config, records, world

from moe_replay.analysis.estimates import closed_forms as cf

UNIT_NS = 1_000_000
REPLICATIONS = 16
WARM_UP = 0.1  # share of the run that is cut at the start


def constant(duration):
    """Return a maker of costs: every batch takes `duration` units."""
    return lambda rng: lambda layer, block, tokens: round(duration * UNIT_NS)


def exponential(mean):
    """Return a maker of costs: every batch takes an exponential time, drawn from the replication's generator."""
    return lambda rng: lambda layer, block, tokens: round(rng.standard_exponential() * mean * UNIT_NS)


class Measured:
    """One run in units of time: per token and per batch, without warm-up and without the rest that was forced.

    `fill` is a token's wait until its batch was full, `wait` until it started, `sojourn` until it ended; `batch_wait`
    is the wait of full batches for the device, `size` their members. Queues are first in, first out, so that the
    tokens of a batch are the next ones in order of arrival.
    """

    def __init__(self, run):
        size, arrival = run.batches["size"], run.passes["arrival_ns"] / UNIT_NS
        start, end = run.batches["start_ns"] / UNIT_NS, run.batches["end_ns"] / UNIT_NS
        full = arrival[np.cumsum(size) - 1]
        cut = slice(int(WARM_UP * len(size)), len(size) - int(run.batches["forced"].sum()))
        tokens = slice(int(size[: cut.start].sum()), int(size[: cut.stop].sum()))
        self.size, self.batch_wait = size[cut], (start - full)[cut]
        self.fill, self.wait, self.sojourn = (
            (np.repeat(moment, size) - arrival)[tokens] for moment in (full, start, end)
        )
        self.arrival, self.start = arrival, np.repeat(start, size)


def replicate(measures, rate, batch, make_cost, tokens, timeout=None):
    """Return an array of the replications' values for every measure, a function of `Measured`."""
    workload = world([[[0]]] * tokens, E=1)
    values = []
    for seed in range(REPLICATIONS):
        settings = config(
            queue_size=batch, arrivals="poisson", rate_per_s=rate * 1e9 / UNIT_NS, seed=seed,
            timeout_ns=None if timeout is None else round(timeout * UNIT_NS),
        )  # fmt: skip
        run = Measured(records(workload, settings, make_cost(settings.generator("service"))))
        values.append([measure(run) for measure in measures])
    return np.array(values).T


def assert_meets(values, expected):
    half_width = stats.t.ppf(0.9995, len(values) - 1) * stats.sem(values)
    assert abs(values.mean() - expected) < half_width
    assert half_width < 0.15 * expected  # wide intervals prove nothing


def mean_of(name):
    return lambda run: getattr(run, name).mean()


@pytest.mark.parametrize(
    ("rate", "batch", "service", "expected", "tokens"),
    [(1, 4, 2, 0.09930, 5_000), (1, 8, 6, 0.58116, 18_000), (1, 2, 1.8, 3.86446, 32_000)],
)
def test_full_batches_with_constant_service(rate, batch, service, expected, tokens):
    assert cf.bulk_wait_deterministic(rate, batch, service) == pytest.approx(expected, abs=1e-5)
    measures = [mean_of("batch_wait"), mean_of("sojourn")]
    waits, sojourns = replicate(measures, rate, batch, constant(service), tokens)
    assert_meets(waits, expected)
    assert_meets(sojourns, cf.fill_wait(batch, rate) + expected + service)


@pytest.mark.parametrize(
    ("rate", "batch", "mean", "expected", "tokens"), [(1, 4, 2, 0.86505, 14_000), (1, 8, 6, 8.54244, 42_000)]
)
def test_full_batches_with_exponential_service(rate, batch, mean, expected, tokens):
    assert cf.bulk_wait_exponential(rate, batch, mean) == pytest.approx(expected, abs=1e-5)
    (waits,) = replicate([mean_of("batch_wait")], rate, batch, exponential(mean), tokens)
    assert_meets(waits, expected)


def test_the_wait_until_a_batch_is_full_has_its_mean_and_its_variance_and_is_nothing_for_one_in_b():
    rate, batch = 2, 5
    measures = [mean_of("fill"), lambda run: run.fill.var(), lambda run: (run.fill == 0).mean()]
    means, variances, nothing = replicate(measures, rate, batch, constant(0.1), 1_500)
    assert_meets(means, cf.fill_wait(batch, rate))
    assert_meets(variances, cf.fill_wait_variance(batch, rate))
    assert nothing == pytest.approx(1 / batch)


@pytest.mark.parametrize(
    ("make_cost", "second_moment"), [(constant(0.7), 0.49), (exponential(0.7), 0.98)], ids=["constant", "exponential"]
)
def test_queues_of_one_are_pollaczek_khinchine(make_cost, second_moment):
    (waits,) = replicate([mean_of("wait")], 1, 1, make_cost, 4_000)
    assert_meets(waits, cf.pollaczek_khinchine(1, 0.7, second_moment))


@pytest.mark.parametrize(("rate", "batch", "timeout", "size", "wait"), [
    (1, 4, 2, 2.78198, 1.0865), (2, 8, 1.5, 3.98281, 0.92337),
])  # fmt: skip
def test_time_outs_without_contention(rate, batch, timeout, size, wait):
    theory = cf.timeout_queue(rate, batch, timeout)
    assert (theory.batch, theory.wait) == (pytest.approx(size, abs=1e-5), pytest.approx(wait, abs=1e-4))
    sizes, waits = replicate([mean_of("size"), mean_of("wait")], rate, batch, constant(0), 1_500, timeout)
    assert_meets(sizes, size)
    assert_meets(waits, wait)


@pytest.mark.parametrize(("rate", "batch", "service", "wait", "size"), [
    (1, 4, 2, 1.03392, 2.12648), (1, 8, 6, 3.58001, None), (2, 16, 7, 4.43861, None),
])  # fmt: skip
def test_time_out_zero_is_the_drain_rule(rate, batch, service, wait, size):
    theory = cf.drain_queue(rate, batch, service)
    assert theory.wait == pytest.approx(wait, abs=1e-4)
    assert size is None or theory.batch == pytest.approx(size, abs=1e-4)
    sizes, waits = replicate([mean_of("size"), mean_of("wait")], rate, batch, constant(service), 3_000, timeout=0)
    assert_meets(sizes, theory.batch)
    assert_meets(waits, wait)


def test_littles_law_holds_for_the_queue_as_sampled_at_moments_that_know_nothing_of_it():
    rate, tokens = 1, 3_000

    def sampled_over_expected(run):
        moments = np.arange(run.arrival[tokens // 10], run.arrival[-tokens // 20], 1.0)
        waiting = np.searchsorted(run.arrival, moments, "right") - np.searchsorted(run.start, moments, "right")
        return waiting.mean() / (rate * run.wait.mean())

    (ratios,) = replicate([sampled_over_expected], rate, 4, constant(2), tokens)
    assert_meets(ratios, 1)


def test_the_area_under_the_number_in_the_system_is_the_sum_of_all_sojourns():
    workload = world([[[0], [0]]] * 3_000, E=1)
    settings = config(queue_size=3, arrivals="poisson", rate_per_s=200, seed=0)
    run = records(workload, settings, lambda layer, block, tokens: UNIT_NS)
    arrival, end = run.passes["arrival_ns"], run.passes["end_ns"]
    moments = np.sort(np.concatenate([arrival, end]))
    present = np.searchsorted(np.sort(arrival), moments, "right") - np.searchsorted(np.sort(end), moments, "right")
    assert present[-1] == 0
    assert (present[:-1] * np.diff(moments)).sum() == (end - arrival).sum()
