"""`table`: files of named columns, long or wide: CSV, JSON, JSON Lines, Parquet, or equally long arrays (.npz, .pt).

Columns are known by their usual names, or named with `--column FIELD=NAME`. A row is a selection (layer, token,
expert), a token's experts in one layer (a list, or columns expert_0, expert_1, ...) or in all layers, or a request.
Several files are joined: a sequence of one name continues, a file without names of sequences is one.
"""

from __future__ import annotations

import numpy as np

from moe_replay.traces.command_line.number_limits import narrowed
from moe_replay.traces.errors import InputError
from moe_replay.traces.importers.reading.checked_rows import check_files, checked_trace
from moe_replay.traces.importers.reading.import_source import NO_SCORES, Source, layer_numbers
from moe_replay.traces.importers.reading.token_rows import ONE_AFTER_ANOTHER, without_dense
from moe_replay.traces.importers.tables.column_files import read_table
from moe_replay.traces.importers.tables.selection_grid import Grid, grid_of
from moe_replay.traces.importers.tables.table_forms import selection_rows
from moe_replay.traces.selections import Trace

DECODE = 1


def read(source: Source) -> Trace:
    """Return the trace of one or more tables; --phase where no column tells it."""
    check_files(source)
    scored = source.options.score_kind != NO_SCORES
    files = {path: selection_rows(read_table(path), source.options.columns, scored) for path in source.paths}
    remarks = sum(each.left_out for each in files.values())
    return trace_of_grid(source, grid_of(source, files), [f"{remarks} rows that hold no selection"] if remarks else [])


def trace_of_grid(source: Source, grid: Grid, left_out: list[str]) -> Trace:
    """Return the trace of a grid: its scores meant as stated, its steps as told or one sequence after another."""
    if grid.scores_TLK is not None and source.options.score_kind is None:
        raise InputError(f"{source.place}: holds scores; needed: --score-kind, what they are, or none")
    if grid.scores_TLK is None and source.options.score_kind not in (None, NO_SCORES):
        raise InputError(f"{source.place}: has no scores for --score-kind; allowed: --column scores=NAME")
    experts_TLK, scores_TLK, layer_ids = grid.experts_TLK, grid.scores_TLK, grid.layer_ids
    if source.options.layers and source.options.layers != "all":
        experts_TLK, scores_TLK, layer_ids = moe_layers(source, grid)
    fields, notes = token_fields(source, grid)
    order = np.argsort(fields["step_T"], kind="stable")
    if (np.diff(order) != 1).any():
        experts_TLK = experts_TLK[order]
        scores_TLK = None if scores_TLK is None else scores_TLK[order]
        fields = {name: each if name.endswith("_S") else each[order] for name, each in fields.items()}
    notes |= {"left_out": left_out} if left_out else {}
    return checked_trace(
        source, experts_TLK, layer_ids, fields, notes, scores_TLK=scores_TLK, ranked=grid.ranked or None
    )


def moe_layers(source: Source, grid: Grid) -> tuple[np.ndarray, np.ndarray | None, tuple[int, ...]]:
    """Return the layers that --layers names; the others may hold zeros only, as dense layers do."""
    named = layer_numbers(source.options.layers)
    if not grid.layers_told and len(named) == len(grid.layer_ids):  # lists of layers, which these are the numbers of
        return grid.experts_TLK, grid.scores_TLK, named
    missing = [each for each in named if each not in grid.layer_ids]
    if missing:
        held = ", ".join(map(str, grid.layer_ids))
        raise InputError(f"{source.place}: no layer {missing[0]} of --layers; it holds {held!s:.80}")
    at = tuple(grid.layer_ids.index(each) for each in named)
    experts_TLK = without_dense(source.place, grid.experts_TLK, at)
    return experts_TLK, None if grid.scores_TLK is None else grid.scores_TLK[:, list(at)], named


def token_fields(source: Source, grid: Grid) -> tuple[dict[str, np.ndarray], dict]:
    """Return (sequence_T, position_T, step_T, phase_T, ... of a grid, what is to be noted of them)."""
    sequence_T, beside = grid.sequence_T, dict(grid.beside)
    new_T = np.append(True, np.diff(sequence_T) != 0)
    first_S = np.flatnonzero(new_T)
    row_T = np.arange(len(sequence_T)) - np.repeat(first_S, np.diff(first_S, append=len(sequence_T)))
    phase_T = phase_of(source, beside, row_T)
    fields = {
        "sequence_T": sequence_T.astype(np.int32),
        "position_T": narrowed("position", grid.position_T, np.int32),
        "phase_T": phase_T,
    }
    if "prompt_len" in beside:
        length_S = beside["prompt_len"][first_S]
        if (beside["prompt_len"] != np.repeat(length_S, np.diff(first_S, append=len(sequence_T)))).any():
            raise InputError(f"{source.place}: prompt_len changes within a sequence, allowed: one for all its rows")
        fields["prompt_len_S"] = length_S
    for name, at, kind in (("token_id", "token_id_T", np.int32), ("device", "rank_T", np.int16)):
        if name in beside:
            fields[at] = narrowed(name, beside[name], kind)
    if "step" in beside and (beside["step"] >= 0).all():
        return fields | {"step_T": beside["step"].astype(np.int32)}, {}
    changes_T = new_T | (phase_T == DECODE) | np.append(False, np.diff(phase_T) != 0)
    return fields | {"step_T": (np.cumsum(changes_T) - 1).astype(np.int32)}, dict(ONE_AFTER_ANOTHER)


def phase_of(source: Source, beside: dict[str, np.ndarray], row_T: np.ndarray) -> np.ndarray:
    """Return the phase of every token: what a column says, or prompt lengths, or --phase."""
    stated = source.options.phase
    if "phase" in beside:
        if stated not in (None, "both"):
            raise InputError(f"{source.place}: a column tells the phase; allowed: no --phase, or --column phase=")
        phase_T = beside["phase"].astype(np.int8)
        known = np.maximum.accumulate(np.where(phase_T >= 0, np.arange(len(phase_T)), 0))
        return np.maximum(phase_T[known], 0)  # a token that was filled in has the phase of the one before it
    if stated in ("prefill", "decode"):
        return np.full(len(row_T), int(stated == "decode"), np.int8)
    if "prompt_len" not in beside:
        needs = "needed: --phase" if stated is None else "--phase both needs a column prompt_len or phase"
        raise InputError(f"{source.kind}: {source.place}: {needs}; the files do not tell which tokens are prompt")
    return (row_T >= beside["prompt_len"]).astype(np.int8)
