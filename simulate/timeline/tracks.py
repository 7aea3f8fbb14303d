"""What of a run takes time, as tracks: batches of a device, experts on a link, messages on a port.

A track holds slices that do not overlap. Where those of one place do, as messages that are still on their way when the
port is free again, they are spread over as few tracks as there are at once.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field, replace

import numpy as np

from moe_replay.traces.runs.run_records import RunRecords

MESSAGE_KINDS = ("dispatch", "combine")
UNKNOWN = -1  # of `hit` and `victim`: there is none


@dataclass(frozen=True)
class Track:
    """Slices X of one track: `start_X`, `end_X` in ns, `label_X` into `labels`, and notes, left out where masked.

    `row_X`: the rows of the record table. `notes`: name -> (values [X], whether they are shown [X] or None for all).
    """

    name: str
    row_X: np.ndarray
    start_X: np.ndarray
    end_X: np.ndarray
    label_X: np.ndarray
    labels: tuple[str, ...]
    notes: dict[str, tuple[np.ndarray, np.ndarray | None]] = field(default_factory=dict)
    of_batches: bool = False

    def rows(self, kept: np.ndarray) -> Track:
        """Return the track with some of its slices: a mask or positions [X]."""
        notes = {name: (each[kept], None if on is None else on[kept]) for name, (each, on) in self.notes.items()}
        parts = (self.row_X[kept], self.start_X[kept], self.end_X[kept], self.label_X[kept])
        return replace(self, **dict(zip(("row_X", "start_X", "end_X", "label_X"), parts, strict=True)), notes=notes)

    def within(self, first_ns: int, last_ns: int) -> Track:
        """Return the track with the slices that some moment of a stretch falls into, whole."""
        return self.rows((self.end_X >= first_ns) & (self.start_X <= last_ns))


def tracks_of(records: RunRecords) -> list[Track]:
    """Return every track with slices: devices, then links, then ports; each batch, transfer and message once."""
    tracks = device_tracks(records)
    if records.transfers is not None:
        tracks += link_tracks(records.transfers)
    if records.messages is not None:
        tracks += port_tracks(records.messages)
    return [lane for track in tracks for lane in lanes(track)]


def device_tracks(records: RunRecords) -> list[Track]:
    """Return a track per device and one for the host server, which has the number behind the last device."""
    batches, is_linked = records.batches, records.messages is not None
    place = "slot" if is_linked else "expert"
    label_X, labels = labelled(
        (batches["layer"], batches["block"]),
        lambda layer, block: f"layer {layer} {f'{place} {block - 1}' if block else 'dense'}",
    )
    size, tokens, hit = batches["size"], batches["tokens"], batches["hit"]
    notes = {
        "size": (size, None),
        "waited ns": (batches["start_ns"] - batches["ready_ns"], None),
        "tokens": (tokens, tokens != size),
        "forced": (batches["forced"].astype(np.int8), batches["forced"]),
        "resident": (hit, hit != UNKNOWN),
    }
    if is_linked:
        notes["micro-batch"] = (batches["micro_batch"], None)
    whole = Track("", np.arange(len(size)), batches["start_ns"], batches["end_ns"], label_X, labels, notes, True)
    devices = records.header.get("config", {}).get("devices", 1)
    return by_place(whole, batches["device"], lambda each: f"device {each}" if each < devices else "host server")


def link_tracks(transfers: dict[str, np.ndarray]) -> list[Track]:
    """Return a track per link from host memory: which expert comes."""
    label_X, labels = labelled(
        (transfers["layer"], transfers["expert"]), lambda layer, expert: f"layer {layer} expert {expert}"
    )
    notes = {
        "slot": (transfers["slot"], None),
        "waited ns": (transfers["start_ns"] - transfers["asked_ns"], None),
        "prefetch": (transfers["prefetch"].astype(np.int8), transfers["prefetch"]),
        "victim": (transfers["victim"], transfers["victim"] != UNKNOWN),
    }
    rows = np.arange(len(label_X))
    whole = Track("", rows, transfers["start_ns"], transfers["end_ns"], label_X, labels, notes)
    return by_place(whole, transfers["link"], lambda each: f"link to device {each}")


def port_tracks(messages: dict[str, np.ndarray]) -> list[Track]:
    """Return a track per port out: a message from its start there until all of it has arrived."""
    label_X, labels = labelled(
        (messages["kind"], messages["layer"], messages["destination"]),
        lambda kind, layer, destination: f"{MESSAGE_KINDS[kind]} layer {layer} to device {destination}",
    )
    notes = {
        "tokens": (messages["tokens"], None),
        "bytes": (messages["bytes"], None),
        "waited ns": (messages["start_ns"] - messages["queued_ns"], None),
        "micro-batch": (messages["micro_batch"], None),
    }
    rows = np.arange(len(label_X))
    whole = Track("", rows, messages["start_ns"], messages["end_ns"], label_X, labels, notes)
    return by_place(whole, messages["source"], lambda each: f"port out of device {each}")


def labelled(columns: tuple[np.ndarray, ...], said: object) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return (numbers [X], labels): a label for each combination of columns that there is, from `said(*values)`."""
    different, number_X = np.unique(np.stack(columns, axis=1), axis=0, return_inverse=True)
    return number_X.reshape(-1), tuple(said(*each) for each in different.tolist())


def by_place(whole: Track, place_X: np.ndarray, named: object) -> list[Track]:
    """Return a track for each place, its slices by their start; those of no length before what begins at once."""
    order_X = np.lexsort((whole.row_X, whole.end_X, whole.start_X, place_X))
    first_of = np.searchsorted(place_X[order_X], np.unique(place_X))
    parts = np.split(order_X, first_of[1:])
    return [replace(whole.rows(part), name=named(int(place_X[part[0]]))) for part in parts if len(part)]


def lanes(track: Track) -> list[Track]:
    """Return a track in parts whose slices do not overlap: itself, or as many as there are slices at once."""
    if (track.start_X[1:] >= track.end_X[:-1]).all():
        return [track]
    lane_X, free = np.empty(len(track.start_X), np.int64), []  # free: (when, lane)
    for number, (start, end) in enumerate(zip(track.start_X.tolist(), track.end_X.tolist(), strict=True)):
        lane = heapq.heappop(free)[1] if free and free[0][0] <= start else len(free)
        lane_X[number] = lane
        heapq.heappush(free, (end, lane))
    many = int(lane_X.max()) + 1
    return [replace(track.rows(lane_X == each), name=f"{track.name} ({each + 1} of {many})") for each in range(many)]
