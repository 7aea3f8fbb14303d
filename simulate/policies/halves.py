"""The two halves of a trace: what is learned beforehand comes from the first, what is counted from the second.

Halves are of the sequences, in the order of their first rows, or of the steps where the trace has one sequence; of an
odd number the second half has one more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from moe_replay.traces.errors import InputError

if TYPE_CHECKING:
    from moe_replay.traces.selections import Trace

ALL, SECOND_HALF = "all", "second-half"
SERVED = (ALL, SECOND_HALF)  # which part of a trace a run serves


@dataclass(frozen=True)
class Halves:
    """`second_T` says which rows belong to the second half; `first` of `whole` sequences (or steps) do not.

    `shared` is the number of steps that hold rows of both halves: what is counted of them is only a part.
    """

    second_T: np.ndarray
    first: int
    whole: int
    unit: str
    shared: int = 0

    @property
    def said(self) -> str:
        """What was learned on and what was counted, in words."""
        rest = self.whole - self.first
        said = f"learned on the first {self.first} of {self.whole} {self.unit}, counted on the other {rest}"
        if self.shared:
            said += f" (steps that hold both, {self.shared} in all, count without the tokens of the first)"
        return said


def halves(sequence_T: np.ndarray, step_T: np.ndarray) -> Halves:
    """Return the halves of a trace with these columns; InputError for one sequence of one step."""
    unit, of_T = "sequences", sequence_T
    if (sequence_T == sequence_T[:1]).all():
        unit, of_T = "steps", step_T
    _, first_T, place_T = np.unique(of_T, return_index=True, return_inverse=True)
    whole = len(first_T)
    if whole < 2:
        raise InputError(
            "one sequence of one step has no halves to learn on and to count on; allowed: --known TRACE, another trace,"
            " or --known hindsight"
        )
    order = np.empty(whole, np.int64)
    order[np.argsort(first_T)] = np.arange(whole)
    second_T = order[place_T.ravel()] >= whole // 2
    shared = len(np.intersect1d(step_T[second_T], step_T[~second_T]))
    return Halves(second_T, whole // 2, whole, unit, shared)


def sequences_served(trace: Trace, served: str) -> int:
    """Return how many sequences the served part of a trace has."""
    if served == ALL:
        return trace.S
    return len(np.unique(trace.sequence_T[halves(trace.sequence_T, trace.step_T).second_T]))
