"""One run as it is drawn: its name, tracks, counters, passes and flows, cut to a stretch of time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from moe_replay.simulate.timeline.counters import Counter, counters_of
from moe_replay.simulate.timeline.pass_flows import PassFlows, pass_flows
from moe_replay.simulate.timeline.tracks import Track, tracks_of
from moe_replay.traces.errors import InputError
from moe_replay.traces.runs.run_records import RunRecords

FOREVER = 2**62


@dataclass(frozen=True)
class RunTimeline:
    """A run's tracks and counters; `passes`: columns of those that arrive in the stretch, `pass_rows` their rows."""

    name: str
    tracks: list[Track]
    counters: list[Counter]
    passes: dict[str, np.ndarray]
    pass_rows: np.ndarray
    flows: PassFlows

    @property
    def slices(self) -> int:
        """How many slices all tracks have."""
        return sum(len(track.row_X) for track in self.tracks)

    @property
    def events(self) -> int:
        """How many packets are about to be written for all that happens."""
        return 2 * self.slices + sum(len(each.at_X) for each in self.counters) + len(self.pass_rows)


def run_timeline(records: RunRecords, name: str, first_ns: int = 0, last_ns: int = FOREVER) -> RunTimeline:
    """Return a run between two moments; slices that reach into the stretch are whole. InputError if none does."""
    tracks = [track.within(first_ns, last_ns) for track in tracks_of(records)]
    counters = [each for each in (one.within(first_ns, last_ns) for one in counters_of(records)) if len(each.at_X)]
    arrival_P = records.passes["arrival_ns"]
    pass_rows = np.flatnonzero((arrival_P >= first_ns) & (arrival_P <= last_ns))
    tracks = [track for track in tracks if len(track.row_X)]
    if not tracks:
        last = int(records.batches["end_ns"].max(initial=0))
        raise InputError(f"{name}: nothing happens from {first_ns} to {last_ns} ns; allowed: within 0..{last}")
    passes = {column: values[pass_rows] for column, values in records.passes.items()}
    return RunTimeline(
        name, tracks, [each for each in counters if len(each.at_X)], passes, pass_rows, pass_flows(records)
    )
