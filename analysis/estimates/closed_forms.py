"""Closed forms for per-expert queues of size B: what theory says before anything is simulated.

Rates are arrivals per unit of time at one queue, services are in the same unit, and so is every result. Tokens
arrive as a Poisson process of rate `rate`; a uniform top-K choice out of E experts thins tokens of rate R to
R K / E at each expert. Sources are named per function; the values that the tests hold them to were computed
independently, by simulation.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import linalg, special

from moe_replay.traces.errors import InputError


def fill_wait(batch: int, rate: float) -> float:
    """Return the mean time a member waits until its batch of B is full: (B - 1) / (2 rate)."""
    return (batch - 1) / (2 * rate)


def fill_wait_variance(batch: int, rate: float) -> float:
    """Return the variance of the fill wait: (B - 1)(B + 7) / (12 rate^2), over all places in the batch."""
    return (batch - 1) * (batch + 7) / (12 * rate**2)


def fill_wait_cdf(times: np.ndarray, batch: int, rate: float) -> np.ndarray:
    """Return P(fill wait <= t): a member finds 0..B-1 others missing, each equally likely.

    With n missing the wait is Erlang(n, rate), so the mean over n is (1 + E[min(N, B - 1)]) / B for N Poisson
    with mean `rate * t`. At t = 0 it is 1 / B: the member that fills the batch does not wait.
    """
    expected, most = np.asarray(times, dtype=float) * rate, batch - 1
    if most == 0:
        return np.ones_like(expected)
    below = special.pdtr(most - 2, expected) if most >= 2 else 0.0
    return (1 + expected * below + most * special.pdtrc(most - 1, expected)) / batch


def bulk_service_wait(
    rate: float, batch: int, mean: float, second_moment: float, log_transform: Callable[[np.ndarray], np.ndarray]
) -> float:
    """Return the mean wait of a *full batch* for the one server, M/G^[B]/1, in the unit of `mean`.

    `log_transform(s)` is the logarithm of the service time's Laplace transform S*(s), continuous for Re s > 0.
    With z_k the B - 1 roots of z^B = S*(rate (1 - z)) inside the unit disc (Bailey 1954; Downton 1955),
    W = [sum 1 / (1 - z_k) - (B (B - 1) - rate^2 E[S^2]) / (2 (B - rate E[S]))] / rate.
    A member's sojourn is `fill_wait + W + mean`. Raises InputError where rate * mean >= batch (unstable).
    """
    check_stable(rate, batch, mean)
    roots = unit_disc_roots(rate, batch, log_transform)
    slack = (batch * (batch - 1) - rate**2 * second_moment) / (2 * (batch - rate * mean))
    return float((np.sum(1 / (1 - roots)).real - slack) / rate)


def check_stable(rate: float, batch: int, mean: float) -> None:
    """Refuse a queue whose batches arrive at least as fast as they are served."""
    if not rate * mean < batch:
        raise InputError(f"unstable queue: load {rate * mean / batch:.4g}; allowed: rate * mean < batch")


def unit_disc_roots(rate: float, batch: int, log_transform: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Return the B - 1 complex roots of z^B = S*(rate (1 - z)) inside the unit disc, by fixed-point iteration.

    z <- exp(2 pi i k / B) S*(rate (1 - z))^(1/B) contracts with factor rate E[S] / B < 1.
    """
    turns = np.exp(2j * np.pi * np.arange(1, batch) / batch)
    roots = np.zeros(batch - 1, dtype=complex)
    for _ in range(100_000):
        before, roots = roots, turns * np.exp(log_transform(rate * (1 - roots)) / batch)
        if np.all(np.abs(roots - before) < 1e-14):
            break
    return roots


def bulk_wait_deterministic(rate: float, batch: int, service: float) -> float:
    """Return the mean wait of a full batch in M/D^[B]/1: every batch takes `service`."""
    return bulk_service_wait(rate, batch, service, service**2, lambda s: -s * service)


def bulk_wait_exponential(rate: float, batch: int, mean: float) -> float:
    """Return the mean wait of a full batch in M/M^[B]/1: W = sigma / (mu (1 - sigma)), mu = 1 / mean.

    Batches arrive with Erlang(B) gaps, so this is GI/M/1 (Kleinrock 1975, chapter 6), without roots: sigma is the
    solution below one of sigma = (rate / (rate + mu (1 - sigma)))^B.
    """
    check_stable(rate, batch, mean)
    mu, sigma = 1 / mean, 0.0
    for _ in range(1_000_000):
        before, sigma = sigma, (rate / (rate + mu * (1 - sigma))) ** batch
        if abs(sigma - before) < 1e-15:
            break
    return sigma / (mu * (1 - sigma))


def pollaczek_khinchine(rate: float, mean: float, second_moment: float) -> float:
    """Return the mean wait in M/G/1, which is every queue here with B = 1: rate E[S^2] / (2 (1 - rate E[S]))."""
    check_stable(rate, 1, mean)
    return rate * second_moment / (2 * (1 - rate * mean))


@dataclass(frozen=True)
class TimeoutQueue:
    """What a queue with a time-out does on average, without contention for the server."""

    batch: float  # members per batch
    hold: float  # from the first member to the release
    wait: float  # of a member until the release


def timeout_queue(rate: float, batch: int, timeout: float) -> TimeoutQueue:
    """Return means of a queue that releases at B members or `timeout` after the first, the server being free.

    With Q_m = P(Poisson(rate * timeout) >= m) and m = 1..B-1: E[N] = 1 + sum Q_m, E[hold] = sum Q_m / rate,
    E[wait] = sum m Q_m / (rate E[N]). A time-out that never comes gives `fill_wait`.
    """
    places = np.arange(1, batch)
    reached = special.pdtrc(places - 1, rate * timeout)
    members = 1 + float(reached.sum())
    return TimeoutQueue(members, float(reached.sum()) / rate, float((places * reached).sum()) / (rate * members))


@dataclass(frozen=True)
class DrainQueue:
    """What a queue that starts whenever someone waits does on average."""

    wait: float  # of a member, for the start of its batch
    batch: float  # members per batch
    utilisation: float


def drain_queue(rate: float, batch: int, service: float) -> DrainQueue:
    """Return means of the queue that starts as soon as it is free and holds >= 1, taking at most B; D constant.

    Embedded chain at the ends of services (Neuts 1967 with a = 1): q' = max(q - B, 0) + Poisson(rate D). The mean
    wait is the area under the number waiting, per cycle, over the rate (Little). An empty queue idles 1 / rate.
    """
    check_stable(rate, batch, service)
    share = drain_chain(rate * service, batch)
    left_over = np.maximum(np.arange(len(share)) - batch, 0)
    area = service * float(share @ left_over) + rate * service**2 / 2
    cycle = service + float(share[0]) / rate
    return DrainQueue(area / cycle / rate, rate * cycle, service / cycle)


def drain_chain(arrivals: float, batch: int) -> np.ndarray:
    """Return the stationary shares of q' = max(q - B, 0) + Poisson(arrivals), cut where less than 1e-13 is lost."""
    states = 8 * batch + int(8 * arrivals) + 32
    while True:
        after_service = np.maximum(np.arange(states) - batch, 0)
        gained = np.arange(states)[None, :] - after_service[:, None]
        step = np.where(gained >= 0, poisson_share(np.maximum(gained, 0), arrivals), 0.0)
        step[:, -1] += 1 - step.sum(axis=1)  # what would leave the table stays in its last state
        balance = np.vstack([(step.T - np.eye(states))[:-1], np.ones(states)])
        share = linalg.solve(balance, np.eye(states)[-1])
        if share[-1] < 1e-13:
            return share
        states *= 2


def poisson_share(count: np.ndarray, mean: float) -> np.ndarray:
    """Return P(Poisson(mean) = count)."""
    return np.exp(special.xlogy(count, mean) - mean - special.gammaln(count + 1))


def affine_smallest_batch(rate: float, fixed: float, per_member: float) -> float:
    """Return the bound that B must exceed for service `fixed + per_member * B` to be stable: rate a / (1 - rate b).

    Infinite where the rate reaches the ceiling 1 / per_member, which no queue size lifts.
    """
    spare = 1 - rate * per_member
    return rate * fixed / spare if spare > 0 else float("inf")


def affine_capacity(batch: int, fixed: float, per_member: float) -> float:
    """Return members served per unit of time when every batch holds B: B / (fixed + per_member B) < 1 / per_member."""
    return batch / (fixed + per_member * batch)


def expected_active_experts(tokens: int, probability_E: np.ndarray) -> float:
    """Return how many experts T tokens activate: sum of 1 - (1 - p_e)^T, p_e the chance that a token uses expert e."""
    return float(np.sum(1 - (1 - np.asarray(probability_E, dtype=float)) ** tokens))


def drop_share_top_one(tokens: int, experts: int, capacity: int) -> float:
    """Return the share of T tokens that uniform top-1 routing drops: E * E[max(Binomial(T, 1/E) - capacity, 0)] / T."""
    count = np.arange(capacity + 1, tokens + 1)
    log_share = (
        special.gammaln(tokens + 1) - special.gammaln(count + 1) - special.gammaln(tokens - count + 1)
        + special.xlogy(count, 1 / experts) + special.xlog1py(tokens - count, -1 / experts)
    )  # fmt: skip
    return float(experts * np.sum((count - capacity) * np.exp(log_share)) / tokens)
