"""Arrays of counts out of one file of any form: [L, E], [S, L, E] or [S, R, L, E], a table, or an object by layer.

Letters: S iterations, R ranks, L layers, E experts.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from moe_replay.traces.errors import InputError
from moe_replay.traces.importers.reading.array_file import opened_arrays
from moe_replay.traces.importers.reading.import_source import Source, given
from moe_replay.traces.importers.reading.torch_file import array_of, arrays_in, torch_value
from moe_replay.traces.importers.tables.column_fields import SLOTS, check_running, fields_of, numbered
from moe_replay.traces.importers.tables.column_files import TableFile, content_of, loaded, read_table, table_of
from moe_replay.traces.importers.tables.column_values import (
    equal_lists,
    is_list,
    layer_numbers_of,
    whole,
    whole_array,
    without_nulls,
)

USUAL = (
    "counts", "count", "load", "loads", "weight", "logical_count", "expert_counts", "expert_count", "expert_load",
    "expert_loads", "tokens_per_expert", "num_tokens_per_expert", "global_expert_counts", "activations",
)  # fmt: skip
BESIDE = {"layers": ("layer_ids", "layer_numbers", "layers"), "iterations": ("iterations", "iteration_ids", "steps")}
AXES = {2: "LE", 3: "SLE", 4: "SRLE"}
LARGEST_COUNT = 2.0**53  # counts may be floating point, whose whole numbers are exact up to here
MOST_CELLS = 2**27


@dataclass(frozen=True)
class Counts:
    """Counts of one file, `load_SRLE` int64, and the numbers of its axes: None where the file does not tell."""

    load_SRLE: np.ndarray
    layers: tuple[int, ...] | None = None
    iterations: tuple[int, ...] | None = None
    ranks: tuple[int, ...] | None = None


def counts_of(source: Source, path: Path) -> Counts:
    """Return the counts of one file; InputError for what are no whole numbers >= 0, or of an unknown form."""
    if path.suffix in (".npz", ".npy", ".pt"):
        return array_counts(source, path, held_arrays(path))
    if path.suffix == ".json":
        return json_counts(source, path, loaded(str(path), content_of(path)))
    return table_counts(source, read_table(path))


def held_arrays(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays of a file by name; a single one is called `array`."""
    if path.suffix == ".pt":
        return arrays_in(torch_value(path))
    if path.suffix == ".npy":
        with opened_arrays(path, plain=True) as held:
            return {"array": held} if isinstance(held, np.ndarray) else {name: held[name] for name in held.files}
    with opened_arrays(path) as held:
        return {name: held[name] for name in held.files}


def array_counts(source: Source, path: Path, arrays: dict[str, np.ndarray]) -> Counts:
    """Return the counts in one of several arrays."""
    stated = dict(each.partition("=")[::2] for each in source.options.arrays)
    if set(stated) - {"counts"}:
        raise InputError(f"--array is {source.options.arrays[0]!r}, allowed counts=NAME")
    if "counts" in stated and stated["counts"] not in arrays:
        raise InputError(f"{path}: no array {stated['counts']!r}; it holds {', '.join(arrays)!s:.120}")
    known = [stated["counts"]] if stated else [name for name in arrays if name.lower() in USUAL]
    known = known or ([*arrays] if len(arrays) == 1 else [])
    if len(known) != 1:
        found = " and ".join(known) if known else f"it holds {', '.join(arrays)!s:.120}"
        raise InputError(f"{path}: {found}: which are the counts? allowed: --array counts=NAME")
    values = arrays[known[0]]
    place = f"{path}: {known[0]}"
    named = {}
    for axis, names in BESIDE.items():
        there = [name for name in names if name in arrays and arrays[name].ndim == 1 and name != known[0]]
        if there:
            named[axis] = tuple(whole_array(f"{path}: {there[0]}", pa.array(arrays[there[0]])).tolist())
    load_SRLE = in_order(place, whole_counts(place, values), source.options.axes)
    for axis, size in (("layers", load_SRLE.shape[2]), ("iterations", load_SRLE.shape[0])):
        if axis in named and len(named[axis]) != size:
            raise InputError(f"{place}: {size} {axis}, but {len(named[axis])} numbers of them; --axes names the axes")
    return Counts(load_SRLE, named.get("layers"), named.get("iterations"))


def whole_counts(place: str, values: np.ndarray) -> np.ndarray:
    """Return counts as int64; InputError for what is no whole number >= 0."""
    if values.dtype.kind not in "iuf" or values.ndim not in AXES or 0 in values.shape:
        found = f"{values.dtype} of shape {values.shape}"
        raise InputError(f"{place}: {found}, allowed numbers [L, E], [S, L, E] or [S, R, L, E], none of them 0")
    with np.errstate(invalid="ignore"):
        wrong = ~((values >= 0) & (values <= LARGEST_COUNT) & (values == np.floor(values)))
    if wrong.any():
        at = tuple(int(each) for each in np.unravel_index(int(wrong.argmax()), wrong.shape))
        share = "; shares have lost how many tokens there were" if values.max() <= 1 else ""
        found = f"{list(at)} is {values[at]:g} ({int(wrong.sum())} such)"
        raise InputError(f"{place}: {found}, allowed whole numbers >= 0: selections{share}")
    return values.astype(np.int64)


def in_order(place: str, values: np.ndarray, axes: str | None) -> np.ndarray:
    """Return counts [S, R, L, E]; `axes` are the letters of the axes as they are."""
    letters = (axes or AXES[values.ndim]).upper()
    if (
        len(letters) != values.ndim
        or len(set(letters)) != len(letters)
        or not {"L", "E"} <= set(letters) <= set("SRLE")
    ):
        raise InputError(
            f"{place}: --axes {letters} for {values.ndim} axes, allowed: a letter of SRLE for each, L and E"
        )
    order = [letters.index(each) for each in "SRLE" if each in letters]
    shape = [values.shape[letters.index(each)] if each in letters else 1 for each in "SRLE"]
    return values.transpose(order).reshape(shape)


def json_counts(source: Source, path: Path, value: object) -> Counts:
    """Return the counts in JSON: nested lists, an object that holds them by a usual name, by layer, or a table."""
    if isinstance(value, list) and all(isinstance(each, dict) for each in value):
        return table_counts(source, table_from(path, value))
    if isinstance(value, list):
        value = {"array": value}
    if not isinstance(value, dict):
        raise InputError(f"{path}: holds a {type(value).__name__}, allowed lists of counts, or an object")
    by_layer = {name: digits_of(name) for name in value}
    if value and None not in by_layer.values():
        return layered(source, path, {by_layer[name]: each for name, each in value.items()})
    arrays = arrays_in(value)
    if not any(each.ndim > 1 for each in arrays.values()) and all(isinstance(each, list) for each in value.values()):
        return table_counts(source, table_from(path, value))
    return array_counts(source, path, {name: each for name, each in arrays.items() if each.ndim})


def table_from(path: Path, value: list | dict) -> TableFile:
    """Return a table of JSON."""
    table = table_of(path, value)
    columns = {name.strip().lower(): table.column(name).combine_chunks() for name in table.column_names}
    if not columns or not table.num_rows:
        raise InputError(f"{path}: no rows, allowed at least one")
    return TableFile(path, columns)


def digits_of(name: str) -> int | None:
    """Return the only number in a name such as `layer_3`, None where there is none or more than one."""
    digits = "".join(each if each.isascii() and each.isdigit() else " " for each in name).split()
    return int(digits[0]) if len(digits) == 1 and len(digits[0]) <= 9 else None


def layered(source: Source, path: Path, by_layer: dict[int, object]) -> Counts:
    """Return the counts of an object by layer: lists of counts, or objects by expert, in which others have none."""
    rows = []
    for layer, held in sorted(by_layer.items()):
        if isinstance(held, dict):
            experts, row = given(source, "experts", "an expert that got nothing is not in the file"), {}
            for name, count in held.items():
                expert = digits_of(name)
                if expert is None or expert >= experts or expert in row or isinstance(count, bool):
                    raise InputError(
                        f"{path}: layer {layer}: expert {name!r:.20}, allowed each of 0..{experts - 1} once"
                    )
                row[expert] = count
            held = [row.get(expert, 0) for expert in range(experts)]
        rows.append(held)
    values = array_of(rows)
    if values is None or values.ndim != 2:
        raise InputError(f"{path}: layers hold no lists of equally many numbers, allowed a count for each expert")
    load_LE = whole_counts(str(path), values)
    return Counts(load_LE[None, None], tuple(sorted(by_layer)))


def table_counts(source: Source, table: TableFile) -> Counts:
    """Return the counts of a table: a row per count, or a row per layer."""
    fields = fields_of(table, source.options.columns, ("layer", "expert", "count", "step", "device", "slot"))
    if "slot" in fields and "device" not in fields:
        fields["device"] = fields["slot"]  # of counts a rank is a device's
    if {"layer", "expert", "count"} <= fields.keys():
        return long_counts(source, table, fields)
    if "count" in fields and is_list(table.columns[fields["count"]]):
        entries, experts = equal_lists(str(table.path), without_nulls(table, fields["count"]))
        count_RE = whole_array(f"{table.path}: column {fields['count']}", entries).reshape(-1, experts)
    else:
        columns = numbered(table, SLOTS) or {
            (int(name),): name for name in table.columns if name.isascii() and name.isdecimal()
        }
        columns = {at: name for at, name in columns.items() if name not in fields.values()}
        if not columns:
            held = ", ".join(table.columns)
            raise InputError(
                f"{table.path}: holds {held!s:.120}; allowed: columns layer, expert and count, or one for each expert"
            )
        check_running(table, [at for (at,) in sorted(columns)], "experts")
        count_RE = np.stack([whole(table, columns[at]) for at in sorted(columns)], axis=1)
    unnamed = next((name for name in ("", "unnamed: 0") if name in table.columns), None)
    layer = fields.get("layer", unnamed)
    layer_R = np.arange(table.rows) if layer is None else layer_numbers_of(table, layer)
    cells = [layer_R, *(whole(table, fields[name]) if name in fields else np.zeros(table.rows, np.int64)
                        for name in ("step", "device"))]  # fmt: skip
    experts = count_RE.shape[1]
    expert_N = np.tile(np.arange(experts), table.rows)
    repeated = [np.repeat(each, experts) for each in cells]
    made = gridded(table.path, repeated, expert_N, count_RE.reshape(-1), experts, fields)
    return replace(made, layers=None) if layer is None else made


def long_counts(source: Source, table: TableFile, fields: dict[str, str]) -> Counts:
    """Return the counts of a table with a row for each layer and expert; one without a row has none."""
    experts = given(source, "experts", "an expert that got nothing may have no row")
    layer_N = layer_numbers_of(table, fields["layer"])
    expert_N = whole(table, fields["expert"]) - (source.options.first_expert or 0)
    wrong = (expert_N < 0) | (expert_N >= experts)
    if wrong.any():
        row = int(wrong.argmax())
        found = f"row {row + 1}: expert is {whole(table, fields['expert'])[row]}"
        first = source.options.first_expert or 0
        hint = "" if first or expert_N.min() < 1 else "; --first-expert 1 where they are counted from 1"
        raise InputError(f"{table.path}: {found}, allowed {first}..{experts - 1 + first}{hint}")
    others = [
        whole(table, fields[name]) if name in fields else np.zeros(table.rows, np.int64) for name in ("step", "device")
    ]
    count_N = whole(table, fields["count"])
    return gridded(table.path, [layer_N, *others], expert_N, count_N, experts, fields)


def gridded(
    path: Path, axes: list[np.ndarray], expert_N: np.ndarray, count_N: np.ndarray, experts: int, fields: dict[str, str]
) -> Counts:
    """Return counts by layer, iteration and rank; InputError for a count below 0 or there twice."""
    (layers, layer_N), (iterations, step_N), (ranks, rank_N) = (np.unique(each, return_inverse=True) for each in axes)
    shape = (len(iterations), len(ranks), len(layers), experts)
    if np.prod(shape, dtype=float) > MOST_CELLS:
        raise InputError(f"{path}: {shape} iterations, ranks, layers and experts, allowed {MOST_CELLS:,} counts in all")
    if (count_N < 0).any():
        row = int((count_N < 0).argmax())
        raise InputError(f"{path}: row {row + 1}: count is {count_N[row]}, allowed >= 0")
    cell_N = np.ravel_multi_index((step_N, rank_N, layer_N, expert_N), shape)
    seen = np.bincount(cell_N, minlength=np.prod(shape))
    if (seen > 1).any():
        at = np.unravel_index(int(seen.argmax()), shape)
        found = f"layer {layers[at[2]]}, expert {at[3]} is there {seen.max()} times"
        raise InputError(f"{path}: {found}, allowed once in an iteration and rank")
    load = np.zeros(int(np.prod(shape)), np.int64)
    load[cell_N] = count_N
    return Counts(
        load.reshape(shape), tuple(layers.tolist()),
        tuple(iterations.tolist()) if "step" in fields else None, tuple(ranks.tolist()) if "device" in fields else None,
    )  # fmt: skip
