"""What theory says about a whole model of queues of size B: its capacity, and its latency without contention.

Capacity is exact for one device whose batches are all full. Latency assumes that (1) a free device is always there,
so that a batch starts when it is full; (2) arrivals at *every* stage are Poisson and independent, although a
finished batch really hands on its members together; (3) the K branches of a token wait independently. So it is the
part of the latency that filling batches causes; contention comes on top, and bunched arrivals take a little off. It is
labelled `theory (no contention)` and is not a bound.
"""

from dataclasses import dataclass

import numpy as np

from moe_replay.analysis.estimates.closed_forms import fill_wait, fill_wait_cdf
from moe_replay.traces.runs.cost_table import CostTable

TIME_POINTS = 200  # of a stage's distribution, geometrically spaced
GRID_POINTS = 8192  # of the sum over stages, evenly spaced over 20 means: Markov leaves less than 5 % beyond
GRID_MEANS = 20


@dataclass(frozen=True)
class Routing:
    """Which sets of experts the tokens of a trace choose, per layer.

    `member_CE` (one matrix per layer) is 1 where a choice C contains expert e, `share_C` how often it is made.
    """

    member_LCE: list[np.ndarray]
    share_LC: list[np.ndarray]

    @property
    def k(self) -> float:
        """Mean selections per token and layer."""
        return float(np.mean([share @ member.sum(axis=1) for share, member in self.layers()]))

    def layers(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return (share_C, member_CE) of every layer."""
        return list(zip(self.share_LC, self.member_LCE, strict=True))


def routing_of(experts_TLK: np.ndarray, experts: int) -> Routing:
    """Return the distinct choices of each layer with their shares; at most C(E, K) rows, whatever T is."""
    members, shares = [], []
    for layer in range(experts_TLK.shape[1]):
        # Sorted, since in which order a token ranked its experts does not matter here.
        choice_CK, counts = np.unique(np.sort(experts_TLK[:, layer], axis=1), axis=0, return_counts=True)
        members.append((choice_CK[:, :, None] == np.arange(experts)).any(axis=1).astype(float))
        shares.append(counts / counts.sum())
    return Routing(members, shares)


@dataclass(frozen=True)
class Stage:
    """Time spent in one stage by a token: P(wait <= t) at `times_s`, its mean, and the service that follows."""

    times_s: np.ndarray
    cdf: np.ndarray
    mean_wait_s: float
    service_s: float


def dense_stage(rate_per_s: float, batch: int, service_s: float) -> Stage:
    """Return the dense stage of a layer, which every token passes: mean wait (B - 1) / (2 rate)."""
    times_s = stage_times(batch, rate_per_s, rate_per_s)
    return Stage(times_s, fill_wait_cdf(times_s, batch, rate_per_s), fill_wait(batch, rate_per_s), service_s)


def expert_stage(rate_per_s: float, batch: int, service_s: float, share_C: np.ndarray, member_CE: np.ndarray) -> Stage:
    """Return the expert stage of a layer: the longest of the token's K waits, each at its own expert's rate.

    P(max <= t) is the product of the branches' distributions, averaged over the choices the tokens make; the mean
    is the integral of 1 - P(max <= t).
    """
    rate_E = rate_per_s * (share_C @ member_CE)
    used_rates = rate_E[rate_E > 0]
    times_s = stage_times(batch, used_rates.min(), used_rates.max())
    log_cdf_EX = np.array([np.log(fill_wait_cdf(times_s, batch, rate)) for rate in rate_E])
    cdf = share_C @ np.exp(member_CE @ log_cdf_EX)
    return Stage(times_s, cdf, float(np.trapezoid(1 - cdf, times_s)), service_s)


def stage_times(batch: int, slowest_per_s: float, fastest_per_s: float) -> np.ndarray:
    """Return times in seconds that cover the fill waits of queues with rates in this range."""
    longest_s = (batch + 10 * np.sqrt(batch) + 20) / slowest_per_s
    return np.concatenate([[0.0], np.geomspace(1e-3 / fastest_per_s, longest_s, TIME_POINTS)])


def stages(costs: CostTable, routing: Routing, rate_per_s: float, batch: int) -> list[Stage]:
    """Return every stage a token passes, dense and expert, at a rate of passes of one token per second."""
    expert_s, layers = costs.service_ns(0, 1, batch) / 1e9, list(routing.layers())
    dense_s = [costs.service_ns(layer, 0, batch) / 1e9 for layer in costs.dense_of(len(layers))]
    found = [dense_stage(rate_per_s, batch, service_s) for service_s in dense_s]
    return found + [expert_stage(rate_per_s, batch, expert_s, *layer) for layer in layers]


def sum_quantiles(parts: list[Stage], shares: tuple[float, ...]) -> list[float]:
    """Return quantiles in seconds of the sum of independent stages, services included, by convolution."""
    mean_s = sum(part.mean_wait_s for part in parts)
    service_s = sum(part.service_s for part in parts)
    if mean_s == 0:
        return [service_s] * len(shares)
    grid_s = np.linspace(0, GRID_MEANS * mean_s, GRID_POINTS)
    density = np.zeros(GRID_POINTS)
    density[0] = 1.0
    for part in parts:
        # Half a step back, so that the mass of a cell sits at its middle and the sum of many stages keeps its mean.
        cdf = np.interp(grid_s + (grid_s[1] - grid_s[0]) / 2, part.times_s, part.cdf)
        mass = np.diff(cdf, prepend=0.0)
        density = np.fft.irfft(np.fft.rfft(density, 2 * GRID_POINTS) * np.fft.rfft(mass, 2 * GRID_POINTS))[:GRID_POINTS]
    below = np.cumsum(density)
    return [float(np.interp(share, below, grid_s)) + service_s for share in shares]


def latency_without_contention_ms(
    costs: CostTable, routing: Routing, rate_per_s: float, batch: int
) -> dict[str, float]:
    """Return mean, p50 and p95 latency in milliseconds of a pass of one token, under the assumptions above."""
    parts = stages(costs, routing, rate_per_s, batch)
    mean_s = sum(part.mean_wait_s + part.service_s for part in parts)
    p50_s, p95_s = sum_quantiles(parts, (0.50, 0.95))
    return {"latency_mean_ms": mean_s * 1e3, "latency_p50_ms": p50_s * 1e3, "latency_p95_ms": p95_s * 1e3}


def theory_row(costs: CostTable, routing: Routing, description: dict) -> dict:
    """Return the theoretical throughput and latency for one configuration (columns of `describe_config`).

    Closed loop: throughput is the capacity at full batches, and the mean latency N / capacity (Little's law). Poisson:
    throughput is the rate, or the point is unstable where the rate reaches the capacity.
    """
    batch = int(description["queue_size"])
    capacity_per_s = costs.capacity_per_s(routing.k, len(routing.share_LC), batch)
    row = {"capacity_per_s": capacity_per_s, "fill_expert": 1.0, "fill_dense": 1.0, "status": "ok", "reason": ""}
    if description["arrivals"] == "closed":
        mean_ms = description["in_flight"] / capacity_per_s * 1e3
        return row | {"throughput_per_s": capacity_per_s, "latency_mean_ms": mean_ms}
    rate_per_s = description["rate_per_s"]
    row |= {"offered_per_s": rate_per_s, "offered_load": rate_per_s / capacity_per_s}
    if rate_per_s >= capacity_per_s:
        reason = f"arrivals are {rate_per_s / capacity_per_s:.2f} of the capacity at full batches"
        return row | {"throughput_per_s": capacity_per_s, "status": "unstable", "reason": reason}
    return row | {"throughput_per_s": rate_per_s} | latency_without_contention_ms(costs, routing, rate_per_s, batch)
