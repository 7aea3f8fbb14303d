"""Rows of selections from any file, checked for the traps that all of them share, as a trace."""

from __future__ import annotations

import numpy as np

from moe_replay.traces.command_line.files import sha256_of
from moe_replay.traces.errors import InputError
from moe_replay.traces.importers.reading.id_maps import map_note, stated_map
from moe_replay.traces.importers.reading.import_source import Source
from moe_replay.traces.importers.reading.sound_rows import sound_rows
from moe_replay.traces.importers.reading.token_rows import check_array
from moe_replay.traces.selections import Trace


def check_files(source: Source) -> None:
    """Refuse a file that is given twice, under one name or two: its tokens would count twice."""
    seen = {}
    for path in source.paths:
        if not path.is_file():
            raise InputError(f"{path}: {'a folder' if path.is_dir() else 'no such file'}, allowed files")
        digest = sha256_of(path)
        if digest in seen:
            raise InputError(f"{path}: holds the same bytes as {seen[digest]}, allowed: each file once")
        seen[digest] = path


def checked_trace(
    source: Source,
    experts_TLK: np.ndarray,
    layer_ids: tuple[int, ...],
    fields: dict[str, np.ndarray],
    notes: dict,
    scores_TLK: np.ndarray | None = None,
    ranked: bool | None = None,
) -> Trace:
    """Return the trace of rows in execution order; -1 is an empty slot. InputError for what cannot be selections."""
    check_array(source.place, experts_TLK)
    logical_LP = stated_map(source)
    if logical_LP is None:
        experts_TLK = from_zero(source, experts_TLK)
    routes = sound_rows(source, source.place, experts_TLK, layer_ids, logical_LP)
    experts_TLK = routes.experts_TLK
    if scores_TLK is not None:
        scores_TLK = np.where(experts_TLK < 0, np.float32(0), scores_TLK[:, :, : experts_TLK.shape[2]])
    left_out = [*notes.get("left_out", []), *routes.left_out]
    notes = notes | map_note(source) | ({"left_out": left_out} if left_out else {})
    model = source.model(source.options.k or experts_TLK.shape[2], layer_ids)
    made = source.trace(
        model, notes, ranked=ranked, experts_TLK=np.ascontiguousarray(experts_TLK, np.int16), scores_TLK=scores_TLK,
        **fields,
    )  # fmt: skip
    return routes.only(made)


def from_zero(source: Source, experts_TLK: np.ndarray) -> np.ndarray:
    """Return ids counted from 0; with --first-expert 1 they were counted from 1.

    InputError where ids run from 1 to E, the number of experts, which looks as if they were.
    """
    experts, first = source.options.experts, source.options.first_expert or 0
    held = experts_TLK[experts_TLK >= 0]
    if held.size and held.min() < first:
        raise InputError(f"{source.place}: expert {held.min()}, allowed from --first-expert {first} on")
    if first:
        return np.where(experts_TLK >= 0, experts_TLK - first, experts_TLK)
    if held.size and held.max() == experts and held.min() >= 1:
        found = f"experts are {held.min()}..{held.max()}, as if counted from 1"
        raise InputError(f"{source.place}: {found}; allowed 0..{experts - 1}, or --first-expert 1")
    return experts_TLK
