"""A Perfetto file: TrackEvents by the messages of the package `perfetto`, written in pieces.

Times are those of the records, ns since the start of the run, exactly. Every run is a group of tracks of its own and a
sequence of packets of its own; names are interned, so that a batch takes about 80 bytes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from itertools import count
from typing import IO

import numpy as np
from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import Trace, TracePacket, TrackDescriptor, TrackEvent

from moe_replay.simulate.timeline.counters import Counter
from moe_replay.simulate.timeline.run_timeline import RunTimeline
from moe_replay.simulate.timeline.tracks import Track

AT_ONCE = 5_000  # packets in memory
BEGIN, END = TrackEvent.TYPE_SLICE_BEGIN, TrackEvent.TYPE_SLICE_END
INSTANT, COUNTED = TrackEvent.TYPE_INSTANT, TrackEvent.TYPE_COUNTER
ARRIVAL, PASS_NOTES = "pass", ("pass", "sequence", "tokens")
CLEARED, NEEDED = TracePacket.SEQ_INCREMENTAL_STATE_CLEARED, TracePacket.SEQ_NEEDS_INCREMENTAL_STATE
FLOWS_PER_RUN = 1 << 40  # pass p of run r is flow r * this + p + 1: an id of 0 is none


def write_timeline(opened: IO[bytes], runs: list[RunTimeline], advance: Callable[[int], object]) -> None:
    """Write runs below each other into an open file; `advance(n)` is called for every n packets."""
    pieces, uuids = Pieces(opened, advance), count(1)
    for number, run in enumerate(runs):
        RunPackets(run, number, uuids).write(pieces)
    pieces.flush()


class Pieces:
    """Packets on their way into a file: `add` gives a new one, and what was filled is written now and then."""

    def __init__(self, opened: IO[bytes], advance: Callable[[int], object]) -> None:
        self.opened, self.advance, self.trace = opened, advance, Trace()

    def add(self) -> TracePacket:
        """Return a new packet to be filled before the next is asked for."""
        if len(self.trace.packet) >= AT_ONCE:
            self.flush()
        return self.trace.packet.add()

    def flush(self) -> None:
        """Write the packets that are filled: traces that follow each other are one trace."""
        self.opened.write(self.trace.SerializeToString())
        self.advance(len(self.trace.packet))
        self.trace = Trace()


class RunPackets:
    """The packets of one run: who its tracks are, the names that it uses, then track by track what happened."""

    def __init__(self, run: RunTimeline, number: int, uuids: Iterator[int]) -> None:
        self.run, self.sequence, self.flow = run, number + 1, number * FLOWS_PER_RUN + 1
        self.root, self.arrivals = next(uuids), next(uuids)
        self.track_uuids = [next(uuids) for _ in run.tracks]
        self.counter_uuids = [next(uuids) for _ in run.counters]
        labels = {each for track in run.tracks for each in track.labels} | {ARRIVAL}
        notes = {each for track in run.tracks for each in track.notes} | set(PASS_NOTES)
        self.names = {name: iid for iid, name in enumerate(sorted(labels), 1)}
        self.note_names = {name: iid for iid, name in enumerate(sorted(notes), 1)}

    def write(self, pieces: Pieces) -> None:
        """Add all packets."""
        self.describe(pieces)
        self.intern(pieces.add())
        self.passes(pieces)
        joined = (flows_by_row(self.run.flows.first_P), flows_by_row(self.run.flows.last_P))
        for uuid, track in zip(self.track_uuids, self.run.tracks, strict=True):
            self.slices(pieces, uuid, track, joined if track.of_batches else ({}, {}))
        for uuid, counter in zip(self.counter_uuids, self.run.counters, strict=True):
            self.counts(pieces, uuid, counter)

    def describe(self, pieces: Pieces) -> None:
        """Add a descriptor per track, in the order in which they are to be shown."""
        described = pieces.add().track_descriptor
        described.uuid, described.name, described.child_ordering = self.root, self.run.name, TrackDescriptor.EXPLICIT
        timed = list(zip(self.track_uuids, (each.name for each in self.run.tracks), strict=True))
        counted = list(zip(self.counter_uuids, (each.name for each in self.run.counters), strict=True))
        below = [(self.arrivals, "arrivals"), *timed]
        for rank, (uuid, name) in enumerate(below + counted):
            described = pieces.add().track_descriptor
            described.uuid, described.name, described.parent_uuid = uuid, name, self.root
            described.sibling_order_rank = rank
            if rank >= len(below):
                described.counter.SetInParent()

    def intern(self, packet: TracePacket) -> None:
        """Fill the packet with the names that all others refer to."""
        packet.trusted_packet_sequence_id, packet.sequence_flags = self.sequence, CLEARED
        for name, iid in self.names.items():
            packet.interned_data.event_names.add(iid=iid, name=name)
        for name, iid in self.note_names.items():
            packet.interned_data.debug_annotation_names.add(iid=iid, name=name)

    def passes(self, pieces: Pieces) -> None:
        """Add an instant per pass that arrives, where its flow begins."""
        iids = [self.note_names[each] for each in PASS_NOTES]
        rows = (self.run.passes[name].tolist() for name in ("pass_id", "sequence", "tokens", "arrival_ns"))
        for row, (*values, at) in zip(self.run.pass_rows.tolist(), zip(*rows, strict=True), strict=True):
            packet = pieces.add()
            packet.timestamp, packet.trusted_packet_sequence_id, packet.sequence_flags = at, self.sequence, NEEDED
            event = packet.track_event
            event.type, event.track_uuid, event.name_iid = INSTANT, self.arrivals, self.names[ARRIVAL]
            event.flow_ids.append(self.flow + row)
            for iid, value in zip(iids, values, strict=True):
                event.debug_annotations.add(name_iid=iid, int_value=value)

    def slices(self, pieces: Pieces, uuid: int, track: Track, joined: tuple[dict, dict]) -> None:
        """Add the beginning and the end of every slice of a track."""
        iid_X = np.array([self.names[each] for each in track.labels])[track.label_X].tolist()
        notes = [
            (self.note_names[name], values.tolist(), None if on is None else on.tolist())
            for name, (values, on) in track.notes.items()
            if on is None or on.any()
        ]
        begins, ends = joined
        add, sequence = pieces.add, self.sequence
        times = zip(track.start_X.tolist(), track.end_X.tolist(), track.row_X.tolist(), iid_X, strict=True)
        for x, (start, end, row, iid) in enumerate(times):
            packet = add()
            packet.timestamp, packet.trusted_packet_sequence_id, packet.sequence_flags = start, sequence, NEEDED
            event = packet.track_event
            event.type, event.track_uuid, event.name_iid = BEGIN, uuid, iid
            for note_iid, values, on in notes:
                if on is None or on[x]:
                    event.debug_annotations.add(name_iid=note_iid, int_value=values[x])
            if row in begins:
                event.flow_ids.extend(self.flow + each for each in begins[row])
            if row in ends:
                event.terminating_flow_ids.extend(self.flow + each for each in ends[row])
            packet = add()
            packet.timestamp, packet.trusted_packet_sequence_id = end, sequence
            event = packet.track_event
            event.type, event.track_uuid = END, uuid

    def counts(self, pieces: Pieces, uuid: int, counter: Counter) -> None:
        """Add every value of a counter."""
        for at, value in zip(counter.at_X.tolist(), counter.value_X.tolist(), strict=True):
            packet = pieces.add()
            packet.timestamp, packet.trusted_packet_sequence_id = at, self.sequence
            event = packet.track_event
            event.type, event.track_uuid, event.counter_value = COUNTED, uuid, value


def flows_by_row(row_P: Iterable[int]) -> dict[int, list[int]]:
    """Return {row of the batches: the passes that begin, or end, there}."""
    found = defaultdict(list)
    for number, row in enumerate(np.asarray(row_P).tolist()):
        if row >= 0:
            found[row].append(number)
    return dict(found)
