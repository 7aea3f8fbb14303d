"""Rows of selections of one or more files, put in order: sequences, their tokens, all layers of each.

What is there twice, or missing, is refused; a row's place in its file does not count where columns tell its token.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from moe_replay.traces.command_line.number_limits import narrowed
from moe_replay.traces.errors import InputError
from moe_replay.traces.file.checks import such
from moe_replay.traces.importers.reading.import_source import KEEP, Source
from moe_replay.traces.importers.tables.selection_rows import SelectionRows

MOST_LAYERS = 2**15


@dataclass(frozen=True)
class Grid:
    """T tokens in the order of their sequences: experts [T, L, K], scores, layer numbers, values by token."""

    experts_TLK: np.ndarray
    scores_TLK: np.ndarray | None
    layer_ids: tuple[int, ...]
    sequence_T: np.ndarray
    position_T: np.ndarray
    beside: dict[str, np.ndarray]
    ranked: bool
    layers_told: bool


@dataclass(frozen=True)
class Keys:
    """The sequence, token and layer of N rows of all files; `names` are the sequences' own."""

    sequence_N: np.ndarray
    token_N: np.ndarray
    layer_N: np.ndarray
    names: list[str]

    def said(self, row: int) -> str:
        """Name the place of a row in words."""
        return f"{self.names[self.sequence_N[row]]}, token {self.token_N[row]}, layer {self.layer_N[row]}"


def grid_of(source: Source, files: dict[Path, SelectionRows]) -> Grid:
    """Return the grid of the rows of all files; InputError where a row is there twice or is missing."""
    keys = joined_keys(files)
    rows = list(files.values())
    width = max(each.experts_NK.shape[1] for each in rows)
    experts_NK = np.concatenate([widened(each.experts_NK, width, -1) for each in rows])
    check_slots(source, experts_NK, keys)
    layer_ids, layer_N = np.unique(keys.layer_N, return_inverse=True)
    if layer_ids[0] < 0 or layer_ids[-1] >= MOST_LAYERS:
        raise InputError(f"{source.place}: layers {layer_ids[0]}..{layer_ids[-1]}, allowed 0..{MOST_LAYERS - 1}")
    index_N, sequence_T, position_T = tokens_of(source, keys)
    tokens, layers = len(sequence_T), len(layer_ids)
    check_once(source, keys, index_N * layers + layer_N, tokens * layers)
    experts_TLK = np.full((tokens, layers, width), -1, np.int16 if experts_NK.max() < 2**15 else np.int64)
    experts_TLK[index_N, layer_N] = experts_NK
    check_complete(source, keys, index_N, layer_N, (sequence_T, position_T, layer_ids))
    scored = [each.scores_NK is not None for each in rows]
    if any(scored) != all(scored):
        raise InputError(f"{source.place}: scores in some files, allowed: in all or none")
    scores_TLK = None
    if all(scored):
        scores_TLK = np.zeros(experts_TLK.shape, np.float32)
        with np.errstate(over="ignore"):  # what overflows is refused as infinite
            scores_TLK[index_N, layer_N] = np.concatenate([widened(each.scores_NK, width, 0) for each in rows])
    return Grid(
        experts_TLK, scores_TLK, tuple(layer_ids.tolist()), sequence_T, position_T,
        beside_tokens(source, rows, keys, index_N, tokens), all(each.ranked for each in rows),
        any(each.layers_told for each in rows),
    )  # fmt: skip


def widened(values_NK: np.ndarray, width: int, empty: int) -> np.ndarray:
    """Return rows with so many slots."""
    return np.pad(values_NK, ((0, 0), (0, width - values_NK.shape[1])), constant_values=empty)


def joined_keys(files: dict[Path, SelectionRows]) -> Keys:
    """Return the keys of all files' rows; a name is one sequence in all files, a file without names has one."""
    known, sequences, tokens, layers = {}, [], [], []
    for path, rows in files.items():
        names = [f"sequence {name}" for name in rows.sequences] if rows.sequences is not None else [path.name]
        number = np.array([known.setdefault(name, len(known)) for name in names])
        code_N = np.zeros(len(rows.layer_N), np.int64) if rows.sequence_N is None else rows.sequence_N
        sequences.append(number[code_N])
        layers.append(rows.layer_N)
        tokens.append(occurrences(code_N, rows.layer_N) if rows.token_N is None else rows.token_N)
    return Keys(*(np.concatenate(each) for each in (sequences, tokens, layers)), [*known])


def occurrences(sequence_N: np.ndarray, layer_N: np.ndarray) -> np.ndarray:
    """Return how many rows of the same sequence and layer were before each row: its token, where none is named."""
    order = np.lexsort((np.arange(len(layer_N)), layer_N, sequence_N))
    new = np.append(True, (np.diff(sequence_N[order]) != 0) | (np.diff(layer_N[order]) != 0))
    start = np.flatnonzero(new)
    found = np.empty(len(order), np.int64)
    found[order] = np.arange(len(order)) - np.repeat(start, np.diff(start, append=len(order)))
    return found


def check_slots(source: Source, experts_NK: np.ndarray, keys: Keys) -> None:
    """Refuse rows of fewer experts than --k, or than others, unless --varying-k says that they are meant."""
    count_N = (experts_NK != -1).sum(1)
    k = source.options.k or int(count_N.max())
    wrong_N = (count_N > k) if source.options.varying_k else (count_N != k) & (count_N > 0)
    if wrong_N.any():
        row = int(wrong_N.argmax())
        found = f"{keys.said(row)}: {count_N[row]} experts"
        allowed = f"{k} in every row; --varying-k where their number varies"
        raise InputError(f"{source.place}: {found}, allowed {allowed} ({such(int(wrong_N.sum()))})")


def tokens_of(source: Source, keys: Keys) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (index of every row's token, sequence_T, position_T); gaps are filled with --unrouted keep."""
    low, high = int(keys.token_N.min()), int(keys.token_N.max())
    if low < 0 or high >= 2**31 - 1:
        raise InputError(f"{source.place}: tokens {low}..{high}, allowed 0..{2**31 - 2}")
    key_N = keys.sequence_N * (high + 2) + keys.token_N
    key_T, index_N = np.unique(key_N, return_inverse=True)
    sequence_T, position_T = np.divmod(key_T, high + 2)
    jump_T = np.append(False, (np.diff(sequence_T) == 0) & (np.diff(position_T) > 1))
    if jump_T.any():
        missing = int((np.diff(position_T)[jump_T[1:]] - 1).sum())
        if source.options.unrouted != KEEP or missing > len(key_T) + 1000:
            at = int(jump_T.argmax())
            place = f"{keys.names[sequence_T[at]]}: token {position_T[at]} comes after {position_T[at - 1]}"
            way = f"--unrouted {KEEP}, which keeps missing tokens without a route"
            raise InputError(f"{source.place}: {place}, allowed: none missing; {way} ({missing} missing)")
        first = np.flatnonzero(np.append(True, np.diff(sequence_T) != 0))
        last = np.append(first[1:], len(key_T)) - 1
        count_S = position_T[last] - position_T[first] + 1
        key_T = np.concatenate([np.arange(key_T[a], key_T[a] + n) for a, n in zip(first, count_S, strict=True)])
        sequence_T, position_T = np.divmod(key_T, high + 2)
        index_N = np.searchsorted(key_T, key_N)
    return index_N, sequence_T, position_T


def check_once(source: Source, keys: Keys, cell_N: np.ndarray, cells: int) -> None:
    """Refuse a token and layer that two rows hold."""
    if len(cell_N) <= cells and np.bincount(cell_N, minlength=cells).max() == 1:
        return
    order = np.argsort(cell_N, kind="stable")
    again = np.flatnonzero(np.diff(cell_N[order]) == 0)
    row = int(order[again + 1].min())
    way = "allowed: each once; --column sequence=NAME, where requests number their tokens anew"
    raise InputError(f"{source.place}: {keys.said(row)}: there twice, {way} ({such(len(again))})")


def check_complete(source: Source, keys: Keys, index_N: np.ndarray, layer_N: np.ndarray, axes: tuple) -> None:
    """Refuse tokens without a row in some layer, unless --unrouted keep takes them for rows without a route."""
    sequence_T, position_T, layer_ids = axes
    there_TL = np.zeros((len(sequence_T), len(layer_ids)), bool)
    there_TL[index_N, layer_N] = True
    if there_TL.all() or source.options.unrouted == KEEP:
        return
    token, layer = (int(at) for at in np.unravel_index(int((~there_TL).argmax()), there_TL.shape))
    place = f"{keys.names[sequence_T[token]]}, token {position_T[token]}: no row of layer {layer_ids[layer]}"
    way = f"--unrouted {KEEP}, which keeps such tokens without a route there"
    raise InputError(f"{source.place}: {place}, allowed: one in every layer; {way} ({such(int((~there_TL).sum()))})")


def beside_tokens(
    source: Source, rows: list[SelectionRows], keys: Keys, index_N: np.ndarray, tokens: int
) -> dict[str, np.ndarray]:
    """Return values by token of what all files keep beside the experts; InputError where layers disagree."""
    found = {}
    for name in rows[0].beside:
        if not all(name in each.beside for each in rows):
            raise InputError(f"{source.place}: {name} in some files, allowed: in all or none")
        values_N = np.concatenate([each.beside[name] for each in rows])
        values_T = np.full(tokens, -1, values_N.dtype)
        values_T[index_N] = values_N
        wrong_N = values_T[index_N] != values_N
        if wrong_N.any():
            row = int(wrong_N.argmax())
            both = f"{name} is both {values_N[row]} and {values_T[index_N[row]]}"
            raise InputError(f"{source.place}: {keys.said(row)}: {both}, allowed: one value for a token")
        found[name] = narrowed(f"{source.place}: {name}", values_T, np.int32)
    return found
