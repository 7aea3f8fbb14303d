"""Which batch a pass begins with and which it ends with: the arrows that follow it through a timeline.

Records keep a checksum of a batch's members, not the members. A pass begins when its first batch does and ends when
its last one ends, so it is joined to the batch of the first (last) layer with that start (end), if only one has it.
Over linked devices many begin at once, but a pass has its dense blocks at home, and the header says where homes are by
sequence. A step of lockstep ends for all passes together: there the last batch is the latest one at home.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from moe_replay.traces.runs.run_records import RunRecords

NOT_JOINED = -1


@dataclass(frozen=True)
class PassFlows:
    """The rows of `batches` that every pass begins and ends with [passes]; -1 where several, or none, may be it."""

    first_P: np.ndarray
    last_P: np.ndarray

    @property
    def not_joined(self) -> int:
        """Passes that lack one end."""
        return int(((self.first_P == NOT_JOINED) | (self.last_P == NOT_JOINED)).sum())


def pass_flows(records: RunRecords) -> PassFlows:
    """Return where every pass begins and ends."""
    batches, passes = records.batches, records.passes
    if not len(batches["layer"]):
        nowhere = np.full(len(passes["pass_id"]), NOT_JOINED)
        return PassFlows(nowhere, nowhere)
    is_first_X, is_last_X = batches["layer"] == batches["layer"].min(), batches["layer"] == batches["layer"].max()
    if (is_first_X & (batches["block"] == 0)).any():
        is_first_X &= batches["block"] == 0  # experts of the first layer come after its dense part
    home_P = homes_of(records)
    if home_P is None:
        return PassFlows(
            only_row(batches, "start_ns", is_first_X, passes["start_ns"]),
            only_row(batches, "end_ns", is_last_X, passes["end_ns"]),
        )
    first_P = only_row(batches, "start_ns", is_first_X, passes["start_ns"], batches["device"], home_P)
    return PassFlows(first_P, last_rows(records, is_last_X, home_P, first_P))


def homes_of(records: RunRecords) -> np.ndarray | None:
    """Return the device of every pass's dense blocks, None where records do not tell it."""
    config = records.header["config"]
    if not config["dense"] or records.header.get("homes") != "sequence":
        return None
    return records.passes["sequence"].astype(np.int64) % config["devices"]


def last_rows(records: RunRecords, is_last_X: np.ndarray, home_P: np.ndarray, first_P: np.ndarray) -> np.ndarray:
    """Return the last batch of every pass at its home.

    The tokens of a home take turns between micro-batches: one token has the same in every layer, as many tokens as
    there are micro-batches have all of them; what is between is not joined.
    """
    batches, passes = records.batches, records.passes
    device_X, parts = batches["device"].astype(np.int64), records.header["config"]["cluster"]["micro_batches"]
    latest_P = latest_rows(batches["end_ns"], is_last_X, passes["end_ns"], device_X, home_P)
    if parts == 1:
        return latest_P
    part_X = batches["micro_batch"].astype(np.int64)
    place_X, place_P = device_X * parts + part_X, home_P * parts + part_X[first_P]
    own_P = latest_rows(batches["end_ns"], is_last_X, passes["end_ns"], place_X, place_P)
    own_P[first_P == NOT_JOINED] = NOT_JOINED
    return np.where(passes["tokens"] == 1, own_P, np.where(passes["tokens"] >= parts, latest_P, NOT_JOINED))


def only_row(
    batches: dict[str, np.ndarray], name: str, allowed_X: np.ndarray, wanted_P: np.ndarray,
    place_X: np.ndarray | None = None, place_P: np.ndarray | None = None,
) -> np.ndarray:  # fmt: skip
    """Return the only allowed row with each wanted time (at its place, if given); -1 where none or several have it."""
    found_P = latest_rows(batches[name], allowed_X, wanted_P, place_X, place_P)
    found_P[batches[name][found_P] != wanted_P] = NOT_JOINED
    return found_P


def latest_rows(
    at_X: np.ndarray, allowed_X: np.ndarray, wanted_P: np.ndarray, place_X: np.ndarray | None,
    place_P: np.ndarray | None,
) -> np.ndarray:  # fmt: skip
    """Return the allowed row with the latest time up to each wanted one, at its place; -1 where none or several are."""
    row_A = np.flatnonzero(allowed_X)
    place_A = np.zeros(len(row_A), np.int64) if place_X is None else place_X[row_A].astype(np.int64)
    place_P = np.zeros(len(wanted_P), np.int64) if place_P is None else place_P
    # A place and a time become one number, by the order of the time among all.
    times, order_AP = np.unique(np.concatenate([at_X[row_A], wanted_P]), return_inverse=True)
    key_A, key_P = place_A * len(times) + order_AP[: len(row_A)], place_P * len(times) + order_AP[len(row_A) :]
    sorted_A = np.argsort(key_A, kind="stable")
    row_A, key_A, place_A = row_A[sorted_A], key_A[sorted_A], place_A[sorted_A]
    last_P = np.searchsorted(key_A, key_P, side="right") - 1
    is_one_P = (last_P >= 0) & (place_A[last_P] == place_P)
    is_one_P &= (last_P < 1) | (key_A[last_P - 1] != key_A[last_P])
    return np.where(is_one_P, row_A[last_P], NOT_JOINED)
