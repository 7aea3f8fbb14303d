"""Rows that are no data: what programs leave where no route was captured, told from selections by how they look.

*Filled* rows hold one id in every slot: zeros (a prompt that was computed elsewhere, a buffer that was never written),
or what -1 becomes in eight bits. *Padding* holds 0, 1, ..., k-1, which is what a router's top-k gives for a row of
equal scores. Of several slots no real row holds one id in all. What a real row may hold by chance is only called no
data where chance would need a coin to fall the same way CHANCE_BITS times.
"""

import math

import numpy as np

from moe_replay.traces.errors import InputError
from moe_replay.traces.file.chunks import chunks
from moe_replay.traces.selections import Trace

FILLINGS = (0, 255)  # beside -1
CHANCE_BITS = 40
SKEW = 2  # loads are skewed, so that a hot expert's id says less than log2 E bits
SURE_BITS = 20  # with less for a token, only tokens after each other tell: a hot expert's tokens are scattered
SAMPLE = 65_536  # tokens whose layers tell how often a real row looks like padding


def filled_rows(experts_TLK: np.ndarray, experts: int) -> np.ndarray:
    """Return which rows (T, L) hold one of FILLINGS in every slot and cannot be a route."""
    if experts_TLK.shape[2] == 1:
        return long_runs(experts_TLK[:, :, 0], experts)
    return same_filling(experts_TLK)


def same_filling(experts_TLK: np.ndarray) -> np.ndarray:
    """Return which rows (T, L) hold one of FILLINGS in every slot."""
    marked_TL = np.zeros(experts_TLK.shape[:2], bool)
    for run in chunks(*experts_TLK.shape[:2]):
        first_TL = experts_TLK[run, :, 0]
        same_TL = first_TL == experts_TLK[run, :, -1]
        if same_TL.any() and (same_TL := same_TL & np.isin(first_TL, FILLINGS)).any():
            marked_TL[run] = same_TL & (experts_TLK[run] == first_TL[:, :, None]).all(2)
    return marked_TL


def long_runs(expert_TL: np.ndarray, experts: int) -> np.ndarray:
    """Return which rows (T, L) of one slot are in a run of one filling in all layers that is too long for chance."""
    tokens, layers = expert_TL.shape
    marked_T = np.zeros(tokens, bool)
    if experts > 1:
        bits = layers * math.log2(experts) / SKEW
        for filling in FILLINGS:
            marked_T |= in_long_runs((expert_TL == filling).all(1), bits, bits)
    return np.repeat(marked_T[:, None], layers, 1)


def in_long_runs(looks_T: np.ndarray, bits: float, again_bits: float) -> np.ndarray:
    """Return which of the marked tokens are in a run too long for chance.

    A run's first token says `bits`, every other `again_bits`.
    """
    start_R = np.flatnonzero(np.diff(looks_T, prepend=False) & looks_T)
    stop_R = np.flatnonzero(np.diff(looks_T, append=False) & looks_T) + 1
    marked_T = np.zeros(len(looks_T), bool)
    for start, stop in zip(start_R.tolist(), stop_R.tolist(), strict=True):
        told = bits + (stop - start - 1) * again_bits
        marked_T[start:stop] = told >= CHANCE_BITS + math.log2(len(looks_T))
    return marked_T


def padding_tokens(experts_TLK: np.ndarray, experts: int) -> np.ndarray:
    """Return which tokens (T) hold 0, 1, ..., k-1 in every layer and cannot be routes; with one slot see filled_rows.

    Where a token says much (many layers, many experts), every such token is marked if there are more of them than
    chance explains; else only those that follow each other in long runs.
    """
    tokens, _, k = experts_TLK.shape
    looks_T = np.zeros(tokens, bool)
    if k < 2 or k > experts:
        return looks_T
    # The ends of the first layer's rows rule out almost all tokens, whatever the number of layers.
    maybe_R = np.flatnonzero((experts_TLK[:, 0, 0] == 0) & (experts_TLK[:, 0, -1] == k - 1))
    looks_T[maybe_R] = (experts_TLK[maybe_R] == np.arange(k)).all((1, 2))
    if not looks_T.any():
        return looks_T
    bits, again_bits = padding_bits(experts_TLK, looks_T, experts)
    if bits < SURE_BITS:
        return in_long_runs(looks_T, bits, again_bits)
    runs, count = int((np.diff(looks_T, prepend=False) & looks_T).sum()), int(looks_T.sum())
    told = runs * (bits - math.log2(math.e * tokens / runs)) + (count - runs) * again_bits  # by Chernoff's bound
    return looks_T & (told >= CHANCE_BITS)


def padding_bits(experts_TLK: np.ndarray, looks_T: np.ndarray, experts: int) -> tuple[float, float]:
    """Return how many bits a token says that looks like padding, of the chance that a real one does; and one again.

    The other tokens tell: a layer's chance is how often they hold 0..k-1 there, if that is more than chance and skew
    explain, and a token comes again as often as they repeat the one before them.
    """
    k = experts_TLK.shape[2]
    others = np.flatnonzero(~looks_T)
    start = max(0, (len(others) - SAMPLE) // 2)
    others = experts_TLK[others[start : start + SAMPLE]]
    kept_order = bool((np.diff(others, axis=2) < 0).any())
    ways = math.perm(experts, k) if kept_order else math.comb(experts, k)
    most = math.log2(ways) / SKEW
    share_L = (others == np.arange(k)).all(2).mean(0) if len(others) else np.zeros(experts_TLK.shape[1])
    bits = float(sum(min(most, -math.log2(share) if share else most) for share in share_L.tolist()))
    repeats = float((others[1:] == others[:-1]).all((1, 2)).mean()) if len(others) > 1 else 0.0
    return bits, min(bits, -math.log2(repeats) if repeats else bits)


def check_data(trace: Trace) -> None:
    """Refuse a trace whose rows are partly no data, with the first place and the number; -1 says so itself.

    A trace whose import was told that such rows are routes (`--unrouted real`) is believed.
    """
    experts = trace.header.model.experts
    if trace.header.notes.get("unrouted") == "real":
        return
    filled_TL = filled_rows(trace.experts_TLK, experts)
    padding_T = padding_tokens(trace.experts_TLK, experts)
    for marked_T, what in (
        (filled_TL.any(1), "hold one id in every slot, where no route was captured"),
        (padding_T, f"hold 0..{trace.K - 1} in every slot of every layer, as padding does"),
    ):
        if count := int(marked_T.sum()):
            first = int(marked_T.argmax())
            place = f"row {first} (sequence {trace.sequence_T[first]}, position {trace.position_T[first]})"
            raise InputError(
                f"{place} is no data: {count:,} of {trace.T:,} tokens {what}; allowed: an import with --leave-out"
            )
