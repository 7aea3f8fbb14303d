"""Recorded selections in batches: what planners are shown and what their placements are scored on.

Letters: B batches, L layers, E experts, T tokens, K selections of a token, D devices.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from moe_replay.simulate.placing.load_profile import LoadProfile
from moe_replay.traces.describe import default_k, slots
from moe_replay.traces.errors import InputError
from moe_replay.traces.load_trace import LoadTrace
from moe_replay.traces.selections import Trace


@dataclass(frozen=True, eq=False)
class Batches:
    """Selections in batches; of tokens also the batch, the sequence and the rank, None where only counts are known.

    `whole_B` are the batches of full size: shares of the largest device are taken over these alone.
    """

    profile: LoadProfile
    whole_B: np.ndarray
    batch_T: np.ndarray | None = None
    sequence_T: np.ndarray | None = None
    rank_T: np.ndarray | None = None

    def homes(self, devices: int) -> np.ndarray:
        """Return every token's home device [T]: its rank where all ranks are devices, else its sequence % devices."""
        if self.rank_T is not None and self.rank_T.max() < devices:
            return self.rank_T.astype(np.int64)
        return self.sequence_T.astype(np.int64) % devices

    def some(self, wanted_B: np.ndarray) -> Batches:
        """Return some of the batches, whose numbers ascend."""
        load_BLE = self.profile.load_BLE[wanted_B]
        if self.batch_T is None:
            return Batches(LoadProfile(load_BLE), self.whole_B[wanted_B])
        kept_T = np.isin(self.batch_T, wanted_B)
        return Batches(
            LoadProfile(load_BLE, self.profile.experts_TLK[kept_T]), self.whole_B[wanted_B],
            np.searchsorted(wanted_B, self.batch_T[kept_T]), self.sequence_T[kept_T],
            None if self.rank_T is None else self.rank_T[kept_T],
        )  # fmt: skip


def token_batches(trace: Trace, rows: int, wanted_T: np.ndarray | None = None, rest: bool = False) -> Batches:
    """Return a trace's tokens (those of a mask) in batches of `rows`, in the order of the trace.

    What does not fill a last batch is dropped; with `rest` it is kept as a batch that is not whole. Of every token the
    first k experts count, k the model's own where the trace kept their order.
    """
    kept = np.arange(trace.T) if wanted_T is None else np.flatnonzero(wanted_T)
    kept = kept if rest else kept[: len(kept) // rows * rows]
    experts_TLK = slots(trace, default_k(trace))[kept]
    batch_T = np.arange(len(kept)) // rows
    batches = int(batch_T[-1]) + 1 if len(kept) else 0
    load_BLE = np.empty((batches, trace.L, trace.E), np.int64)
    for layer in range(trace.L):
        filled = experts_TLK[:, layer] >= 0
        place = np.broadcast_to(batch_T[:, None] * trace.E, filled.shape)[filled] + experts_TLK[:, layer][filled]
        load_BLE[:, layer] = np.bincount(place, minlength=batches * trace.E).reshape(batches, trace.E)
    whole_B = np.bincount(batch_T, minlength=batches) == rows
    rank_T = None if trace.rank_T is None else trace.rank_T[kept]
    return Batches(LoadProfile(load_BLE, experts_TLK), whole_B, batch_T, trace.sequence_T[kept], rank_T)


def counted_batches(loads: LoadTrace) -> Batches:
    """Return a load trace's iterations as batches, ranks and microbatches together; without those that are empty."""
    load_BLE = loads.load_SRMLE.sum((1, 2))[loads.used_S][..., : loads.model.real_experts]
    return Batches(LoadProfile(np.ascontiguousarray(load_BLE)), np.ones(len(load_BLE), bool))


def all_batches(recorded: Trace | LoadTrace, rows: int, rest: bool = False) -> Batches:
    """Return all that was recorded; InputError where that is not one batch."""
    counts = isinstance(recorded, LoadTrace)
    found = counted_batches(recorded) if counts else token_batches(recorded, rows, rest=rest)
    if not len(found.profile.load_BLE):
        held = "no selections" if counts else f"{recorded.T} tokens"
        raise InputError(f"{held}, allowed: at least one batch of {rows} tokens (--batch)")
    return found


def domain_batches(recorded: Trace | LoadTrace, rows: int) -> dict[str, Batches]:
    """Return the batches of every domain, by its name; none where the trace does not tell any."""
    if isinstance(recorded, LoadTrace):
        named = recorded.notes.get("domains")
        if not isinstance(named, list) or len(named) != len(recorded.iteration_S):
            return {}
        whole = counted_batches(recorded)
        domain_B = np.array([str(each) for each in named])[recorded.used_S]
        return {domain: whole.some(np.flatnonzero(domain_B == domain)) for domain in dict.fromkeys(domain_B.tolist())}
    if recorded.domain_S is None:
        return {}
    domain_T = recorded.domain_S[np.searchsorted(recorded.sequences_S, recorded.sequence_T)]
    names = dict.fromkeys(recorded.domain_S.tolist())
    return {name: token_batches(recorded, rows, domain_T == name, rest=True) for name in names}
