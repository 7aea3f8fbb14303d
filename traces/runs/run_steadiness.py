"""Whether a run has a steady state and its window lies in it: `ok`, `unstable` or `short`, and why.

`unstable`: sequences arrive faster than they can be served, so that queues grow for as long as arrivals last. `short`:
nothing of the kind is known, but the window holds too little, or is not in a steady state.
"""

from __future__ import annotations

import numpy as np

from moe_replay.traces.runs.run_records import RunRecords
from moe_replay.traces.runs.run_window import WHOLE_RUN, Window, is_open
from moe_replay.traces.runs.served_sequences import Served
from moe_replay.traces.runs.throughput import half_width_of_parts

LEAST_PASSES, LEAST_SEQUENCES = 20, 10  # in a window, below which it says nothing of a steady state
SETTLED = 0.1  # how far Little's check may be off before the row says so
FAR_OFF = 0.25  # and before the run gives no values of a window
FULL = 0.99  # a machine busy for this share of the time is taken as never idle
MOST_GROWTH = FAR_OFF  # of a backlog, as a share of the arrivals, that chance may explain however few they are
GROUPS = 10  # of sequences, by arrival, whose times are compared
SLOWER, DEVIATIONS = 1.5, 3.0  # how much slower later groups must be, and by how many standard errors
WARM_UP_SHARE = 0.15  # of the sequences, which are not compared


def judged(
    records: RunRecords, served: Served, window: Window | None, values: dict, rates: np.ndarray
) -> tuple[str, str]:
    """Return (status, reason) of a run, from the values of its window and the rates of the window's parts.

    `window` None: nothing lies between arrivals. A remark on a run that is rather short is the reason of status `ok`.
    """
    whole = window is not None and window.kind == WHOLE_RUN
    free = is_open(records.header["config"]) and not whole
    slower = slowing(served) if free else 1.0
    reason = overload(values, rates, slower) if free else ""
    if reason:
        return "unstable", reason
    reason = too_little(records, served, window, values)
    if reason or whole:
        return ("short", reason) if reason else ("ok", "")
    if free:
        reason = unsettled(values, slower) or beyond_offered(
            values, values["throughput_per_s"] - uncertainty(values, rates)
        )
        if reason:
            return "short", reason
    off = abs(values["little"] - 1)
    remark = f"throughput x latency is {values['little']:.2f} of the passes in flight"
    if not off <= FAR_OFF:
        return "short", f"too short for a latency: {remark}"
    return "ok", f"short run: {remark}" if off > SETTLED else ""


def overload(values: dict, rates: np.ndarray, slower: float) -> str:
    """Return why arrivals that do not wait outrun the machine, empty where they do not.

    Either they outrun full batches, or, where there are none to tell by, the machine is never idle while fewer passes
    end than arrive, by more than chance (three standard deviations of a random walk of as many sequences; or the
    interval of the throughput and as much of the number in flight), or while sequences take the longer the later they
    arrive. Lockstep is never idle at loads that it bears with ease: that alone tells nothing.
    """
    if values["offered_load"] >= 1:
        return f"arrivals are {values['offered_load']:.2f} of the capacity at full batches"
    if not values["utilisation_max"] >= FULL:
        return ""
    if values["backlog_growth"] > chance(values):
        return f"never idle, and {values['backlog_growth']:.0%} of the arrivals stay in flight"
    served_at_most = values["throughput_per_s"] + half_width_of_parts(rates)
    if served_at_most < values["offered_per_s"] and grown(values):
        return (
            f"never idle, and {values['throughput_per_s']:.4g} of {values['offered_per_s']:.4g} passes/s are served: "
            "the backlog grows"
        )
    if slower > 1:
        return f"never idle, and later arrivals take {slower:.1f} times as long as earlier ones: the backlog grows"
    return ""


def grown(values: dict) -> bool:
    """Say whether more sequences are in flight at the end of a window than chance explains, with so many in flight.

    A steady number in flight varies like a Poisson number, at both ends of the window: three standard deviations of
    the difference are allowed. The arrivals are those that came: a rate says how many were to be expected.
    """
    growth = values["backlog_growth"] * values["sequences_in_window"]
    return bool(growth > DEVIATIONS * np.sqrt(2 * values["in_flight_mean"]))


def slowing(served: Served) -> float:
    """Return how many times as long a pass takes in sequences that arrive late as in early ones; 1 if that is chance.

    Sequences behind warm-up are parted into ten groups by arrival; the later five are held against the earlier five.
    Unlike a window this looks at all arrivals, so that it tells an overload in a run of few of them.
    """
    order = np.argsort(served.arrival_ns, kind="stable")[int(WARM_UP_SHARE * len(served)) :]
    if len(order) < 2 * GROUPS:
        return 1.0
    per_pass_ns = (served.end_ns - served.arrival_ns)[order] / served.passes[order]
    means = np.array([part.mean() for part in np.array_split(per_pass_ns, GROUPS)])
    early, late = means[: GROUPS // 2], means[GROUPS // 2 :]
    error = np.sqrt((early.var(ddof=1) + late.var(ddof=1)) / (GROUPS // 2))
    beyond_chance = late.mean() - early.mean() > DEVIATIONS * error
    slower = late.mean() / early.mean() if early.mean() > 0 else 1.0
    return float(slower) if beyond_chance and slower > SLOWER else 1.0


def too_little(records: RunRecords, served: Served, window: Window | None, values: dict) -> str:
    """Return why a window holds too little to tell anything of a steady state, empty where it does not.

    What lies before it is named, so that nothing that took long vanishes in a warm-up.
    """
    longest_ms = float((records.passes["end_ns"] - records.passes["arrival_ns"]).max()) / 1e6
    said = f"values are of the whole run, whose longest pass takes {longest_ms:.4g} ms"
    if window is None:
        return f"too short for a window: {counted(len(served), 'sequence')}, none released after warm-up; {said}"
    if window.kind == WHOLE_RUN:
        return "" if window.seconds > 0 else "the run takes no time, so it has no rates"
    sequences = int(np.count_nonzero(window.holds(served.arrival_ns if window.by == "arrival" else served.end_ns)))
    if values["passes_measured"] >= LEAST_PASSES and sequences >= LEAST_SEQUENCES:
        return ""
    held = f"{counted(values['passes_measured'], 'pass')} and {counted(sequences, 'sequence')}"
    return f"too short for a window: it holds {held}, needed {LEAST_PASSES} and {LEAST_SEQUENCES}; {said}"


def counted(count: int, what: str) -> str:
    """Return `1 pass`, `2 passes`, `3 sequences`."""
    plural = f"{what}es" if what.endswith("s") else f"{what}s"
    return f"{count:,} {what if count == 1 else plural}"


def unsettled(values: dict, slower: float) -> str:
    """Return why the number in flight is not steady though the machine has time left, empty where it is."""
    if slower > 1:
        return f"not in a steady state: later arrivals take {slower:.1f} times as long as earlier ones"
    if abs(values["backlog_growth"]) <= chance(values):
        return ""
    more = "more" if values["backlog_growth"] > 0 else "fewer"
    return (
        f"not in a steady state: {more} arrive than end in the window, by {abs(values['backlog_growth']):.0%} of the "
        "arrivals (queues still fill or drain)"
    )


def beyond_offered(values: dict, lower_per_s: float) -> str:
    """Return why a throughput, of which even the lower end of its interval exceeds what was offered, is none."""
    if not lower_per_s > values["offered_per_s"]:
        return ""
    return (
        f"{values['throughput_per_s']:.4g} passes/s end in the window where {values['offered_per_s']:.4g} were offered:"
        " what had gathered before it is counted"
    )


def chance(values: dict) -> float:
    """Return the growth of the backlog, as a share of the arrivals, that chance explains: at most three deviations."""
    return min(3 * np.sqrt(2 / max(values["sequences_in_window"], 1)), MOST_GROWTH)


def uncertainty(values: dict, rates: np.ndarray) -> float:
    """Return how far the throughput of one run under open arrivals may be off.

    That is half the width of its interval, or, where parts happen to be alike, three deviations of how many sequences
    arrive: of many replications one or the other has more arrivals than the rate says, and is no worse for that.
    """
    half = half_width_of_parts(rates)
    arrivals = 3 * values["offered_per_s"] / np.sqrt(max(values["sequences_in_window"], 1))
    return float(np.nanmax([0.0, half + edge_per_s(values), arrivals]))


def edge_per_s(values: dict) -> float:
    """Return how far a throughput may be off, in passes/s, because more is in flight at one end of the window."""
    return abs(values["backlog_growth"]) * values["arrivals_in_window"] / values["window_s"]
