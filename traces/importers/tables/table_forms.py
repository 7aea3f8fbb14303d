"""Rows of selections out of a table's columns, whatever its form; one row is a token's experts in one layer.

long        a row per selection: layer, token, expert
by row      a row per token and layer: a list of experts, or columns expert_0, expert_1, ...
by token    a row per token: lists in a list, or a column layer_3 per layer, or columns layer_3_expert_0, ...
by request  a row per request: tokens of layers of experts, three lists deep
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from moe_replay.traces.errors import InputError
from moe_replay.traces.importers.tables.column_fields import CELLS, LAYERS, SLOTS, fields_of, numbered
from moe_replay.traces.importers.tables.column_files import TableFile
from moe_replay.traces.importers.tables.column_values import depth
from moe_replay.traces.importers.tables.selection_rows import SelectionRows, list_rows, long_rows, slot_rows
from moe_replay.traces.importers.tables.wide_rows import cell_rows, layer_rows, nested_rows

WANTED = (
    "sequence", "token", "layer", "expert", "experts", "slot", "score", "scores", "phase", "step", "token_id",
    "prompt_len", "device",
)  # fmt: skip


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
    if "expert" in fields and "token" not in fields and "step" in fields:  # logs of one token a step
        fields = {("token" if name == "step" else name): column for name, column in fields.items()}
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
