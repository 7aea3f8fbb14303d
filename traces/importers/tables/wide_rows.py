"""Rows of selections out of a table with a row per token (all its layers), or per request (all its tokens)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from moe_replay.traces.errors import InputError
from moe_replay.traces.importers.tables.column_fields import check_running
from moe_replay.traces.importers.tables.column_files import TableFile
from moe_replay.traces.importers.tables.column_values import (
    depth,
    equal_lists,
    is_list,
    lists,
    whole,
    whole_array,
    without_nulls,
)
from moe_replay.traces.importers.tables.selection_rows import SelectionRows, list_rows, padded, rank_of_device


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
    made = token_rows(table, fields, np.arange(layers), whole_array(place, experts).reshape(-1, k))
    return replace(made, layers_told=False)


def spread(table: TableFile, name: str) -> TableFile:
    """Return a table with a row for every entry of the lists in a column; a column `request` numbers the old rows."""
    values = without_nulls(table, name)
    length_R = pc.list_value_length(values).to_numpy(zero_copy_only=False).astype(np.int64)
    if not length_R.sum():
        raise InputError(f"{table.path}: column {name}: empty lists, allowed experts of tokens")
    at = pa.array(np.repeat(np.arange(table.rows), length_R))
    kept = {other: pc.take(each, at) for other, each in table.columns.items() if not is_list(each)}
    return replace(table, columns=kept | {"request": at, name: pc.list_flatten(values)})
