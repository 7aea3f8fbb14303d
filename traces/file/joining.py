"""Traces cut into pieces and joined again: parts of a recording, row groups of a file."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from moe_replay.traces.errors import InputError
from moe_replay.traces.selections import SEQUENCE_FIELDS, Trace


@dataclass(frozen=True)
class Groups:
    """Rows X grouped by sequence: the distinct ids, each one's first row, and each row's place among the ids."""

    ids_S: np.ndarray
    first_S: np.ndarray
    index_X: np.ndarray

    def collapse(self, name: str, values_X: np.ndarray, meaning: np.ndarray | None = None) -> np.ndarray:
        """Return one value per sequence, ascending by id; InputError if a sequence has two values.

        Where a `meaning` is given, values are places in it, and the entries there are returned.
        """
        values_S = values_X[self.first_S]
        marked_X = values_S[self.index_X] != values_X
        if marked_X.any():
            at = int(marked_X.argmax())
            place = self.index_X[at]
            both = [value if meaning is None else meaning[value] for value in (values_S[place], values_X[at])]
            found = f"{name.rsplit('_', 1)[0]} is both {both[0]} and {both[1]}"
            raise InputError(f"sequence {self.ids_S[place]}: {found}, allowed one value per sequence")
        return values_S if meaning is None else meaning[values_S]


def group(ids_X: np.ndarray) -> Groups:
    """Return rows grouped by sequence id; ascending ids, the usual case, are not sorted again."""
    if (ids_X[1:] >= ids_X[:-1]).all():
        new_X = np.append(True, ids_X[1:] != ids_X[:-1])
        return Groups(ids_X[new_X], np.flatnonzero(new_X), np.cumsum(new_X, dtype=np.int32) - 1)
    return Groups(*np.unique(ids_X, return_index=True, return_inverse=True))


def concatenate(traces: Sequence[Trace]) -> Trace:
    """Return one trace of several that continue each other; InputError if they differ in header, fields or K."""
    first = traces[0]
    for other in traces[1:]:
        if other.header != first.header or other.present != first.present or other.K != first.K:
            raise InputError("parts of one trace differ in header, in columns or in K, allowed: equal ones")
    if len(traces) == 1:
        return first
    merged = {name: np.concatenate([getattr(each, name) for each in traces]) for name in first.present}
    groups = group(np.concatenate([each.sequences_S for each in traces]))
    known = {name: groups.collapse(name, merged[name]) for name in first.present if name in SEQUENCE_FIELDS}
    return replace(first, **{**merged, **known})


def copied(trace: Trace) -> Trace:
    """Return the trace with arrays of its own."""
    return replace(trace, **{name: getattr(trace, name).copy() for name in trace.present})


class Pieces:
    """Cuts a stream of traces into pieces of exactly `tokens` tokens; keeps less than one piece of what is added.

    What has to wait is copied, so that whoever added it may use its arrays for the next tokens.
    """

    def __init__(self, tokens: int) -> None:
        self.tokens = tokens
        self.waiting: list[Trace] = []
        self.missing = tokens

    def add(self, trace: Trace) -> list[Trace]:
        """Take a trace, return the pieces that are now complete."""
        complete, start = [], 0
        while start < trace.T:
            stop = min(trace.T, start + self.missing)
            part = trace if stop - start == trace.T else trace.rows(start, stop)
            self.missing -= part.T
            self.waiting.append(copied(part) if self.missing else part)
            start = stop
            if not self.missing:
                complete += self.rest()
        return complete

    def rest(self) -> list[Trace]:
        """Return what is waiting as the last, shorter piece; nothing if nothing waits."""
        waiting, self.waiting, self.missing = self.waiting, [], self.tokens
        return [concatenate(waiting)] if waiting else []
