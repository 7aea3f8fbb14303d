"""Arrays of requests in other shapes than one long one: a file per request, a folder of them, or a padded batch.

Each becomes what one file of plain arrays holds: rows one after another, and offsets. A file of a request may have
the request's token counts in a .json of the same name, or its token ids beside the rows.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np

from moe_replay.traces.errors import InputError
from moe_replay.traces.importers.sequences.padded_batch import mask_of, prompts_of, unpadded

PER_SEQUENCE = ("prompt_len", "domain")
SAME = ("layer_ids", "zero_experts", "chosen_first")
TOKEN_IDS = ("prompt_token_ids", "output_token_ids")
KNOWN = (*TOKEN_IDS, "request_id", "attention_mask", "mask", "valid_mask", "token_mask", "responses", "prompts",
         "response_mask", "input_ids")  # fmt: skip


def files_of(paths: tuple[Path, ...]) -> list[Path]:
    """Return the .npz files of files and folders, those of a folder by the numbers in their names; each once."""
    found = []
    for path in paths:
        inner = sorted(path.glob("*.npz"), key=by_numbers) if path.is_dir() else [path]
        if not inner:
            raise InputError(f"{path}: a folder without .npz files")
        found += inner
    twice = {path for path in found if found.count(path) > 1} if len(set(found)) < len(found) else ()
    if twice:
        raise InputError(f"{min(twice)}: there twice, allowed: each file once")
    return found


def by_numbers(path: Path) -> list:
    """Return a key by which turn2 comes before turn10."""
    return [(int(word), "") if word.isdecimal() else (-1, word) for word in re.split(r"(\d+)", path.name)]


def in_sequences(path: Path, arrays: dict, beside: dict[str, np.ndarray]) -> dict:
    """Return arrays with offsets: of a padded batch without its padding, of a request as one sequence.

    `beside` are the file's other arrays. InputError where rows do not fit the request's tokens.
    """
    if arrays["experts"].ndim == 4:
        return from_batch(path, arrays, beside)
    if "offsets" in arrays or arrays["experts"].ndim != 3:
        return arrays
    several = [name for name in PER_SEQUENCE if name in arrays and arrays[name].size != 1]
    if several:
        found = f"no array for 'offsets', but {arrays[several[0]].size} entries of {several[0]}"
        raise InputError(f"{path}: {found}; allowed: --array offsets=NAME")
    prompt, tokens = counts_beside(path, beside)
    experts_TLK = arrays["experts"]
    rows = len(experts_TLK)
    if tokens is not None and rows == tokens and not experts_TLK[-1].any():
        rows -= 1  # the last generated token's row was filled
        arrays = arrays | {name: arrays[name][:rows] for name in ("experts", "scores") if name in arrays}
    if tokens is not None and rows != tokens - 1:
        raise InputError(f"{path}: {rows} rows, allowed {tokens - 1} for {tokens} tokens: the last one is never routed")
    found = arrays | {"offsets": np.array([0, rows])}
    if "prompt_len" in arrays:
        found["prompt_len"] = arrays["prompt_len"].reshape(-1)
    elif prompt is not None:
        found["prompt_len"] = np.array([min(prompt, rows)])
    return found


def counts_beside(path: Path, beside: dict[str, np.ndarray]) -> tuple[int | None, int | None]:
    """Return (prompt tokens, tokens in all) of a request's own token ids or its .json; None for what is not told."""
    if all(name in beside and beside[name].ndim == 1 for name in TOKEN_IDS):
        return len(beside[TOKEN_IDS[0]]), len(beside[TOKEN_IDS[0]]) + len(beside[TOKEN_IDS[1]])
    about = path.with_suffix(".json")
    if not about.is_file():
        return None, None
    try:
        content = json.loads(about.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{about}: not whole JSON ({str(error)[:60]})") from None
    usage = content.get("usage", content) if isinstance(content, dict) else {}
    counts = [usage.get(name) if isinstance(usage, dict) else None for name in ("prompt_tokens", "completion_tokens")]
    for name, value in zip(("prompt_tokens", "completion_tokens"), counts, strict=True):
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 0):
            raise InputError(f"{about}: {name} is {value!r:.40}, allowed a whole number >= 0")
    return counts[0], None if None in counts else sum(counts)


def from_batch(path: Path, arrays: dict, beside: dict[str, np.ndarray]) -> dict:
    """Return the rows of a padded batch, sequence after sequence; a token's row of the last one may be filling."""
    experts_BTLK = arrays["experts"]
    if 0 in experts_BTLK.shape or experts_BTLK.dtype.kind not in "iu" or "offsets" in arrays:
        found = f"experts are {experts_BTLK.dtype} of shape {experts_BTLK.shape}"
        raise InputError(f"{path}: {found}, allowed whole numbers [batch, length, layers, k] and a mask, no offsets")
    mask_BT = mask_of(str(path), beside, experts_BTLK.shape[:2])
    counts = {name: arrays[name] for name in ("prompt_len",) if name in arrays}
    prompt_B = prompts_of(str(path), beside | counts, mask_BT)
    rows = [unpadded(f"{path}: row {at}", experts_BTLK[at], mask_T) for at, mask_T in enumerate(mask_BT)]
    # Where every sequence ends in a row of zeros it is the last generated token's, which is never routed.
    filled = all(len(each) > 1 and not each[-1].any() for each in rows)
    length_B = np.array([len(each) - filled for each in rows])
    found = arrays | {"experts": np.concatenate([each[: len(each) - filled] for each in rows])}
    found["offsets"] = np.concatenate([[0], np.cumsum(length_B)])
    if prompt_B is not None:
        found["prompt_len"] = np.minimum(prompt_B, length_B)
    if "scores" in arrays:
        if arrays["scores"].shape != experts_BTLK.shape:
            raise InputError(f"{path}: scores have shape {arrays['scores'].shape}, allowed {experts_BTLK.shape}")
        scores = [arrays["scores"][at][mask_T] for at, mask_T in enumerate(mask_BT)]
        found["scores"] = np.concatenate([each[: len(each) - filled] for each in scores])
    return found


def joined(paths: list[Path], parts: list[dict]) -> dict:
    """Return the arrays of all files as of one; InputError where they differ in shape or in what they hold."""
    first = parts[0]
    if len(parts) == 1:
        return first
    for path, part in zip(paths, parts, strict=True):
        kinds = {name for name in part if name not in ("names", "left_out")}
        if kinds != {name for name in first if name not in ("names", "left_out")}:
            raise InputError(f"{path}: holds {', '.join(sorted(kinds))}, allowed the same in all files")
        shape = part["experts"].shape[1:]
        if part["experts"].ndim != 3 or shape != first["experts"].shape[1:]:
            raise InputError(f"{path}: rows are [layers, k] {shape}, allowed {first['experts'].shape[1:]} as before")
        for name in SAME:
            if name in part and not np.array_equal(part[name], first[name]):
                raise InputError(f"{path}: {name} differ from those of {paths[0]}, allowed: the same")
    made = {name: first[name] for name in (*SAME, "names") if name in first}
    for name in ("experts", "scores", *PER_SEQUENCE):
        if name in first:
            made[name] = np.concatenate([part[name] for part in parts])
    starts = np.cumsum([0, *(len(part["experts"]) for part in parts)])
    made["offsets"] = np.concatenate(
        [[0], *(start + part["offsets"][1:] for start, part in zip(starts, parts, strict=False))]
    )
    return made | {"left_out": sorted({each for part in parts for each in part["left_out"]})}
