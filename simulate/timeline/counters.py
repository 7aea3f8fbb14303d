"""What of a run can be counted at every moment: passes in the system, ready batches, selections that wait for experts.

Records say when a batch was ready, began and ended, not when each of its members joined the queue. How many selections
wait in a layer follows all the same where every token brings the same number k of them: the batches of the layer's
dense part that ended, times k, less the experts' that began. It is counted only where the sums agree to the last one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from moe_replay.traces.runs.run_records import RunRecords


@dataclass(frozen=True)
class Counter:
    """Values of one track, each from `at_X` ns on until the next."""

    name: str
    at_X: np.ndarray
    value_X: np.ndarray

    def within(self, first_ns: int, last_ns: int) -> Counter:
        """Return the values that hold in a stretch; the one that holds when it begins is set there."""
        begin = max(int(np.searchsorted(self.at_X, first_ns, side="right")) - 1, 0)
        end = int(np.searchsorted(self.at_X, last_ns, side="right"))
        at_X = self.at_X[begin:end]
        if len(at_X) and at_X[0] < first_ns:
            at_X = np.concatenate([[first_ns], at_X[1:]])
        return Counter(self.name, at_X, self.value_X[begin:end])


def counters_of(records: RunRecords) -> list[Counter]:
    """Return all counters of a run: of passes, of each device's ready list, of each layer whose sums agree."""
    passes, batches = records.passes, records.batches
    counters = [level("passes in the system", passes["arrival_ns"], passes["end_ns"])]
    devices = records.header.get("config", {}).get("devices", 1)
    for device in np.unique(batches["device"]).tolist():
        of_X = batches["device"] == device
        place = f"device {device}" if device < devices else "the host server"
        counters.append(level(f"batches ready for {place}", batches["ready_ns"][of_X], batches["start_ns"][of_X]))
    waiting = [waiting_selections(batches, layer) for layer in np.unique(batches["layer"]).tolist()]
    return counters + [each for each in waiting if each is not None]


def waiting_selections(batches: dict[str, np.ndarray], layer: int) -> Counter | None:
    """Return how many selections of a layer wait for its experts; None where the records do not tell."""
    of_X, is_dense_X = batches["layer"] == layer, batches["block"] == 0
    dense_X, expert_X = of_X & is_dense_X, of_X & ~is_dense_X
    brought, taken = int(batches["tokens"][dense_X].sum()), int(batches["size"][expert_X].sum())
    if not brought or not taken or taken % brought:
        return None
    counter = level(
        f"selections waiting in layer {layer}",
        batches["end_ns"][dense_X],
        batches["start_ns"][expert_X],
        batches["tokens"][dense_X].astype(np.int64) * (taken // brought),
        batches["size"][expert_X],
    )
    return counter if (counter.value_X >= 0).all() and counter.value_X[-1] == 0 else None


def level(
    name: str, up_X: np.ndarray, down_Y: np.ndarray, by_X: np.ndarray | None = None, by_Y: np.ndarray | None = None
) -> Counter:
    """Return a level that rises at `up_X` by `by_X` (1) and falls at `down_Y` by `by_Y`, its changes alone."""
    by_X = np.ones(len(up_X), np.int64) if by_X is None else by_X
    by_Y = np.ones(len(down_Y), np.int64) if by_Y is None else by_Y
    at_X, change_X = np.concatenate([up_X, down_Y]), np.concatenate([by_X, -by_Y.astype(np.int64)])
    order_X = np.argsort(at_X, kind="stable")
    at_X, value_X = at_X[order_X], np.cumsum(change_X[order_X])
    is_last_X = np.append(at_X[1:] != at_X[:-1], True)  # of what happens at one moment
    at_X, value_X = at_X[is_last_X], value_X[is_last_X]
    is_new_X = np.insert(value_X[1:] != value_X[:-1], 0, True)
    return Counter(name, at_X[is_new_X], value_X[is_new_X])
