"""The whole of a trace in an .npz of selections: what `export npz` writes beside them, so that it comes back equal.

`header` is the trace's header as JSON, `row` [T'] the place of every row in the trace, -1 where a token is missing, and
`sequence_ids` [S] the trace's own numbers. Further fields have their names without shape letters; those of tokens are
in the order of `experts`.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from moe_replay.traces.command_line.number_limits import narrowed
from moe_replay.traces.errors import InputError
from moe_replay.traces.header import Header
from moe_replay.traces.importers.reading.import_source import Source, layer_numbers, option
from moe_replay.traces.selections import FIELDS, SEQUENCE_FIELDS, Trace

HEADER, ROW, NUMBERS = "header", "row", "sequence_ids"
MARKS = (HEADER, ROW, NUMBERS, "offsets", "experts")
# Options that ask for other rows than were written; a file is then read as any other.
REREAD = ("arrays", "unrouted", "leave_out", "id_map", "shared_slots")
PHASES = {"prefill": {0}, "decode": {1}, "both": {0, 1}}


def short(field: str) -> str:
    """Return what a field of a trace is called in a file: `experts` for experts_TLK."""
    return field.rpartition("_")[0]


def beside_selections(trace: Trace, row_T: np.ndarray, order_T: np.ndarray, rows: int) -> dict[str, np.ndarray]:
    """Return what makes the selections in a file the whole trace.

    Token `order_T[i]` of the trace is row `row_T[i]` of the file, which has so many `rows`.
    """
    place_T = np.full(rows, -1, np.int64)
    place_T[row_T] = order_T
    found = {
        HEADER: np.array(json.dumps(trace.header.to_json())), ROW: place_T, NUMBERS: trace.sequences_S.astype(np.int64)
    }  # fmt: skip
    for field in trace.present:
        values, name = getattr(trace, field), short(field)
        if field in SEQUENCE_FIELDS:
            found[name] = values
        elif field not in ("sequence_T", "experts_TLK"):  # offsets and experts say these
            found[name] = np.zeros((rows, *values.shape[1:]), values.dtype)
            found[name][row_T] = values[order_T]
    return found


def is_whole(source: Source, held: list[str]) -> bool:
    """Say whether a file is to be read as a whole trace: it is one, and no option asks for other rows."""
    asked = set(source.options.given) & {*REREAD} or source.options.score_kind == "none"
    return len(source.paths) == 1 and set(MARKS) <= set(held) and not asked


def whole_trace(path: Path, arrays: dict[str, np.ndarray], source: Source) -> Trace:
    """Return the trace in the arrays of a file; InputError for what does not fit together, or to the options."""
    try:
        header = Header.from_json(json.loads(str(arrays[HEADER])))
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except (ValueError, RecursionError, TypeError) as error:
        raise InputError(f"{path}: header is no trace's ({str(error)[:80]}), allowed that of `export npz`") from None
    if source.options.model is not None:
        header = replace(header, model=replace(header.model, name=source.options.model))
    place_T = whole(path, ROW, arrays[ROW], -1)
    kept_T = place_T >= 0
    order_T = np.argsort(place_T[kept_T])  # of the rows that are there, as they come in the trace
    if not np.array_equal(place_T[kept_T][order_T], np.arange(len(order_T))):
        raise InputError(f"{path}: row does not name the rows 0..{len(order_T) - 1} once each, allowed: that")
    fields = {
        field: arranged(path, field, arrays[short(field)], kept_T, order_T)
        for field in FIELDS if short(field) in arrays and field != "sequence_T"
    }  # fmt: skip
    numbers_S = narrowed(f"{path}: {NUMBERS}", whole(path, NUMBERS, arrays[NUMBERS], 0), np.int32)
    length_S = np.diff(whole(path, "offsets", arrays["offsets"], 0))
    if len(length_S) != len(numbers_S) or length_S.sum() != len(kept_T) or (length_S < 0).any():
        raise InputError(f"{path}: offsets are not those of {len(numbers_S)} sequences in {len(kept_T)} rows")
    fields["sequence_T"] = np.repeat(numbers_S, length_S)[kept_T][order_T]
    try:
        made = Trace(header=replace(header, provenance=source.provenance), **fields)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    check_options(path, source, made)
    return made


def whole(path: Path, name: str, values: np.ndarray, low: int) -> np.ndarray:
    """Return a list of whole numbers from `low` on as int64; InputError if it is none."""
    if values.ndim != 1 or values.dtype.kind not in "iu" or (values.size and values.min() < low):
        raise InputError(f"{path}: {name} is {values.dtype} of shape {values.shape}, allowed whole numbers >= {low}")
    return values.astype(np.int64)


def arranged(path: Path, field: str, values: np.ndarray, kept_T: np.ndarray, order_T: np.ndarray) -> np.ndarray:
    """Return a field in its type and in the trace's order; InputError for one of another length or kind."""
    kind, name = np.dtype(FIELDS[field]), short(field)
    of_sequences = field in SEQUENCE_FIELDS
    if values.dtype.kind != kind.kind or values.ndim == 0 or (not of_sequences and len(values) != len(kept_T)):
        found = f"{name} is {values.dtype} of shape {values.shape}"
        raise InputError(f"{path}: {found}, allowed {kind} of {len(kept_T)} rows" if not of_sequences else
                         f"{path}: {found}, allowed {kind}, one per sequence")  # fmt: skip
    if kind.kind == "i":
        values = narrowed(f"{path}: {name}", values, kind.type)
    values = values.astype(kind, copy=False) if kind.kind != "U" else values
    return values if of_sequences else np.ascontiguousarray(values[kept_T][order_T])


def check_options(path: Path, source: Source, made: Trace) -> None:
    """Refuse options that say something else than the file does."""
    model, asked = made.header.model, source.options
    layers = ",".join(map(str, model.layer_ids))
    said = {
        "experts": model.experts, "k": model.used_k, "zero_experts": model.zero_experts,
        "score_kind": made.header.score_kind, "ranked": made.header.ranked,
    }  # fmt: skip
    for name, value in said.items():
        if getattr(asked, name) not in (None, value):
            stated = option(name) if name == "ranked" else f"{option(name)} {getattr(asked, name)}"
            raise InputError(f"{path}: {name} is {value}, but {stated}; allowed: the same")
    if asked.phase is not None and not {*np.unique(made.phase_T).tolist()} <= PHASES[asked.phase]:
        raise InputError(f"{path}: holds rows of another phase than --phase {asked.phase}; allowed: both")
    if asked.layers is not None and asked.layers != "all" and layer_numbers(asked.layers) != model.layer_ids:
        raise InputError(f"{path}: the layers are {layers}, but --layers {asked.layers}; allowed: the same")
