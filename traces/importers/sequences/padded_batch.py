"""Padded batches: selections [batch, length, layers, k] with a mask that says which places hold tokens."""

from __future__ import annotations

import numpy as np

from moe_replay.traces.errors import InputError

MASKS = ("attention_mask", "mask", "valid_mask", "token_mask")


def mask_of(place: str, arrays: dict[str, np.ndarray], shape: tuple[int, int]) -> np.ndarray:
    """Return the mask [batch, length]; InputError where there is none, or it has a hole within a sequence."""
    name = next((each for each in MASKS if each in arrays), None)
    if name is None:
        raise InputError(f"{place}: a batch axis without a mask, allowed {', '.join(MASKS)}: which places hold tokens")
    mask_BT = arrays[name]
    if mask_BT.shape != shape or mask_BT.dtype.kind not in "iufb" or not np.isin(mask_BT, (0, 1)).all():
        found = f"{name} is {mask_BT.dtype} of shape {mask_BT.shape}"
        raise InputError(f"{place}: {found}, allowed 0 and 1 of shape {shape}, as the experts' batch and length")
    mask_BT = mask_BT.astype(bool)
    begins_B = np.diff(np.pad(mask_BT.astype(np.int8), ((0, 0), (1, 1))), axis=1).clip(0).sum(1)
    if (begins_B != 1).any():
        row = int((begins_B != 1).argmax())
        found = "has no tokens" if not begins_B[row] else f"has tokens in {begins_B[row]} pieces"
        raise InputError(f"{place}: {name}: row {row} {found}, allowed one piece of tokens in each")
    return mask_BT


def prompts_of(place: str, arrays: dict[str, np.ndarray], mask_BT: np.ndarray) -> np.ndarray | None:
    """Return the prompt tokens of every row: from prompt_len, response_mask, responses or prompts; None without any."""
    batch, length = mask_BT.shape
    tokens_B = mask_BT.sum(1)
    if "prompt_len" in arrays:
        prompt_B = arrays["prompt_len"]
        if prompt_B.shape != (batch,) or prompt_B.dtype.kind not in "iu":
            raise InputError(f"{place}: prompt_len has shape {prompt_B.shape}, allowed whole numbers ({batch},)")
    elif "responses" in arrays or "prompts" in arrays:
        part = arrays["responses"] if "responses" in arrays else arrays["prompts"]
        if part.ndim != 2 or len(part) != batch or part.shape[1] > length:
            raise InputError(f"{place}: responses or prompts have shape {part.shape}, allowed ({batch}, <= {length})")
        border = length - part.shape[1] if "responses" in arrays else part.shape[1]
        prompt_B = mask_BT[:, :border].sum(1)
    elif "response_mask" in arrays:
        response = arrays["response_mask"]
        if response.ndim != 2 or len(response) != batch or response.shape[1] > length:
            raise InputError(f"{place}: response_mask has shape {response.shape}, allowed ({batch}, <= {length})")
        prompt_B = mask_BT[:, : length - response.shape[1]].sum(1)
        if response.shape[1] == length:  # over the whole length: the response begins at its first 1
            first_B = np.where(response.any(1), (response != 0).argmax(1), length)
            prompt_B = (mask_BT & (np.arange(length) < first_B[:, None])).sum(1)
    else:
        return None
    if (prompt_B > tokens_B).any() or (prompt_B < 0).any():
        row = int(((prompt_B > tokens_B) | (prompt_B < 0)).argmax())
        raise InputError(
            f"{place}: row {row}: {prompt_B[row]} prompt tokens of {tokens_B[row]}, allowed at most as many"
        )
    return prompt_B.astype(np.int64)


def unpadded(place: str, experts_TLK: np.ndarray, mask_T: np.ndarray) -> np.ndarray:
    """Return the rows where the mask holds tokens; InputError where an expert is under the padding.

    Padding is the same in every slot: zeros, -1 or what -1 becomes in eight bits.
    """
    padding = experts_TLK[~mask_T]
    if padding.size:
        filled = np.isin(padding, (0, -1, 255)) & (padding == padding[..., :1])
        if not filled.all():
            row = int(np.flatnonzero(~mask_T)[(~filled).any((1, 2)).argmax()])
            raise InputError(f"{place}: place {row} is masked, but holds experts, allowed: zeros or -1 under the mask")
    return experts_TLK[mask_T]
