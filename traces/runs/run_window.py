"""Which part of a run is measured: warm-up and drain are cut, and no pass is left out because it took long.

What arrives are sequences; the passes of one run one after another, so that their own arrivals say nothing of what was
offered. Warm-up lasts until 15 % of the sequences have arrived *and* one p95 of their time in the system has gone by
since the first arrival. The second matters where a sequence takes a large part of the run: until then queues that
started empty are filling, or the sequences that a closed loop released all at once at the start run in step.

Open arrivals (Poisson, recorded): drain is the last 10 % of the sequences, and at least one p95 of their time in the
system. Latency is taken over the passes that *arrive* in the window, whenever they end: choosing those that also end in
it would drop the slow ones. Those that end after the very last arrival, in a machine that runs empty, are counted as
`drain_share`.

Closed loop and trace steps: from the last release of a sequence on, the number in flight falls and batches are forced,
so the window closes there. Latency is taken over the passes that *end* in the window, whenever they arrived: passes
that arrive late in it end in the drain under other conditions, and leaving them out alone would favour the quick ones.
In a steady state the passes that leave within a window have the same latencies as those that arrive in it.

All at once: the whole run is the window; there is no steady state to cut out.

At least 20 % of the time from first to last arrival is always measured, at the cost of warm-up and drain; in such a
short run the checks of `run_steadiness` tell how far it is from a steady state.
"""

from dataclasses import dataclass

import numpy as np

from moe_replay.traces.errors import InputError
from moe_replay.traces.runs.run_records import RunRecords
from moe_replay.traces.runs.served_sequences import Served

AT_ONCE, WAITING = "all", ("all", "closed", "steps")  # arrivals that wait for the model, or all come at the start
OPEN = ("poisson", "recorded")  # arrivals that do not wait for the model
WARM_UP_SHARE = 0.15
DRAIN_SHARE = 0.10
LEAST_MEASURED = 0.2
WINDOW, WHOLE_RUN = "window", "whole run"  # what the values of a row are of


@dataclass(frozen=True)
class Window:
    """A measured stretch of a run; events count in it from just after `start_ns` up to and including `end_ns`."""

    start_ns: int
    end_ns: int
    by: str  # "arrival" or "end": which moment of a pass must lie in the window for its latency to count
    kind: str = WINDOW

    @property
    def seconds(self) -> float:
        """Length in seconds; NaN for a run that takes no time, which has no rates."""
        return (self.end_ns - self.start_ns) / 1e9 or float("nan")

    def holds(self, times_ns: np.ndarray) -> np.ndarray:
        """Return a mask of the moments inside; a whole run holds all that is in it.

        A window is half open, since a release and a completion are at both ends.
        """
        if self.kind == WHOLE_RUN:
            return np.ones(len(times_ns), bool)
        return (times_ns > self.start_ns) & (times_ns <= self.end_ns)

    def overlap_ns(self, start_ns: np.ndarray, end_ns: np.ndarray) -> np.ndarray:
        """Return how much of each stretch [start, end] lies inside."""
        return np.maximum(np.minimum(end_ns, self.end_ns) - np.maximum(start_ns, self.start_ns), 0)


def is_open(config: dict) -> bool:
    """Say whether the arrivals of a configuration do not wait for the model.

    A process of the user's own is taken for one that does not: such runs are judged the more strictly.
    """
    return config["arrivals"] not in WAITING


def measured_window(records: RunRecords, served: Served) -> Window | None:
    """Return the measured window of a run, None where nothing lies between arrivals; InputError without passes."""
    config = records.header["config"]
    if len(records.passes["arrival_ns"]) == 0:
        raise InputError("the run has no passes")
    arrival_ns = np.sort(served.arrival_ns)
    own = config["arrivals"] not in (*WAITING, *OPEN)
    if config["arrivals"] == AT_ONCE or (own and arrival_ns[0] == arrival_ns[-1]):
        return whole_run(records)
    p95_ns = np.percentile(served.end_ns - served.arrival_ns, 95)
    warm_up_ns = max(arrival_ns[int(WARM_UP_SHARE * len(arrival_ns))] - arrival_ns[0], p95_ns)
    drain_ns = 0.0
    if is_open(config):
        drain_ns = max(arrival_ns[-1] - arrival_ns[int((1 - DRAIN_SHARE) * len(arrival_ns))], p95_ns)
    # A release of many passes at one instant makes the window open and close at an instant of completions.
    most_ns = (1 - LEAST_MEASURED) * (arrival_ns[-1] - arrival_ns[0])
    cut = min(1.0, most_ns / (warm_up_ns + drain_ns)) if warm_up_ns + drain_ns else 1.0
    first = np.searchsorted(arrival_ns, arrival_ns[0] + cut * warm_up_ns)
    last = np.searchsorted(arrival_ns, arrival_ns[-1] - cut * drain_ns, side="right") - 1
    if first >= last or arrival_ns[first] == arrival_ns[last]:
        return None
    return Window(int(arrival_ns[first]), int(arrival_ns[last]), "arrival" if is_open(config) else "end")


def whole_run(records: RunRecords) -> Window:
    """Return the run from its first arrival to its last end; latency is taken over every pass."""
    passes = records.passes
    return Window(int(passes["arrival_ns"].min()), int(passes["end_ns"].max()), "end", WHOLE_RUN)
