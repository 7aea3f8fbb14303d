"""Rows of selections as serving engines keep them: their known traps, and the trace that sequences of rows make."""

import math
from dataclasses import dataclass

import numpy as np

from moe_replay.traces.command_line.number_limits import narrowed
from moe_replay.traces.errors import InputError
from moe_replay.traces.file.checks import such
from moe_replay.traces.file.chunks import chunks

COPY_BITS = 64  # layers are copies of each other only where chance would need a coin to fall the same way so often


def check_ids(
    place: str, experts_TLK: np.ndarray, experts: int, lowest: int = 0, layer_ids: tuple[int, ...] | None = None,
    hints: bool = True,
) -> None:  # fmt: skip
    """Refuse what is no array [rows, layers, k] of expert ids within lowest..experts-1.

    Messages call layers by `layer_ids`, or 0, 1, ... where there are none; `hints` say what larger ids may be.
    """
    check_array(place, experts_TLK)
    if lowest <= experts_TLK.min() and experts_TLK.max() < experts:  # the usual case, without masks of their size
        return
    wrong = (experts_TLK >= experts) | (experts_TLK < lowest)
    if count := int(np.count_nonzero(wrong)):
        row, layer, slot = (int(at) for at in np.unravel_index(int(wrong.argmax()), wrong.shape))
        layer_id = layer_ids[layer] if layer_ids else layer
        found = f"row {row}, layer {layer_id}, slot {slot}: expert is {experts_TLK[row, layer, slot]}"
        line = f"{place}: {found}, allowed {lowest}..{experts - 1} ({such(count)})"
        raise InputError(line + (beyond_text(experts_TLK, experts) if hints else ""))


def beyond_text(experts_TLK: np.ndarray, experts: int) -> str:
    """Return what ids from `experts` on may be, where no id is below -1: nothing to say of others."""
    most = int(experts_TLK.max())
    if int(experts_TLK.min()) < -1 or not experts <= most < 4 * experts:
        return ""
    return (
        f"; ids up to {most} may be experts without weights (--zero-experts, counted in --experts), shared ones "
        "(--shared-slots) or slots of replicas (--map)"
    )


def check_array(place: str, experts_TLK: np.ndarray) -> None:
    """Refuse what is no array [rows, layers, k] of whole numbers."""
    if experts_TLK.ndim != 3 or 0 in experts_TLK.shape:
        raise InputError(f"{place}: experts have shape {experts_TLK.shape}, allowed [rows, layers, k], none of them 0")
    if experts_TLK.dtype.kind not in "iu":
        raise InputError(f"{place}: experts are {experts_TLK.dtype}, allowed whole numbers")


def check_copies(place: str, experts_TLK: np.ndarray, layer_ids: tuple[int, ...], experts: int) -> None:
    """Refuse layers that hold the same selections in every row, where that cannot be chance."""
    tokens, _, k = experts_TLK.shape
    if experts < 2 or k >= experts or tokens * math.log2(math.comb(experts, k)) < COPY_BITS:
        return
    seen = {}  # by their first rows, which tell most layers apart
    for layer, layer_id in enumerate(layer_ids):
        alike = seen.setdefault(experts_TLK[:1024, layer].tobytes(), [])
        for before in alike:
            if np.array_equal(experts_TLK[:, before], experts_TLK[:, layer]):
                both = f"layers {layer_ids[before]} and {layer_id} hold the same experts in all {tokens} rows"
                raise InputError(f"{place}: {both}, allowed: layers of their own, not copies")
        alike.append(layer)


SHARED = (
    "it looks like a shared expert; allowed: --shared-slots N to leave the last N slots out, and --experts without them"
)


def without_shared(place: str, experts_TLK: np.ndarray, experts: int, slots: int | None) -> np.ndarray:
    """Return rows without their last `slots`, those of shared experts that run for every token (None: not stated).

    Engines that fuse shared experts with the routed ones append them to each row, under ids from E on. Layers that
    hold nothing are dense ones. InputError where such slots are not stated, or where stated ones hold something else.
    """
    k = experts_TLK.shape[2]
    if not slots and experts_TLK.max() < experts:
        return experts_TLK
    used_L = (experts_TLK > 0).any((0, 2))
    shared_K = (experts_TLK[:, used_L] >= experts).all((0, 1)) & used_L.any()
    if slots is None and shared_K.any() and not shared_K.all() and (experts_TLK[:, :, ~shared_K] < experts).all():
        slot = int(shared_K.argmax())
        lowest = experts_TLK[:, used_L, slot].min()
        raise InputError(f"{place}: slot {slot} holds ids from {lowest} on in all rows: {SHARED}")
    if not slots:
        return experts_TLK
    if slots >= k:
        raise InputError(f"{place}: --shared-slots {slots}, allowed fewer than the {k} slots of a row")
    for slot in range(k - slots, k):
        if not shared_K[slot] and used_L.any():
            ids = experts_TLK[:, used_L, slot]
            found = f"slot {slot} holds {ids.min()}..{ids.max()}"
            raise InputError(f"{place}: {found}, allowed in one of --shared-slots: ids from {experts} on, --experts")
    return experts_TLK[:, :, : k - slots]


def check_no_shared(place: str, experts_TLK: np.ndarray, experts: int, slots: int | None) -> None:
    """Refuse an expert that is in every row of every layer, where that cannot be chance; `slots` stated: keep it."""
    tokens, layers, k = experts_TLK.shape
    if slots is not None or layers < 2 or k >= experts or tokens * layers * math.log2(experts / k) < COPY_BITS:
        return
    always = [expert for expert in np.unique(experts_TLK[0, 0]).tolist() if expert >= 0]
    for run in chunks(tokens, layers):
        always = [expert for expert in always if (experts_TLK[run] == expert).any(2).all()]
        if not always:
            return
    found = f"expert {always[0]} is in all {tokens} rows of all {layers} layers"
    raise InputError(f"{place}: {found}: {SHARED}; --shared-slots 0 keeps it")


def without_dense(place: str, experts_TLK: np.ndarray, layer_ids: tuple[int, ...]) -> np.ndarray:
    """Return the MoE layers' part of rows that have slots for dense layers too, which hold zeros (or only -1).

    Zeros look like expert 0, so the MoE layers must be named: a dense layer with an expert is refused, and so is a
    MoE layer that holds nothing but zeros.
    """
    for empty, value in ((not experts_TLK.any(), "zeros"), (bool((experts_TLK == -1).all()), "-1")):
        if empty:
            raise InputError(f"{place}: all {experts_TLK.shape[1]} layers hold only {value}: no routes were captured")
    for layer in range(experts_TLK.shape[1]):
        held = experts_TLK[:, layer]
        idle = not held.any() or bool((held == -1).all())
        if idle == (layer in layer_ids):
            found = "is in --layers, but holds only zeros" if idle else "is not in --layers, but holds experts"
            raise InputError(f"{place}: layer {layer} {found}, allowed: zeros exactly in the dense layers")
    return experts_TLK[:, list(layer_ids)]


@dataclass(frozen=True)
class Sequences:
    """Where S sequences are in a file's rows: `length_S` rows each, of which the first `prefill_S` are prompt.

    `first_position_S` is the position of a sequence's first row. Where `joined_S`, rows continue the sequence before
    them, behind a prompt of their own (turns of a conversation); None: nowhere.
    """

    length_S: np.ndarray
    prefill_S: np.ndarray
    first_position_S: np.ndarray
    joined_S: np.ndarray | None = None

    def token_fields(self) -> dict[str, np.ndarray]:
        """Return sequence_T, position_T, step_T, phase_T as if sequences ran one after another.

        A prompt is one pass, every later token one of its own. What really ran together the files do not tell.
        """
        joined_S = np.zeros(len(self.length_S), bool) if self.joined_S is None else self.joined_S
        # In 32 bits, which hold every row: millions of tokens should not take gigabytes on the way.
        narrowed("position", self.first_position_S + np.maximum(self.length_S, 1) - 1, np.int32)
        start_S = narrowed("row", np.cumsum(self.length_S) - self.length_S, np.int32)
        tokens = int(narrowed("row", self.length_S.sum(), np.int32))
        position_T = np.arange(tokens, dtype=np.int32)
        position_T -= np.repeat(start_S, self.length_S)
        decode_T = position_T >= np.repeat(narrowed("prompt_len", self.prefill_S, np.int32), self.length_S)
        step_T = np.cumsum((position_T == 0) | decode_T, dtype=np.int32)
        step_T -= 1
        position_T += np.repeat(self.first_position_S.astype(np.int32), self.length_S)
        sequence_S = (np.cumsum(~joined_S) - 1).astype(np.int32)
        return {
            "sequence_T": np.repeat(sequence_S, self.length_S),
            "position_T": position_T,
            "step_T": step_T,
            "phase_T": decode_T.view(np.int8),
        }


ONE_AFTER_ANOTHER = {"steps": "sequences one after another, a prompt in one pass: the source does not tell the batches"}
