"""Binary records of forks of llama.cpp, 32-bit little-endian numbers: a layer, its tokens and k, and their experts.

Two orders of the head are in use, (layer, tokens, k) and (layer, k, tokens); k, which is the same in all records, tells
them apart. A file of pairs (layer, expert) is a stream of selections. Records of a negative layer hold other things.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from moe_replay.traces.errors import InputError
from moe_replay.traces.importers.llamacpp.evaluation_order import Runs, runs_of

HEAD = 3  # words in front of a record's experts
MOST_LAYERS, MOST_K, MOST_EXPERTS = 4096, 256, 32767
OTHERS = "records that hold no experts: of layers below 0, such as probabilities"
LOOK_AHEAD = 4096  # records of one size that are read at once


@dataclass(frozen=True)
class Records:
    """Where the experts of each record are in a file's words; `others` counts records that hold something else."""

    layer_Q: np.ndarray
    tokens_Q: np.ndarray
    start_Q: np.ndarray
    others: int


def read_records(path: Path, k: int | None) -> tuple[Runs, list[str]]:
    """Return (runs, what was left out) of a file; InputError for what is neither records nor pairs."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: {'no such file' if isinstance(error, FileNotFoundError) else error}") from None
    if not content or len(content) % 4:
        raise InputError(f"{path}: {len(content)} bytes, allowed whole records of 32-bit numbers")
    words = np.frombuffer(content, "<i4")
    found = [(width, records) for order in (0, 1) for width, records in [parsed(words, k, order)] if records]
    if len(found) > 1 and len({width for width, _ in found}) > 1:
        raise InputError(
            f"{path}: records of {found[0][0]} or of {found[1][0]} experts per token; allowed: --k says it"
        )
    if found:
        width, records = found[0]
        check_ids(path, words[spans(records.start_Q, records.tokens_Q * width)], width)
        begins_Q = np.arange(len(records.layer_Q)) == 0
        experts = words[spans(records.start_Q, records.tokens_Q * width)].reshape(-1, width)
        left_out = [f"{records.others} {OTHERS}"] if records.others else []
        return Runs(records.layer_Q, records.tokens_Q, begins_Q, experts.astype(np.int64)), left_out
    if k is not None and len(words) % 2 == 0 and plausible(words[::2], words[1::2]):
        return runs_of(str(path), words[::2].astype(np.int64), words[1::2].astype(np.int64), k, ()), []
    if words[0] < 0 and (others := heads_below_zero(words)):
        raise InputError(f"{path}: {others} {OTHERS}, and no other; allowed: records of selected experts")
    allowed = "records (layer, tokens, k, experts) or (layer, k, tokens, experts), or with --k pairs (layer, expert)"
    raise InputError(f"{path}: not whole records of 32-bit numbers, allowed {allowed}")


def check_ids(path: Path, experts: np.ndarray, width: int) -> None:
    """Refuse records of probabilities: 32-bit floats of 0..1, of which a router's choice does not follow."""
    values = experts.view("<f4")
    if len(values) and experts.max() > MOST_EXPERTS and bool(((values >= 0) & (values <= 1)).all()):
        found = f"records hold {width} floats of 0..1 per token: probabilities, not the experts that were selected"
        raise InputError(f"{path}: {found}; allowed: records of selected experts")


def heads_below_zero(words: np.ndarray) -> int:
    """Return how many records a file is made of, if all are of layers below 0; else 0."""
    at, found = 0, 0
    while at + HEAD <= len(words):
        layer, first, second = words[at : at + HEAD].tolist()
        if layer >= 0 or first < 1 or second < 1:
            return 0
        at, found = at + HEAD + first * second, found + 1
    return found if at == len(words) else 0


def plausible(layer_R: np.ndarray, expert_R: np.ndarray) -> bool:
    """Return whether pairs can be of layers and experts."""
    return bool((layer_R >= 0).all() and (layer_R < MOST_LAYERS).all() and (expert_R >= 0).all())


def spans(start_Q: np.ndarray, length_Q: np.ndarray) -> np.ndarray:
    """Return the indices of all spans, one after another."""
    return np.repeat(start_Q - (np.cumsum(length_Q) - length_Q), length_Q) + np.arange(int(length_Q.sum()))


def parsed(words: np.ndarray, k: int | None, order: int) -> tuple[int, Records | None]:
    """Return (k, the records) if a whole file can be read with heads of one order (k last: 0, first: 1)."""
    layers, tokens, starts, at, others, width = [], [], [], 0, 0, k
    while at < len(words):
        if at + HEAD > len(words):
            return 0, None
        head = words[at : at + HEAD].tolist()
        count, inner = (head[1], head[2]) if order == 0 else (head[2], head[1])
        size = HEAD + count * inner
        if count < 1 or inner < 1 or at + size > len(words):
            return 0, None
        if head[0] < 0:  # another thing, such as probabilities
            at, others = at + size, others + 1
            continue
        width = inner if width is None else width
        if inner != width or inner > MOST_K or head[0] >= MOST_LAYERS:
            return 0, None
        alike = records_alike(words, at, size)
        heads = at + size * np.arange(alike)
        layers.append(words[heads])
        tokens.append(np.full(alike, count))
        starts.append(heads + HEAD)
        at += size * alike
    if not layers or width is None:
        return 0, None
    return width, Records(*(np.concatenate(each).astype(np.int64) for each in (layers, tokens, starts)), others)


def records_alike(words: np.ndarray, at: int, size: int) -> int:
    """Return how many records of the same size, with a layer, follow each other from a place on: at least one."""
    most = min((len(words) - at) // size, LOOK_AHEAD)
    block = words[at : at + size * most].reshape(most, size)[:, :HEAD]
    same = (block[:, 1:] == block[0, 1:]).all(1) & (block[:, 0] >= 0) & (block[:, 0] < MOST_LAYERS)
    return most if same.all() else max(int(same.argmin()), 1)
