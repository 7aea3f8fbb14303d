"""`counts`: how many selections each expert got: an array or a table, in CSV, JSON, Parquet, NPZ, .npy or .pt.

An array is [L, E], [S, L, E] or [S, R, L, E] (iterations, ranks, layers, experts; `--axes` for another order). A table
has a row per count (layer, expert, count; an expert without a row got nothing), or a row per layer with a column or a
list entry per expert. Several files are ranks or iterations: their names (`rank0`, `iter12`) or `--files-are` tell.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from moe_replay.traces.errors import InputError
from moe_replay.traces.importers.reading.checked_rows import check_files
from moe_replay.traces.importers.reading.count_rows import check_grid, load_trace_of
from moe_replay.traces.importers.reading.id_maps import map_note, mapped_counts
from moe_replay.traces.importers.reading.import_source import Source, given, layer_numbers
from moe_replay.traces.importers.tables.count_arrays import Counts, counts_of
from moe_replay.traces.load_trace import LoadTrace

LOCAL = "rank-local: each rank counted what its own experts received; summed over ranks, layers are alike"
RANK = re.compile(r"rank[_-]?(\d{1,5})(?!\d)", re.IGNORECASE)
ITERATION = re.compile(r"(?:iteration|iter|step|pass)[_-]?(\d{1,9})(?!\d)", re.IGNORECASE)


def read(source: Source) -> LoadTrace:
    """Return the load trace of one or more files; --k says how many experts a token selects."""
    check_files(source)
    used_k = given(source, "k", "counts do not tell how many experts a token selects")
    parts = {path: counts_of(source, path) for path in source.paths}
    load_SRLE, iterations, ranks, layers = joined(source, parts)
    experts = load_SRLE.shape[3]
    if source.options.id_map is not None:
        given(source, "experts", "counts of physical slots do not tell")
    elif source.options.experts is not None:
        all_experts = source.options.experts + (source.options.shared_slots or 0)
        if experts != all_experts:
            raise InputError(f"{source.place}: counts of {experts} experts, but --experts is {source.options.experts}")
    load_SRLE, layer_ids = moe_layers(source, load_SRLE, layers)
    local = own_experts(load_SRLE)
    load_SRLE = mapped_counts(source, load_SRLE, layer_ids)  # replicas of an expert may be on several ranks
    notes = ({"counts": LOCAL} if local else {}) | map_note(source)
    return load_trace_of(
        source, load_SRLE[:, :, None], iterations, ranks, layer_ids, used_k, rank_local=local, **notes
    )  # fmt: skip


def own_experts(load_SRLE: np.ndarray) -> bool:
    """Return whether each of several ranks counted its own experts alone, so that only all ranks make up tokens."""
    return load_SRLE.shape[1] > 1 and bool((load_SRLE.any(0).sum(0) <= 1).all())


def joined(source: Source, parts: dict[Path, Counts]) -> tuple[np.ndarray, list[int], list[int], tuple | None]:
    """Return (counts [S, R, L, E], iterations, ranks, layers) of all files; InputError where they do not line up."""
    layers = joined_layers(source, parts)
    pieces, sizes = {}, {each.load_SRLE.shape[3] for each in parts.values()}
    if len(sizes) > 1:
        raise InputError(f"{source.place}: files of {min(sizes)} and {max(sizes)} experts, allowed: as many in all")
    for path, (iteration, rank) in numbers_of_files(source, parts).items():
        each = parts[path]
        for s, own_iteration in enumerate(each.iterations or range(each.load_SRLE.shape[0])):
            for r, own_rank in enumerate(each.ranks or range(each.load_SRLE.shape[1])):
                at = (own_iteration if iteration is None else iteration, own_rank if rank is None else rank)
                if at in pieces:
                    raise InputError(
                        f"{path}: iteration {at[0]}, rank {at[1]} was there before, allowed: each once; --files-are "
                        "ranks or iterations says what several files are"
                    )
                pieces[at] = in_layers(each, s, r, layers)
    iterations, ranks = check_grid(source, dict.fromkeys(pieces, source.paths[0]), "count")
    stacked = np.stack([np.stack([pieces[iteration, rank] for rank in ranks]) for iteration in iterations])
    return stacked, iterations, ranks, layers


def joined_layers(source: Source, parts: dict[Path, Counts]) -> tuple[int, ...] | None:
    """Return the layers of all files, None where none tells; InputError where only some do, or sizes differ."""
    named = [each.layers for each in parts.values()]
    if all(each is not None for each in named):
        return tuple(sorted({layer for each in named for layer in each}))
    if any(each is not None for each in named) or len({each.load_SRLE.shape[2] for each in parts.values()}) > 1:
        raise InputError(f"{source.place}: files of different layers, allowed: the same, or numbers of them in all")
    return None


def in_layers(counts: Counts, s: int, r: int, layers: tuple[int, ...] | None) -> np.ndarray:
    """Return an iteration and rank of a file's counts in all layers; those that the file lacks have none."""
    load_LE = counts.load_SRLE[s, r]
    if layers is None or counts.layers == layers:
        return load_LE
    found = np.zeros((len(layers), load_LE.shape[1]), np.int64)
    found[[layers.index(each) for each in counts.layers]] = load_LE
    return found


def numbers_of_files(source: Source, parts: dict[Path, Counts]) -> dict[Path, tuple[int | None, int | None]]:
    """Return the (iteration, rank) of every file as --files-are or its name says; None where the file itself does."""
    if len(parts) == 1:
        return dict.fromkeys(parts, (None, None))
    found, told = {}, source.options.files_are
    for at, (path, each) in enumerate(parts.items()):
        several = each.load_SRLE.shape[0] > 1 or each.iterations is not None
        rank, iteration = named_number(RANK, path), named_number(ITERATION, path)
        if told:
            rank, iteration = (at, None) if told == "ranks" else (None, at)
        rank = rank if each.ranks is None else None
        iteration = iteration if told or not several else None
        if rank is None and iteration is None and each.ranks is None and each.iterations is None:
            allowed = "names with rank<R> or iter<I>, or --files-are ranks or iterations"
            raise InputError(f"{path}: one of {len(parts)} files, allowed {allowed}")
        for number, axis in ((rank, 1), (iteration, 0)):
            if number is not None and each.load_SRLE.shape[axis] > 1:
                raise InputError(f"{path}: holds several {('iterations', 'ranks')[axis]}, allowed one in such a file")
        found[path] = (iteration, rank)
    return found


def named_number(pattern: re.Pattern, path: Path) -> int | None:
    """Return the number that a file's name tells, None where it tells none."""
    match = pattern.search(path.name)
    return int(match[1]) if match else None


def moe_layers(source: Source, load_SRLE: np.ndarray, layers: tuple | None) -> tuple[np.ndarray, tuple[int, ...]]:
    """Return the counts of the MoE layers and their numbers: the file's, or those of --layers.

    --layers numbers the layers of a file that does not, or chooses some of more; others may hold no counts.
    """
    idle_L = ~load_SRLE.any((0, 1, 3))
    held = layers or tuple(range(len(idle_L)))
    stated = source.options.layers
    if stated in (None, "all"):
        if idle_L.any() and not idle_L.all():
            found = f"layer {held[int(idle_L.argmax())]} holds only zeros, as a dense layer does"
            raise InputError(f"{source.place}: {found}; allowed: --layers names the MoE layers")
        return load_SRLE, held
    named = layer_numbers(stated)
    if layers is None and len(named) == len(held):
        return load_SRLE, named
    missing = [each for each in named if each not in held]
    if missing:
        raise InputError(f"{source.place}: no layer {missing[0]} of --layers; it holds {held!s:.60}")
    at = [held.index(each) for each in named]
    others = np.delete(idle_L, at)
    if not others.all():
        layer = np.delete(np.array(held), at)[int((~others).argmax())]
        raise InputError(f"{source.place}: layer {layer} is not in --layers, but has counts; allowed: zeros there")
    return load_SRLE[:, :, at], named
