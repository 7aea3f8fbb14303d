"""Which part of a run is measured: warm-up and drain are cut, and no pass is left out because it took long.

The first 15 % of the passes, by arrival, are warm-up; in a closed loop at least the passes that all arrive at once
at the start, because they march through the layers in step. The window opens at the arrival of the next pass.

Poisson arrivals: the last 10 % of the passes are drain, and the window closes where they begin to arrive. Latency
is taken over the passes that *arrive* in the window, whenever they end: choosing those that also end in it would
drop the slow ones. Those that end after the very last arrival, in a machine that runs empty, are counted as
`drain_share`: where that is not small, the tail is too short for this queue size.

Closed loop and trace steps: from the last release on, the number in flight falls and batches are forced, so the
window closes there. Latency is taken over the passes that *end* in the window, whenever they arrived: passes that
arrive late in it end in the drain under other conditions, and leaving them out alone would favour the quick ones. In
a steady state the passes that leave within a window have the same latencies as those that arrive in it.

All at once: the whole run is the window; there is no steady state to cut out.
"""

from dataclasses import dataclass

import numpy as np

from traces.errors import InputError
from traces.run_records import RunRecords

WARM_UP_SHARE = 0.15
DRAIN_SHARE = 0.10


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
    """Return the measured window of a run; InputError where the run is too short to have one."""
    arrival_ns = np.sort(records.passes["arrival_ns"])
    arrivals, count = records.header["config"]["arrivals"], len(arrival_ns)
    if count == 0:
        raise InputError("the run has no passes")
    if arrivals == "all" or arrival_ns[0] == arrival_ns[-1]:
        return Window(int(arrival_ns[0]), int(records.passes["end_ns"].max()), "end")
    first = int(np.ceil(WARM_UP_SHARE * count))
    if arrivals == "poisson":
        last, by = int(np.floor((1 - DRAIN_SHARE) * count)) - 1, "arrival"
    else:
        at_once = int(np.count_nonzero(arrival_ns == arrival_ns[0]))
        first, last, by = max(first, at_once), count - 1, "end"
    if first > last or arrival_ns[first] >= arrival_ns[last]:
        raise InputError(f"the run is too short to be measured: {count} passes, warm-up is {first} of them")
    return Window(int(arrival_ns[first]), int(arrival_ns[last]), by)


def equal_parts(window: Window, parts: int) -> list[Window]:
    """Return the window cut into equally long parts, for batch means."""
    edges = np.linspace(window.start_ns, window.end_ns, parts + 1).round().astype(np.int64)
    return [Window(int(start), int(end), window.by) for start, end in zip(edges[:-1], edges[1:], strict=True)]
