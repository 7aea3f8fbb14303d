"""Rows of selections out of a table's columns, whatever its form; one row is a token's experts in one layer.

long        a row per selection: layer, token, expert
by row      a row per token and layer: a list of experts, or columns expert_0, expert_1, ...
by token    a row per token: lists in a list, or a column layer_3 per layer, or columns layer_3_expert_0, ...
by request  a row per request: tokens of layers of experts, three lists deep
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from moe_replay.traces.errors import InputError
from moe_replay.traces.file.checks import such
from moe_replay.traces.importers.tables.column_fields import (
    CELLS,
    LAYERS,
    SCORES,
    SLOTS,
    check_running,
    fields_of,
    numbered,
)
from moe_replay.traces.importers.tables.column_values import (
    codes,
    depth,
    equal_lists,
    is_list,
    layer_numbers_of,
    lists,
    numeric,
    phases,
    whole,
    whole_array,
    without_nulls,
)
from moe_replay.traces.importers.tables.table_files import TableFile

WANTED = (
    "sequence", "token", "layer", "expert", "experts", "slot", "score", "scores", "phase", "step", "token_id",
    "prompt_len", "device",
)  # fmt: skip
BESIDE = {"phase": phases, "step": whole, "token_id": whole, "prompt_len": whole, "device": whole}
MOST_SLOTS = 1024  # experts per token; more is a column taken for another


@dataclass(frozen=True)
class SelectionRows:
    """N rows of one file. `token_N` is None where the file has no numbers: then a layer's rows are in order.

    `sequence_N` indexes `sequences`, the file's own names, None where it has none. `experts_NK` has -1 in empty slots.
    `beside` are values by row: phase, step, token_id, prompt_len, device. `ranked` where a column says the rank.
    """

    layer_N: np.ndarray
    experts_NK: np.ndarray
    token_N: np.ndarray | None = None
    scores_NK: np.ndarray | None = None
    sequence_N: np.ndarray | None = None
    sequences: list | None = None
    beside: dict[str, np.ndarray] = field(default_factory=dict)
    ranked: bool = False
    left_out: int = 0


def selection_rows(table: TableFile, stated: tuple[str, ...], scored: bool) -> SelectionRows:
    """Return the rows of a table; `stated` are entries of --column; scores are read where they are wanted."""
    fields = fields_of(table, stated, WANTED)
    if not scored:
        fields = {name: each for name, each in fields.items() if name not in ("score", "scores")}
    if {"expert", "experts"} <= fields.keys():
        both = f"{fields['expert']} and {fields['experts']}"
        raise InputError(f"{table.path}: columns {both} may both be the experts; allowed: --column expert= or experts=")
    cells, slots, by_layer = (numbered(table, pattern) for pattern in (CELLS, SLOTS, LAYERS))
    core = [fields[name] for name in ("layer", "expert", "experts") if name in fields]
    core += [*cells.values()] if cells else [*slots.values()] if "expert" not in fields else []
    core += [fields[name] for name in ("sequence", "token") if core and name in fields]
    table, left_out = without_remarks(table, core)
    if "expert" in fields:
        rows = long_rows(table, fields)
    elif "experts" in fields and depth(table.columns[fields["experts"]]) > 1:
        rows = nested_rows(table, fields)
    elif "experts" in fields:
        rows = list_rows(table, fields)
    elif cells:
        rows = cell_rows(table, fields, cells)
    elif slots:
        rows = slot_rows(table, fields, slots, scored)
    elif by_layer and all(depth(table.columns[name]) == 1 for name in by_layer.values()):
        rows = layer_rows(table, fields, by_layer)
    else:
        held = ", ".join(table.columns)
        raise InputError(f"{table.path}: no column of experts; it holds {held!s:.120}; allowed: --column experts=NAME")
    return replace(rows, left_out=left_out)


def without_remarks(table: TableFile, core: list[str]) -> tuple[TableFile, int]:
    """Return the rows that speak of a token, and how many do not: rows in which every such column is empty."""
    if not core:
        return table, 0
    empty_R = np.logical_and.reduce([table.columns[name].is_null().to_numpy(zero_copy_only=False) for name in core])
    count = int(empty_R.sum())
    if not count:
        return table, 0
    if count == len(empty_R):
        raise InputError(f"{table.path}: column {core[0]} is empty in all {count} rows, allowed at least one value")
    kept = pa.array(~empty_R)
    return replace(table, columns={name: pc.filter(each, kept) for name, each in table.columns.items()}), count


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
        raise InputError(
            f"{table.path}: {place}, allowed {next_R[at]}: every slot once, none missing ({such(wrong_R.sum())})"
        )


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


def cell_rows(table: TableFile, fields: dict[str, str], cells: dict) -> SelectionRows:
    """Return the rows of a table with a column for each layer and slot."""
    layers, slots = sorted({at[0] for at in cells}), sorted({at[1] for at in cells})
    check_running(table, slots, "slots")
    if len(cells) != len(layers) * len(slots):
        found = f"{len(cells)} columns for {len(layers)} layers x {len(slots)} slots"
        raise InputError(f"{table.path}: {found}, allowed: one for each")
    experts = np.stack([whole(table, name) for name in cells.values()], axis=1).reshape(-1, len(slots))
    return token_rows(table, fields, np.array(layers), experts)


def layer_rows(table: TableFile, fields: dict[str, str], by_layer: dict) -> SelectionRows:
    """Return the rows of a table with a list of experts in a column for each layer."""
    found = {at: lists(table, name) for (at,), name in by_layer.items()}
    width = max(int(length_R.max()) for length_R, _ in found.values())
    parts = []
    for at, (length_R, entries) in found.items():
        experts = padded(table, whole_array(f"{table.path}: column {by_layer[at,]}", entries), length_R, -1)
        parts.append(np.pad(experts, ((0, 0), (0, width - experts.shape[1])), constant_values=-1))
    return token_rows(table, fields, np.array([*found]), np.stack(parts, axis=1).reshape(-1, width))


def token_rows(table: TableFile, fields: dict[str, str], layers: np.ndarray, experts_NK: np.ndarray) -> SelectionRows:
    """Return rows of tokens, all layers of one after another."""
    shared = rank_of_device(table, fields)
    times = len(experts_NK) // table.rows
    repeated = {
        name: each if name == "sequences" or each is None else np.repeat(each, times)
        for name, each in shared.items()
        if name != "beside"
    }
    repeated["beside"] = {name: np.repeat(each, times) for name, each in shared["beside"].items()}
    return SelectionRows(layer_N=np.tile(layers, table.rows), experts_NK=experts_NK, **repeated)


def nested_rows(table: TableFile, fields: dict[str, str]) -> SelectionRows:
    """Return the rows of a table with lists of lists: layers of a token, tokens of a layer, or tokens of a request."""
    name, place = fields["experts"], f"{table.path}: column {fields['experts']}"
    deep = depth(table.columns[name])
    if deep > 3 or (deep == 3 and "layer" in fields) or "scores" in fields:
        held = f"lists {deep} deep" + (" beside layers" if "layer" in fields else "")
        held = "lists of lists beside scores" if "scores" in fields else held
        raise InputError(f"{place}: {held}, allowed layers of a token, tokens of a layer, or tokens of a request")
    if deep == 3 or "layer" in fields:
        table = spread(table, name)
        fields = fields if deep == 2 or "sequence" in fields else fields | {"sequence": "request"}
    if "layer" in fields:
        return list_rows(table, {each: column for each, column in fields.items() if each != "token"})
    layers_T, layers = equal_lists(place, without_nulls(table, name))
    if not layers:
        raise InputError(f"{place}: empty lists, allowed experts of layers of tokens")
    experts, k = equal_lists(place, layers_T)
    if not k:
        raise InputError(f"{place}: empty lists, allowed experts of layers of tokens")
    return token_rows(table, fields, np.arange(layers), whole_array(place, experts).reshape(-1, k))


def spread(table: TableFile, name: str) -> TableFile:
    """Return a table with a row for every entry of the lists in a column; a column `request` numbers the old rows."""
    values = without_nulls(table, name)
    length_R = pc.list_value_length(values).to_numpy(zero_copy_only=False).astype(np.int64)
    if not length_R.sum():
        raise InputError(f"{table.path}: column {name}: empty lists, allowed experts of tokens")
    at = pa.array(np.repeat(np.arange(table.rows), length_R))
    kept = {other: pc.take(each, at) for other, each in table.columns.items() if not is_list(each)}
    return replace(table, columns=kept | {"request": at, name: pc.list_flatten(values)})
