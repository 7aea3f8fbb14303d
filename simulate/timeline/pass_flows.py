"""Which batch a pass begins with and which it ends with: the arrows that follow it through a timeline.

Records keep a checksum of a batch's members, not the members. A pass begins when its first batch does and ends when
its last one ends, so it is joined to the batch of the first (last) layer with that start (end), if only one has it.
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
    return PassFlows(
        only_row(batches["start_ns"], is_first_X, passes["start_ns"]),
        only_row(batches["end_ns"], is_last_X, passes["end_ns"]),
    )


def only_row(at_X: np.ndarray, allowed_X: np.ndarray, wanted_P: np.ndarray) -> np.ndarray:
    """Return the only allowed row with each wanted time, -1 where there is none or more than one."""
    row_A = np.flatnonzero(allowed_X)
    row_A = row_A[np.argsort(at_X[row_A], kind="stable")]
    low_P = np.searchsorted(at_X[row_A], wanted_P, side="left")
    high_P = np.searchsorted(at_X[row_A], wanted_P, side="right")
    found_P = np.full(len(wanted_P), NOT_JOINED)
    is_one_P = high_P - low_P == 1
    found_P[is_one_P] = row_A[low_P[is_one_P]]
    return found_P
