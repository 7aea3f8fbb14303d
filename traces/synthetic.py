"""Synthetic traces that state their own truth: the load and the reuse that each one's statistics imply, exactly.

Which k of E experts a row selects is drawn by *systematic sampling* (Madow 1949): the inclusion probabilities of the
experts, which sum to k, are laid end to end, and the points u, u+1, ..., u+k-1 with one uniform u pick the experts they
fall on. Every expert is included with exactly its probability, and none twice, since no probability exceeds 1. Laying
the experts in one of many random orders per row varies who appears together and changes no probability.
"""

from dataclasses import asdict, dataclass

import numpy as np

from moe_replay.traces.command_line.memory_room import check_room
from moe_replay.traces.command_line.number_limits import MOST, MOST_EXPERTS, MOST_LAYERS
from moe_replay.traces.errors import InputError
from moe_replay.traces.file.chunks import chunks
from moe_replay.traces.header import Header, ModelInfo
from moe_replay.traces.selections import Trace

TINY = 1e-290  # weights whose sum is less have lost digits
ORDERS = 64  # random orders per layer


@dataclass(frozen=True)
class SyntheticSpec:
    """What a synthetic trace is drawn from.

    `alpha` is the exponent of the Zipf law of the experts' popularity (0: all equal); which expert is the hottest
    differs from layer to layer. With probability `reuse` a row repeats the experts of the token before it in its
    sequence. Prompts and decodes are `low..high` tokens long, drawn uniformly; `batch` sequences run together: one step
    prefills them, then every step decodes one token of each that has not ended. Raises InputError if it cannot be.
    """

    layers: int = 4
    experts: int = 16
    k: int = 4
    alpha: float = 1.0
    reuse: float = 0.3
    sequences: int = 64
    prompt: tuple[int, int] = (16, 16)
    decode: tuple[int, int] = (16, 16)
    batch: int = 8
    scores: bool = True

    def __post_init__(self) -> None:
        limits = {"layers": MOST_LAYERS, "experts": MOST_EXPERTS, "k": MOST_EXPERTS, "sequences": MOST, "batch": MOST}
        for name, most in limits.items():
            if not 1 <= getattr(self, name) <= most:
                raise InputError(f"{name} is {getattr(self, name)}, allowed 1..{most:,}")
        if self.k > self.experts:
            raise InputError(f"k is {self.k}, allowed 1..{self.experts}, the experts")
        if not 0 <= self.alpha < np.inf:
            raise InputError(f"alpha is {self.alpha}, allowed >= 0")
        if not 0 <= self.reuse <= 1:
            raise InputError(f"reuse is {self.reuse}, allowed 0..1")
        for name, low in (("prompt", 1), ("decode", 0)):
            lengths = getattr(self, name)
            if not low <= lengths[0] <= lengths[1] <= MOST:
                raise InputError(f"{name} is {lengths[0]}..{lengths[1]}, allowed {low} <= low <= high <= {MOST:,}")


@dataclass(frozen=True)
class Synthetic:
    """A synthetic trace and its truth: `inclusion_LE`, the probability that a row of a layer selects an expert.

    `load_LE` are the expected selections, `reuse_L` the expected share of a row's experts that the token before it in
    its sequence selected too. Slots are exchangeable: at any smaller k the expected load is that share of `load_LE`.
    """

    trace: Trace
    inclusion_LE: np.ndarray
    load_LE: np.ndarray
    reuse_L: np.ndarray


def synthetic_trace(spec: SyntheticSpec, rng: np.random.Generator, provenance: dict | None = None) -> Synthetic:
    """Return a synthetic trace with its expected load and reuse; equal generators give equal traces.

    InputError for one that this machine's memory cannot hold.
    """
    most = spec.sequences * (spec.prompt[1] + spec.decode[1])
    check_room("tokens", most, 100 + spec.layers * (24 + spec.k * (2 + 20 * spec.scores)))
    check_room("experts of all layers", spec.layers * spec.experts, 8 * 3 * ORDERS)
    rows = order_of_execution(spec, rng)
    tokens = len(rows["sequence_T"])
    popular = inclusion(spec.alpha, spec.experts, spec.k)
    inclusion_LE = np.stack([rng.permutation(popular) for _ in range(spec.layers)])
    experts_TLK = drawn(inclusion_LE, tokens, spec.k, rng)
    repeat(experts_TLK, rows["sequence_T"], spec.reuse, rng)
    scores_TLK = simplex_scores(tokens, spec, rng) if spec.scores else None
    trace = Trace(header=header_of(spec, provenance or {}), experts_TLK=experts_TLK, scores_TLK=scores_TLK, **rows)
    reuse_L = spec.reuse + (1 - spec.reuse) * (inclusion_LE**2).sum(1) / spec.k
    return Synthetic(trace, inclusion_LE, tokens * inclusion_LE, reuse_L)


def inclusion(alpha: float, experts: int, k: int) -> np.ndarray:
    """Return the probability of each expert to be among the k of a row, descending; they sum to k.

    Proportional to rank^-alpha, except that what would exceed 1 is 1 and the others share the rest.
    """
    weight_E = np.arange(1, experts + 1) ** -float(alpha)
    certain = 0
    while True:
        left_E = weight_E[certain:]
        if certain < experts and left_E.sum() < TINY:  # so steep that only the hottest of those that are left counts
            left_E = (np.arange(certain + 1, experts + 1) / (certain + 1)) ** -float(alpha)
        share_E = (k - certain) * left_E / left_E.sum() if certain < experts else np.empty(0)
        exceeding = int((share_E > 1).sum())
        if not exceeding:
            return np.append(np.ones(certain), share_E)
        certain += exceeding


def drawn(inclusion_LE: np.ndarray, tokens: int, k: int, rng: np.random.Generator) -> np.ndarray:
    """Return experts_TLK: independent rows, each expert included with exactly its probability, in random slots."""
    layers, experts = inclusion_LE.shape
    experts_TLK = np.empty((tokens, layers, k), np.int16)
    for layer in range(layers):
        order_OE = rng.permuted(np.tile(np.arange(experts), (ORDERS, 1)), axis=1)
        ends_OE = np.cumsum(inclusion_LE[layer][order_OE], axis=1)
        ends_OE[:, -1] = k  # exactly, whatever was rounded on the way
        for rows in chunks(tokens, k):
            experts_TLK[rows, layer] = systematic(order_OE, ends_OE, k, rows.stop - rows.start, rng)
    return experts_TLK


def systematic(order_OE: np.ndarray, ends_OE: np.ndarray, k: int, rows: int, rng: np.random.Generator) -> np.ndarray:
    """Return experts (rows, k), each row drawn from one of the orders; in it an expert's stretch ends at `ends_OE`."""
    orders, experts = order_OE.shape
    chosen = rng.integers(orders, size=rows)
    points = rng.random(rows)[:, None] + np.arange(k)
    apart = (np.arange(orders) * (k + 1))[:, None]  # keeps the orders apart, so that one search serves all
    place = np.searchsorted((ends_OE + apart).ravel(), points + apart[chosen], side="right")
    place = np.minimum(place - chosen[:, None] * experts, experts - 1)
    return rng.permuted(order_OE[chosen[:, None], place], axis=1)


def repeat(experts_TLK: np.ndarray, sequence_T: np.ndarray, reuse: float, rng: np.random.Generator) -> None:
    """Let each row repeat, with probability `reuse`, the experts of the token before it in its sequence; in place.

    A repeated row has the same inclusion probabilities as the one it repeats, so the expected load does not change.
    """
    tokens, layers, _ = experts_TLK.shape
    by_sequence = np.argsort(sequence_T, kind="stable")
    sequence_T = sequence_T[by_sequence]
    fresh_TL = rng.random((tokens, layers)) >= reuse
    fresh_TL[0] = True
    fresh_TL[1:] |= (sequence_T[1:] != sequence_T[:-1])[:, None]
    source_TL = np.maximum.accumulate(np.where(fresh_TL, np.arange(tokens)[:, None], 0), axis=0)
    for layer in range(layers):
        experts_TLK[by_sequence, layer] = experts_TLK[by_sequence[source_TL[:, layer]], layer]


def simplex_scores(tokens: int, spec: SyntheticSpec, rng: np.random.Generator) -> np.ndarray:
    """Return scores_TLK: the k largest of E scores that are uniform on the simplex, descending."""
    scores_TLK = np.empty((tokens, spec.layers, spec.k), np.float32)
    for rows in chunks(tokens, spec.layers * spec.experts):
        scores = rng.standard_exponential((rows.stop - rows.start, spec.layers, spec.experts), dtype=np.float32)
        scores /= scores.sum(-1, keepdims=True)
        scores.sort(axis=-1)
        scores_TLK[rows] = scores[..., ::-1][..., : spec.k]
    return scores_TLK


def order_of_execution(spec: SyntheticSpec, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Return sequence_T, position_T, step_T, phase_T and prompt_len_S of the batches, one after another."""
    prompt_S = rng.integers(spec.prompt[0], spec.prompt[1] + 1, spec.sequences).astype(np.int32)
    decode_S = rng.integers(spec.decode[0], spec.decode[1] + 1, spec.sequences).astype(np.int32)
    sequence_T = np.repeat(np.arange(spec.sequences, dtype=np.int32), prompt_S + decode_S)
    first_S = np.cumsum(prompt_S + decode_S) - (prompt_S + decode_S)
    position_T = np.arange(len(sequence_T), dtype=np.int32) - first_S[sequence_T].astype(np.int32)
    decoded_T = np.maximum(position_T - prompt_S[sequence_T] + 1, 0)  # steps since the prefill of its batch
    batches = range(0, spec.sequences, spec.batch)
    steps = [1 + int(decode_S[first : first + spec.batch].max()) for first in batches]
    first_step = np.cumsum([0, *steps])[:-1]
    step_T = (first_step[sequence_T // spec.batch] + decoded_T).astype(np.int32)
    by_step = np.argsort(step_T, kind="stable")
    arrays = {"sequence_T": sequence_T, "position_T": position_T, "step_T": step_T}
    arrays["phase_T"] = (decoded_T > 0).astype(np.int8)
    return {name: values[by_step] for name, values in arrays.items()} | {"prompt_len_S": prompt_S}


def header_of(spec: SyntheticSpec, provenance: dict) -> Header:
    """Return the header of a synthetic trace; its notes hold what it was drawn from."""
    model = ModelInfo(
        name=f"synthetic-L{spec.layers}-E{spec.experts}",
        experts=spec.experts,
        used_k=spec.k,
        layer_ids=tuple(range(spec.layers)),
    )
    return Header(
        model=model,
        gate_rule="topk_renormalised",
        score_kind="softmax" if spec.scores else None,
        ranked=True,
        data={"name": "synthetic", "digest": None, "note": None},
        device="none",
        provenance=provenance,
        notes={"synthetic": asdict(spec)},
    )
