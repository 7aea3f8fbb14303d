"""Which part of a run is measured: warm-up and drain are cut, and no pass is left out because it took long.

Warm-up lasts until 15 % of the passes have arrived *and* one p95 latency of the run has gone by since the first
arrival. The second matters where a pass takes a large part of the run: until then queues that started empty
are filling, or the passes that a closed loop released all at once at the start march through the layers in step.

Poisson arrivals: drain is the last 10 % of the arrivals, and at least one p95 latency. Latency is taken over the
passes that *arrive* in the window, whenever they end: choosing those that also end in it would drop the slow ones.
Those that end after the very last arrival, in a machine that runs empty, are counted as `drain_share`.

Closed loop and trace steps: from the last release on, the number in flight falls and batches are forced, so the
window closes there. Latency is taken over the passes that *end* in the window, whenever they arrived: passes that
arrive late in it end in the drain under other conditions, and leaving them out alone would favour the quick ones. In
a steady state the passes that leave within a window have the same latencies as those that arrive in it.

All at once: the whole run is the window; there is no steady state to cut out.

At least 20 % of the time from first to last arrival is always measured, at the cost of warm-up and drain; in such a
short run Little's check (`run_statistics`) tells how far it is from a steady state.
"""

from dataclasses import dataclass

import numpy as np

from traces.errors import InputError
from traces.run_records import RunRecords

WARM_UP_SHARE = 0.15
DRAIN_SHARE = 0.10
LEAST_MEASURED = 0.2


@dataclass(frozen=True)
class Window:
    """A measured stretch of a run; events count in it from just after `start_ns` up to and including `end_ns`."""

    start_ns: int
    end_ns: int
    by: str  # "arrival" or "end": which moment of a pass must lie in the window for its latency to count

    @property
    def seconds(self) -> float:
        """Length in seconds."""
        return (self.end_ns - self.start_ns) / 1e9

    def holds(self, times_ns: np.ndarray) -> np.ndarray:
        """Return a mask of the moments inside. Half open, since a release and a completion stand on both ends."""
        return (times_ns > self.start_ns) & (times_ns <= self.end_ns)

    def overlap_ns(self, start_ns: np.ndarray, end_ns: np.ndarray) -> np.ndarray:
        """Return how much of each stretch [start, end] lies inside."""
        return np.maximum(np.minimum(end_ns, self.end_ns) - np.maximum(start_ns, self.start_ns), 0)


def measured_window(records: RunRecords) -> Window:
    """Return the measured window of a run; InputError for a run without passes or with nothing between arrivals."""
    passes, arrivals = records.passes, records.header["config"]["arrivals"]
    if len(passes["arrival_ns"]) == 0:
        raise InputError("the run has no passes")
    arrival_ns = np.sort(passes["arrival_ns"])
    if arrivals == "all" or arrival_ns[0] == arrival_ns[-1]:
        return whole_run(records)
    p95_ns = np.percentile(passes["end_ns"] - passes["arrival_ns"], 95)
    warm_up_ns = max(arrival_ns[int(WARM_UP_SHARE * len(arrival_ns))] - arrival_ns[0], p95_ns)
    drain_ns = 0.0
    if arrivals == "poisson":
        drain_ns = max(arrival_ns[-1] - arrival_ns[int((1 - DRAIN_SHARE) * len(arrival_ns))], p95_ns)
    # A release of many passes at one instant makes the window open and close at an instant of completions.
    most_ns = (1 - LEAST_MEASURED) * (arrival_ns[-1] - arrival_ns[0])
    cut = min(1.0, most_ns / (warm_up_ns + drain_ns))
    first = np.searchsorted(arrival_ns, arrival_ns[0] + cut * warm_up_ns)
    last = np.searchsorted(arrival_ns, arrival_ns[-1] - cut * drain_ns, side="right") - 1
    if first >= last or arrival_ns[first] == arrival_ns[last]:
        raise InputError(f"the run is too short to be measured: {len(arrival_ns)} passes")
    return Window(int(arrival_ns[first]), int(arrival_ns[last]), "arrival" if arrivals == "poisson" else "end")


def whole_run(records: RunRecords) -> Window:
    """Return the run from its first arrival to its last end."""
    passes = records.passes
    return Window(int(passes["arrival_ns"].min()), int(passes["end_ns"].max()), "end")
