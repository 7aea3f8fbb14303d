"""Rows of selections out of a table with a row per selection, or per token and layer."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from moe_replay.traces.errors import InputError
from moe_replay.traces.file.checks import such
from moe_replay.traces.importers.tables.column_fields import (
    SCORES,
    check_running,
    numbered,
)
from moe_replay.traces.importers.tables.column_files import TableFile
from moe_replay.traces.importers.tables.column_values import (
    codes,
    layer_numbers_of,
    lists,
    numeric,
    phases,
    whole,
    whole_array,
)

BESIDE = {"phase": phases, "step": whole, "token_id": whole, "prompt_len": whole, "device": whole}
MOST_SLOTS = 1024  # experts per token; more is a column taken for another


@dataclass(frozen=True)
class SelectionRows:
    """N rows of one file. `token_N` is None where the file has no numbers: then a layer's rows are in order.

    `sequence_N` indexes `sequences`, the file's own names, None where it has none. `experts_NK` has -1 in empty slots.
    `beside` are values by row: phase, step, token_id, prompt_len, device. `ranked` where a column says the rank;
    `layers_told` where the file numbers its layers, which else count from 0.
    """

    layer_N: np.ndarray
    experts_NK: np.ndarray
    token_N: np.ndarray | None = None
    scores_NK: np.ndarray | None = None
    sequence_N: np.ndarray | None = None
    sequences: list | None = None
    beside: dict[str, np.ndarray] = field(default_factory=dict)
    ranked: bool = False
    layers_told: bool = True
    left_out: int = 0


def needed(table: TableFile, fields: dict[str, str], name: str) -> str:
    """Return the column of a field; InputError where there is none."""
    if name not in fields:
        held = ", ".join(table.columns)
        hint = "; token_id may be ids of a vocabulary" if name == "token" and "token_id" in fields else ""
        raise InputError(
            f"{table.path}: no column for {name}; it holds {held!s:.120}; allowed: --column {name}=NAME{hint}"
        )
    return fields[name]


def shared_fields(table: TableFile, fields: dict[str, str], times: int = 1) -> dict:
    """Return what every form keeps beside the experts, each value so many times: sequences, tokens, phases."""
    found, beside = {}, {}
    if "sequence" in fields:
        code_R, names = codes(table.columns[fields["sequence"]])
        if table.columns[fields["sequence"]].null_count:
            whole(table, fields["sequence"])  # refuses the empty one with its row
        found |= {"sequence_N": np.repeat(code_R, times), "sequences": names}
    if "token" in fields:
        found["token_N"] = np.repeat(whole(table, fields["token"]), times)
    for name, read in BESIDE.items():
        if name in fields:
            beside[name] = np.repeat(read(table, fields[name]), times)
    return found | {"beside": beside}


def long_rows(table: TableFile, fields: dict[str, str]) -> SelectionRows:
    """Return the rows of a table with a selection in each of its rows."""
    token_R = whole(table, needed(table, fields, "token"))
    layer_R = layer_numbers_of(table, needed(table, fields, "layer"))
    expert_R = whole(table, fields["expert"])
    shared = shared_fields(table, fields)
    slot_R = whole(table, fields["slot"]) if "slot" in fields else np.zeros(len(token_R), np.int64)
    sequence_R = shared.get("sequence_N", np.zeros(len(token_R), np.int64))
    order = np.lexsort((slot_R, layer_R, token_R, sequence_R))
    key = [each[order] for each in (sequence_R, token_R, layer_R)]
    first_R = np.append(True, np.logical_or.reduce([each[1:] != each[:-1] for each in key]))
    start_N = np.flatnonzero(first_R)
    length_N = np.diff(start_N, append=len(order))
    if "slot" in fields:
        check_slots(table, fields["slot"], slot_R[order], key, start_N)
    at_N = order[start_N]
    scores = None
    if "score" in fields:
        scores = numeric(f"{table.path}: column {fields['score']}", table.columns[fields["score"]])[order]
    beside = {name: each[at_N] for name, each in shared.pop("beside").items()}
    named = {name: each[at_N] if name != "sequences" else each for name, each in shared.items()}
    return SelectionRows(
        layer_N=layer_R[at_N], experts_NK=padded(table, expert_R[order], length_N, -1),
        scores_NK=None if scores is None else padded(table, scores, length_N, 0),
        beside=beside, ranked=fields.get("slot") == "rank", **named,
    )  # fmt: skip


def check_slots(table: TableFile, name: str, slot_R: np.ndarray, key: list, start_N: np.ndarray) -> None:
    """Refuse slots that are not 0, 1, ... (or 1, 2, ...) in every row: a selection is there twice, or missing."""
    length_N = np.diff(start_N, append=len(slot_R))
    first = min(max(int(slot_R.min()), 0), 1)
    next_R = first + np.arange(len(slot_R)) - np.repeat(start_N, length_N)
    if (wrong_R := slot_R != next_R).any():
        at = int(wrong_R.argmax())
        place = f"token {key[1][at]}, layer {key[2][at]}: {name} is {slot_R[at]}"
        device = "; --column device=rank where it is a device's" if name == "rank" else ""
        allowed = f"allowed {next_R[at]}: every slot once, none missing{device} ({such(wrong_R.sum())})"
        raise InputError(f"{table.path}: {place}, {allowed}")


def padded(table: TableFile, values: np.ndarray, length_N: np.ndarray, empty: int) -> np.ndarray:
    """Return values of N rows, `length_N` each, as an array [N, K]; rows that are shorter end in empty slots."""
    width = int(length_N.max())
    if width > MOST_SLOTS:
        raise InputError(f"{table.path}: {width} experts for a token and layer, allowed at most {MOST_SLOTS}")
    if (length_N == width).all():
        return values.reshape(-1, width)
    filled = np.full((len(length_N), width), empty, values.dtype)
    filled[np.arange(width) < length_N[:, None]] = values
    return filled


def list_rows(table: TableFile, fields: dict[str, str]) -> SelectionRows:
    """Return the rows of a table with a list of experts for each token and layer."""
    layer_R = layer_numbers_of(table, needed(table, fields, "layer"))
    length_R, entries = lists(table, fields["experts"])
    experts = padded(table, whole_array(f"{table.path}: column {fields['experts']}", entries), length_R, -1)
    return SelectionRows(
        layer_N=layer_R, experts_NK=experts, scores_NK=listed_scores(table, fields, length_R),
        **rank_of_device(table, fields),
    )  # fmt: skip


def rank_of_device(table: TableFile, fields: dict[str, str]) -> dict:
    """Return what is kept beside lists of experts, where a column `rank` can only be a device's."""
    if "slot" in fields and "device" not in fields:
        fields = fields | {"device": fields["slot"]}
    return shared_fields(table, fields)


def listed_scores(table: TableFile, fields: dict[str, str], length_R: np.ndarray) -> np.ndarray | None:
    """Return the scores beside lists of experts; InputError where there are more, or fewer."""
    if "scores" not in fields:
        return None
    other_R, entries = lists(table, fields["scores"])
    if (other_R != length_R).any():
        row = int((other_R != length_R).argmax())
        found = f"row {row + 1}: {other_R[row]} scores for {length_R[row]} experts"
        raise InputError(f"{table.path}: {found}, allowed: a score for each")
    return padded(table, numeric(f"{table.path}: column {fields['scores']}", entries), length_R, 0)


def slot_rows(table: TableFile, fields: dict[str, str], slots: dict, scored: bool) -> SelectionRows:
    """Return the rows of a table with a column for each slot."""
    layer_R = layer_numbers_of(table, needed(table, fields, "layer"))
    check_running(table, [at for (at,) in slots], "slots")
    experts = np.stack([whole(table, name) for name in slots.values()], axis=1)
    found = numbered(table, SCORES) if scored else {}
    if found and [*found] != [*slots]:
        raise InputError(
            f"{table.path}: {len(found)} columns of scores, allowed one for each of the {len(slots)} slots"
        )
    scores = [numeric(f"{table.path}: column {name}", table.columns[name]) for name in found.values()]
    return SelectionRows(
        layer_N=layer_R, experts_NK=experts, scores_NK=np.stack(scores, axis=1) if scores else None,
        **shared_fields(table, fields),
    )  # fmt: skip
