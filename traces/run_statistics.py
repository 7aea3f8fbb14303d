"""Statistics of one run, from its records: throughput, latency, fill, forced share, utilisation, waiting.

An executed run and a simulated one go through the same functions; nothing here knows which it is.
"""

from dataclasses import dataclass, field

import numpy as np

from traces.run_records import RunRecords
from traces.run_window import Window, measured_window, whole_run
from traces.throughput import throughput_parts, throughput_per_s

PARTS = 10  # batch means inside one run
LEAST_PER_PART = 5  # passes; below this a run is too short for batch means
SETTLED = 0.1  # how far Little's check may be off before the row says so
FAR_OFF = 0.25  # and before the run gives no latency
FULL = 0.99  # a machine busy for this share of the time is taken as saturated
INTERVAL_METRICS = ("throughput_per_s", "latency_mean_ms", "latency_p50_ms", "latency_p95_ms", "latency_p99_ms")


@dataclass(frozen=True)
class RunStatistics:
    """What one run amounts to.

    `values` maps metric names (units in the names; shares are fractions) to numbers. `parts` maps the names in
    `INTERVAL_METRICS` to one value per tenth of the window, empty where the run is too short. `status` is `ok`,
    `unstable` (its queues grow for as long as it lasts) or `short` (its window is far from a steady state); the last
    two have no latency. `reason` says why, or remarks on a run that is rather short.
    """

    config: dict
    values: dict[str, float]
    parts: dict[str, np.ndarray] = field(default_factory=dict)
    status: str = "ok"
    reason: str = ""


def run_statistics(records: RunRecords) -> RunStatistics:
    """Return the statistics of a run's measured window; InputError where it has none.

    An unstable run is measured from its first arrival to its last end: the machine is busy all that time, and while
    arrivals last a window may hold few completions or, for waves that move through the layers together, all of them.
    """
    window = measured_window(records)
    values = measured(records, window)
    status, reason = judged(records, values)
    if status == "unstable":
        window = whole_run(records)
        values = measured(records, window) | {"backlog_growth": values["backlog_growth"]}
    parts = batch_means(records.passes, window, values["passes_measured"])
    if status != "ok":
        values |= {name: float("nan") for name in values if name.startswith("latency_")}
        parts = {name: part for name, part in parts.items() if not name.startswith("latency_")}
    return RunStatistics(records.header["config"], values, parts, status, reason)


def measured(records: RunRecords, window: Window) -> dict[str, float]:
    """Return every statistic of one window."""
    return {
        "window_s": window.seconds,
        **pass_statistics(records.passes, window),
        **batch_statistics(records, window),
        **load_statistics(records, window),
    }


def judged(records: RunRecords, values: dict[str, float]) -> tuple[str, str]:
    """Return (status, reason) of a run: whether it has a steady state, and whether its window lies in it."""
    reason = instability(records, values)
    if reason:
        return "unstable", reason
    off = abs(values["little"] - 1)
    remark = f"throughput x latency is {values['little']:.2f} of the passes in flight"
    if not off <= FAR_OFF:
        return "short", f"too short for a latency: {remark}"
    return "ok", f"short run: {remark}" if off > SETTLED else ""


def latency_statistics(latency_ns: np.ndarray) -> dict[str, float]:
    """Return mean and percentiles in milliseconds; NaN without passes."""
    if len(latency_ns) == 0:
        return dict.fromkeys(INTERVAL_METRICS[1:], float("nan"))
    p50, p95, p99 = np.percentile(latency_ns, (50, 95, 99))
    in_ms = np.array([latency_ns.mean(), p50, p95, p99]) / 1e6
    return dict(zip(INTERVAL_METRICS[1:], in_ms.tolist(), strict=True))


def pass_statistics(passes: dict[str, np.ndarray], window: Window) -> dict[str, float]:
    """Return throughput, latency, waiting for the first batch, and Little's check.

    `little` is throughput times mean latency over the mean number in flight: 1 where the window is in a steady state
    and free of selection bias.
    """
    chosen = window.holds(passes[f"{window.by}_ns"])
    rate_per_s = throughput_per_s(passes, window)
    latency = latency_statistics((passes["end_ns"] - passes["arrival_ns"])[chosen])
    in_flight = window.overlap_ns(passes["arrival_ns"], passes["end_ns"]).sum() / 1e9 / window.seconds
    entry_ns = (passes["start_ns"] - passes["arrival_ns"])[chosen]
    return {
        "throughput_per_s": rate_per_s,
        **latency,
        "passes_measured": int(np.count_nonzero(chosen)),
        "drain_share": float(np.mean(passes["end_ns"][chosen] > passes["arrival_ns"].max()))
        if chosen.any()
        else np.nan,
        "entry_wait_ms": float(entry_ns.mean()) / 1e6 if chosen.any() else np.nan,
        "in_flight_mean": float(in_flight),
        "little": rate_per_s * latency["latency_mean_ms"] / 1e3 / in_flight,
    }


def batch_limits(batches: dict[str, np.ndarray], config: dict) -> np.ndarray:
    """Return the most members each batch may hold: B of its kind of block; in lockstep dense ones hold a step.

    Under a scheduler of the user's own it is not known, nan.
    """
    dense = expert = np.nan
    if config["scheduler"] == "lockstep":
        dense = config["max_step"] or np.nan
    elif config["scheduler"] == "queues":
        expert = config["queue_size"]
        dense = config["dense_queue_size"] or expert
    return np.where(batches["block"] == 0, dense, expert).astype(float)


def batch_statistics(records: RunRecords, window: Window) -> dict[str, float]:
    """Return fill, forced share, waiting of ready queues, utilisation and batches per busy queue.

    Batches count that start in the window. Fill is members over B. The forced share is given over batches, and over
    the selections in expert batches. Utilisation is busy time over the window, as the mean over devices and the most.
    """
    batches, config = records.batches, records.header["config"]
    started = window.holds(batches["start_ns"])
    expert = started & (batches["block"] > 0)
    fill = batches["size"] / batch_limits(batches, config)
    size, forced = batches["size"], batches["forced"]
    busy_ns = window.overlap_ns(batches["start_ns"], batches["end_ns"])
    utilisation_D = np.bincount(batches["device"], busy_ns, minlength=config["devices"]) / 1e9 / window.seconds
    wait_ns = (batches["start_ns"] - batches["ready_ns"])[started]
    return {
        "fill_expert": mean_of(fill[expert]),
        "fill_dense": mean_of(fill[started & (batches["block"] == 0)]),
        "forced_batches": mean_of(forced[started]),
        "forced_selections": float(size[expert & forced].sum() / max(size[expert].sum(), 1)),
        "ready_wait_ms": mean_of(wait_ns) / 1e6,
        "utilisation": float(utilisation_D.mean()),
        "utilisation_max": float(utilisation_D.max()),
        "batches_per_busy_queue": batches_per_busy_queue(batches, expert),
    }


def mean_of(values: np.ndarray) -> float:
    """Return the mean, NaN for no values."""
    return float(values.mean()) if len(values) else float("nan")


def batches_per_busy_queue(batches: dict[str, np.ndarray], chosen: np.ndarray) -> float:
    """Return the fewest batches that any busy expert queue ran; a queue is busy if its load is at least the mean."""
    if not chosen.any():
        return float("nan")
    stride = int(batches["block"].max()) + 1
    queue = batches["layer"][chosen].astype(np.int64) * stride + batches["block"][chosen]
    load, ran = np.bincount(queue, batches["size"][chosen]), np.bincount(queue)
    used = ran > 0
    return float(ran[used & (load >= load[used].mean())].min())


def full_batch_capacity_per_s(records: RunRecords) -> float:
    """Return the passes per second that the busiest device can complete when every batch is full.

    The time per member comes from the run's own full, unforced batches, pooled over experts and per dense block;
    the members per pass from the whole run. NaN where some kind of block never ran a full batch.
    """
    batches = records.batches
    kind = np.where(batches["block"] == 0, batches["layer"].astype(np.int64) + 1, 0)
    full = ~batches["forced"] & (batches["size"] == batch_limits(batches, records.header["config"]))
    kinds = int(kind.max()) + 1
    service_ns = np.bincount(kind[full], (batches["end_ns"] - batches["start_ns"])[full], kinds)
    members = np.bincount(kind[full], batches["size"][full], kinds)
    with np.errstate(invalid="ignore", divide="ignore"):
        per_member_ns = service_ns / members
    work_ns_D = np.bincount(batches["device"], batches["size"] * per_member_ns[kind])
    return float(1e9 * len(records.passes["end_ns"]) / work_ns_D.max())


def load_statistics(records: RunRecords, window: Window) -> dict[str, float]:
    """Return capacity, offered rate and load, and how far the number in flight grew over the window.

    `offered_per_s` counts passes (a sequence may be several). `backlog_growth` is arrivals less completions, as a
    share of the arrivals in the window.
    """
    passes, config = records.passes, records.header["config"]
    capacity_per_s = full_batch_capacity_per_s(records)
    sequences = config["sequences"] or len(np.unique(passes["sequence"]))
    offered_per_s = (config["rate_per_s"] or np.nan) * len(passes["end_ns"]) / sequences
    arrived = np.count_nonzero(window.holds(passes["arrival_ns"]))
    ended = np.count_nonzero(window.holds(passes["end_ns"]))
    return {
        "capacity_per_s": capacity_per_s,
        "offered_per_s": float(offered_per_s),
        "offered_load": float(offered_per_s / capacity_per_s),
        "arrivals_in_window": arrived,
        "backlog_growth": (arrived - ended) / max(arrived, 1),
    }


def instability(records: RunRecords, values: dict[str, float]) -> str:
    """Return why a run under Poisson arrivals has no steady state, empty where it has one.

    Either arrivals outrun full batches, or, where there are none to tell by, the machine is never idle while more
    passes stay in flight than three standard deviations of a random walk of as many steps.
    """
    if records.header["config"]["arrivals"] != "poisson":
        return ""
    if values["offered_load"] >= 1:
        return f"arrivals are {values['offered_load']:.2f} of the capacity at full batches"
    noise = 3 * np.sqrt(2 / max(values["arrivals_in_window"], 1))
    if values["utilisation_max"] >= FULL and values["backlog_growth"] > noise:
        return f"never idle, and {values['backlog_growth']:.0%} of the arrivals stay in flight"
    return ""


def batch_means(passes: dict[str, np.ndarray], window: Window, count: int) -> dict[str, np.ndarray]:
    """Return the metrics that carry intervals for ten parts of the window; empty for a run that is too short.

    Latency is taken over parts with equally many passes, throughput as in `throughput_parts`. `count` passes are
    measured.
    """
    if count < PARTS * LEAST_PER_PART:
        return {}
    when_ns = passes[f"{window.by}_ns"]
    chosen = np.flatnonzero(window.holds(when_ns))
    chosen = chosen[np.argsort(when_ns[chosen], kind="stable")]
    latency_ns = (passes["end_ns"] - passes["arrival_ns"])[chosen]
    per_part = [latency_statistics(part) for part in np.array_split(latency_ns, PARTS)]
    latency = {name: np.array([values[name] for values in per_part]) for name in INTERVAL_METRICS[1:]}
    return {"throughput_per_s": throughput_parts(passes, window, PARTS), **latency}
