"""Statistics of one run, from its records: throughput, latency, fill, forced share, utilisation, waiting.

An executed run and a simulated one go through the same functions; nothing here knows which it is.
"""

from dataclasses import dataclass, field

import numpy as np

from moe_replay.traces.runs.cluster_statistics import cluster_statistics
from moe_replay.traces.runs.run_records import RunRecords
from moe_replay.traces.runs.run_steadiness import judged
from moe_replay.traces.runs.run_window import WHOLE_RUN, Window, is_open, measured_window, whole_run
from moe_replay.traces.runs.served_sequences import Served, served_sequences
from moe_replay.traces.runs.throughput import throughput_parts, throughput_per_s
from moe_replay.traces.runs.time_statistics import (
    LATENCIES,
    REQUESTS,
    TIMES,
    latencies_of_parts,
    latency_statistics,
    token_statistics,
)

PARTS = 10  # batch means inside one run
LEAST_PER_PART = 5  # passes; below this a run is too short for batch means
INTERVAL_METRICS = ("throughput_per_s", *LATENCIES)


@dataclass(frozen=True)
class RunStatistics:
    """What one run amounts to.

    `values` maps metric names (units in the names; shares are fractions) to numbers. `parts` maps the names in
    `INTERVAL_METRICS` to one value per tenth of the window, empty where the run is too short. `status` is `ok`,
    `unstable` (its queues grow for as long as it lasts, so it has no latency) or `short` (no window of it is known to
    lie in a steady state). `reason` says why, or remarks on a run that is rather short. `values_of` says what the
    values are of: the measured window or the whole run; all but `ok` is of the whole run. `whole` maps the names of
    rates and times to their values over the whole run, whatever the status. TTFT and TPOT are there where records tell
    prompts from decoding; they carry intervals too.
    """

    config: dict
    values: dict[str, float]
    parts: dict[str, np.ndarray] = field(default_factory=dict)
    status: str = "ok"
    reason: str = ""
    values_of: str = WHOLE_RUN
    whole: dict[str, float] = field(default_factory=dict)

    @property
    def steady_values(self) -> dict[str, float]:
        """The values, with times only where they are those of a steady state."""
        if self.status == "ok":
            return self.values
        return self.values | {name: float("nan") for name in TIMES if name in self.values}


def run_statistics(records: RunRecords) -> RunStatistics:
    """Return the statistics of a run's measured window, or of the whole run; InputError for a run without passes.

    An unstable run is measured from its first arrival to its last end: the machine is busy all that time, and while
    arrivals last a window may hold few completions or, for waves that move through the layers together, all of them.
    """
    served = served_sequences(records.passes)
    window, whole = measured_window(records, served), whole_run(records)
    chosen = window or whole
    values = measured(records, served, chosen)
    parts = batch_means(records.passes, chosen, values["passes_measured"]) | request_parts(served, chosen)
    status, reason = judged(records, served, window, values, parts.get("throughput_per_s", np.array([])))
    if status != "ok":
        growth = values["backlog_growth"]
        values = measured(records, served, whole) | {"backlog_growth": growth}
        chosen, parts = whole, {}
    if status == "unstable":
        values |= {name: float("nan") for name in TIMES if name in values}
        rates = batch_means(records.passes, whole, values["passes_measured"])
        parts = {name: part for name, part in rates.items() if name not in TIMES}
    config, kept = records.header["config"], whole_values(records.passes, served)
    return RunStatistics(config, values, parts, status, reason, chosen.kind, kept)


def whole_values(passes: dict[str, np.ndarray], served: Served) -> dict[str, float]:
    """Return rates and times of a whole run."""
    seconds = float(passes["end_ns"].max() - passes["arrival_ns"].min()) / 1e9 or float("nan")
    return {
        "throughput_per_s": len(passes["end_ns"]) / seconds,
        "tokens_per_s": float(served.tokens.sum()) / seconds,
        "requests_per_s": len(served) / seconds,
        **latency_statistics(passes["end_ns"] - passes["arrival_ns"]),
        **request_times(served, np.ones(len(served), bool)),
    }


def measured(records: RunRecords, served: Served, window: Window) -> dict[str, float]:
    """Return every statistic of one window."""
    return {
        "window_s": window.seconds,
        **pass_statistics(records.passes, window),
        **request_statistics(records.passes, served, window),
        **batch_statistics(records, window),
        **load_statistics(records, served, window),
        **cluster_statistics(records, window),
    }


def request_times(served: Served, chosen: np.ndarray) -> dict[str, float]:
    """Return the times of some sequences; TTFT and TPOT where records tell prompts from decoding."""
    whole = latency_statistics((served.end_ns - served.arrival_ns)[chosen], REQUESTS)
    if served.further is None:
        return whole
    to_first_ns = (served.first_token_ns - served.arrival_ns)[chosen]
    return whole | token_statistics(to_first_ns, served.decoding_ns[chosen], served.further[chosen])


def request_statistics(passes: dict[str, np.ndarray], served: Served, window: Window) -> dict[str, float]:
    """Return tokens and requests per second, and the times of requests: whole, to the first token, per further one."""
    tokens = passes["tokens"][window.holds(passes["end_ns"])].sum()
    chosen = window.holds(counted_by(served, window))
    return {
        "tokens_per_s": float(tokens) / window.seconds,
        "requests_per_s": np.count_nonzero(window.holds(served.end_ns)) / window.seconds,
        **request_times(served, chosen),
    }


def counted_by(served: Served, window: Window) -> np.ndarray:
    """Return the moments that must lie in a window for the times of sequences to count."""
    return served.arrival_ns if window.by == "arrival" else served.end_ns


def pass_statistics(passes: dict[str, np.ndarray], window: Window) -> dict[str, float]:
    """Return throughput, latency, waiting for the first batch, and Little's check.

    `little` is throughput times mean latency over the mean number in flight: 1 where the window is in a steady state
    and free of selection bias.
    """
    chosen = window.holds(passes[f"{window.by}_ns"])
    rate_per_s = throughput_per_s(passes, window)
    latency = latency_statistics((passes["end_ns"] - passes["arrival_ns"])[chosen])
    in_flight = window.overlap_ns(passes["arrival_ns"], passes["end_ns"]).sum(dtype=np.float64) / 1e9 / window.seconds
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
    the members per pass from the whole run. NaN where some kind of block never ran a full batch, or none takes time.
    """
    batches = records.batches
    kind = np.where(batches["block"] == 0, batches["layer"].astype(np.int64) + 1, 0)
    full = ~batches["forced"] & (batches["size"] == batch_limits(batches, records.header["config"]))
    kinds = int(kind.max()) + 1
    service_ns = np.bincount(kind[full], (batches["end_ns"] - batches["start_ns"])[full], kinds)
    members = np.bincount(kind[full], batches["size"][full], kinds)
    with np.errstate(invalid="ignore", divide="ignore"):
        per_member_ns = service_ns / members
    work_ns = np.bincount(batches["device"], batches["size"] * per_member_ns[kind]).max()
    return float(1e9 * len(records.passes["end_ns"]) / work_ns) if work_ns != 0 else float("nan")


def load_statistics(records: RunRecords, served: Served, window: Window) -> dict[str, float]:
    """Return capacity, offered rate and load, and how far the backlog grew over the window.

    What a sequence offers are all its passes, when it arrives. `offered_per_s` counts passes: under Poisson arrivals by
    the rate, under others that do not wait as they came. `backlog_growth` is what arrives less what ends, over what
    arrives.
    """
    passes, config = records.passes, records.header["config"]
    capacity_per_s = full_batch_capacity_per_s(records)
    offered_per_s = np.nan
    if config["arrivals"] == "poisson":
        offered_per_s = config["rate_per_s"] * len(passes["end_ns"]) / max(len(served), 1)
    elif is_open(config):
        offered_per_s = offered_as_recorded(served)
    inside = window.holds(served.arrival_ns)
    arrived = int(served.passes[inside].sum())
    ended = np.count_nonzero(window.holds(passes["end_ns"]))
    return {
        "capacity_per_s": capacity_per_s,
        "offered_per_s": float(offered_per_s),
        "offered_load": float(offered_per_s / capacity_per_s),
        "arrivals_in_window": arrived,
        "sequences_in_window": int(np.count_nonzero(inside)),
        "backlog_growth": (arrived - ended) / max(arrived, 1),
    }


def offered_as_recorded(served: Served) -> float:
    """Return the passes per second that sequences offer which arrive at recorded times; NaN where all come at once."""
    first, last = served.arrival_ns.min(), served.arrival_ns.max()
    before_last = served.passes[served.arrival_ns < last].sum()
    return float(before_last / (last - first) * 1e9) if last > first else float("nan")


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
    return {"throughput_per_s": throughput_parts(passes, window, PARTS), **latencies_of_parts(latency_ns, PARTS)}


def request_parts(served: Served, window: Window) -> dict[str, np.ndarray]:
    """Return TTFT and TPOT of ten parts of a window with equally many sequences; empty where there are too few."""
    when_ns = counted_by(served, window)
    chosen = np.flatnonzero(window.holds(when_ns))
    if served.further is None or len(chosen) < PARTS * LEAST_PER_PART:
        return {}
    chosen = chosen[np.argsort(when_ns[chosen], kind="stable")]
    to_first_ns = served.first_token_ns - served.arrival_ns
    per_part = [
        token_statistics(to_first_ns[part], served.decoding_ns[part], served.further[part])
        for part in np.array_split(chosen, PARTS)
    ]
    return {name: np.array([values[name] for values in per_part]) for name in per_part[0]}
