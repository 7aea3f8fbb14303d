"""The accesses that a trace makes: in flat mode one stream per cache, in group mode the groups that run together."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from moe_replay.simulate.policies.caches.cache_names import key_ranges
from moe_replay.simulate.policies.memory.knowledge import Group
from moe_replay.traces.describe import slots
from moe_replay.traces.errors import InputError, unknown_name
from moe_replay.traces.selections import Trace

GROUPINGS = ("pass", "step")
EMPTIED = ("never", "sequence")  # when caches are: not at all, or before every sequence
LONGEST = 2**31 - 2  # positions are counted in int32


@dataclass(frozen=True)
class Stream:
    """The accesses of one cache, in order. Its experts are the keys `keys`; `expert_A` (int32) counts from the first.

    The cache is emptied at the accesses `start_S` (int64), of which the first is 0. `layer` is None where it serves
    all layers.
    """

    expert_A: np.ndarray
    start_S: np.ndarray
    keys: range
    layer: int | None

    def stretches(self) -> list[list[int]]:
        """Return the keys accessed between one emptying and the next."""
        keys = (self.expert_A + self.keys.start).tolist()
        ends = [*self.start_S[1:].tolist(), len(keys)]
        return [keys[start:end] for start, end in zip(self.start_S.tolist(), ends, strict=True)]


def flat_streams(trace: Trace, k: int | None, scope: str, emptied: str = "never") -> list[Stream]:
    """Return the stream of every cache: rows in stored order, in each the first k selections in stored order.

    Under the global scope a row is accessed layer by layer. `emptied` before every `sequence`, each meets empty
    caches: its rows are together in the stream, even where the trace ran several sequences at once.
    """
    ranges = key_ranges(scope, trace.L, trace.E)
    experts_TLK, first_row_S = slots(trace, k), np.zeros(1, np.int64)
    if emptied == "sequence":
        order_T = np.argsort(trace.sequence_T, kind="stable")
        experts_TLK = experts_TLK[order_T]
        first_row_S = np.append(0, np.flatnonzero(np.diff(trace.sequence_T[order_T])) + 1)
    if scope == "global":
        layer_L1 = np.arange(trace.L, dtype=np.int32)[:, None] * trace.E
        key_TLK = np.where(experts_TLK >= 0, experts_TLK + layer_L1, -1)
        return [stream(key_TLK.reshape(trace.T, -1), first_row_S, ranges[0], None)]
    return [stream(experts_TLK[:, layer], first_row_S, ranges[layer], layer) for layer in range(trace.L)]


def stream(expert_TK: np.ndarray, first_row_S: np.ndarray, keys: range, layer: int | None) -> Stream:
    """Return the stream of some rows, without their empty slots (-1)."""
    filled_TK = expert_TK >= 0
    before_T = np.append(0, np.cumsum(filled_TK.sum(1)))
    if before_T[-1] > LONGEST:
        raise InputError(f"one cache serves {before_T[-1]:,} accesses, allowed {LONGEST:,}")
    return Stream(expert_TK[filled_TK].astype(np.int32), before_T[first_row_S], keys, layer)


def group_stretches(trace: Trace, k: int | None, grouping: str = "pass", emptied: str = "never") -> list[list[Group]]:
    """Return the groups of a trace in order, cut where the caches are emptied.

    A group is what one pass (or one step: all passes of a forward call) selects in one layer; it goes through the
    layers in order, and its experts run in ascending order. A step may serve several sequences, so that emptying the
    caches per sequence is allowed for passes only; the passes of a sequence are then together.
    """
    if grouping not in GROUPINGS:
        raise unknown_name("grouping", grouping, GROUPINGS)
    by_sequence = emptied == "sequence"
    if by_sequence and grouping != "pass":
        raise InputError(f"emptying the caches per sequence is not allowed for groups of a {grouping}; allowed: pass")
    sequence_P, group_T = grouped_rows(trace, grouping, by_sequence)
    groups = layer_groups(slots(trace, k), group_T, sequence_P, trace.E)
    if not groups:
        raise InputError("group mode needs groups, and the trace has no selections")
    if not by_sequence:
        return [groups]
    starts = [0, *(i for i in range(1, len(groups)) if groups[i].sequence != groups[i - 1].sequence), len(groups)]
    return [groups[start:end] for start, end in pairwise(starts)]


def grouped_rows(trace: Trace, grouping: str, by_sequence: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return the sequence of every pass or step (-1: several), and the one that every row belongs to."""
    passes = trace.passes
    length_P = passes.last_row_P - passes.first_row_P + 1
    if grouping == "pass":
        order_P = np.argsort(passes.sequence_P, kind="stable") if by_sequence else np.arange(len(passes))
        place_P = np.empty(len(passes), np.int64)
        place_P[order_P] = np.arange(len(passes))
        return passes.sequence_P[order_P], np.repeat(place_P, length_P)
    starts_P = np.append(True, np.diff(passes.step_P) != 0)
    first_P = np.flatnonzero(starts_P)
    alone = np.diff(first_P, append=len(passes)) == 1
    return np.where(alone, passes.sequence_P[first_P], -1), np.repeat(np.cumsum(starts_P) - 1, length_P)


def layer_groups(experts_TLK: np.ndarray, group_T: np.ndarray, sequence_P: np.ndarray, experts: int) -> list[Group]:
    """Return the distinct experts of every pass or step in every layer, those without any left out."""
    layers = experts_TLK.shape[1]
    place_TL1 = (group_T[:, None] * layers + np.arange(layers))[..., None]
    selected = np.unique((place_TL1 * experts + experts_TLK)[experts_TLK >= 0])
    place, first = np.unique(selected // experts, return_index=True)
    members = (selected % (layers * experts)).tolist()
    ends = [*first[1:].tolist(), len(members)]
    layer, sequence = (place % layers).tolist(), sequence_P[place // layers].tolist()
    return [
        Group(layer[i], sequence[i], tuple(members[start:end]))
        for i, (start, end) in enumerate(zip(first.tolist(), ends, strict=True))
    ]
