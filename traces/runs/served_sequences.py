"""The sequences that a run served: when each arrived, when it was done, how many passes and tokens it had.

A sequence that is served twice (a trace that is cycled) counts twice.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Served:
    """Served sequences in the order of the workload: first arrival, last end, passes and tokens of each."""

    arrival_ns: np.ndarray
    end_ns: np.ndarray
    passes: np.ndarray
    tokens: np.ndarray

    def __len__(self) -> int:
        return len(self.arrival_ns)


def served_sequences(passes: dict[str, np.ndarray]) -> Served:
    """Return the sequences behind a table of passes.

    Passes are numbered sequence after sequence, each in the order of its steps: where the sequence changes, or the step
    does not grow, another one begins.
    """
    order = np.argsort(passes["pass_id"], kind="stable")
    sequence, step = passes["sequence"][order], passes["step"][order]
    begins = np.flatnonzero(np.r_[True, (sequence[1:] != sequence[:-1]) | (step[1:] <= step[:-1])][: len(order)])
    if len(begins) == 0:
        none = np.zeros(0, np.int64)
        return Served(none, none, none, none)
    return Served(
        passes["arrival_ns"][order][begins],
        np.maximum.reduceat(passes["end_ns"][order], begins),
        np.diff(np.append(begins, len(order))),
        np.add.reduceat(passes["tokens"][order].astype(np.int64), begins),
    )
