"""`sglang-recorder`: files of SGLang's `--expert-distribution-recorder-mode`, by what they hold:

stat, stat_approx  logical_count [buffer entries, L, E], summed over ranks  -> LoadTrace, without unused entries
per_pass           records with global_physical_count [L, physical experts]  -> LoadTrace, a file per rank
per_token          records with topk_ids_of_layer [L, tokens, columns], -1 = none  -> Trace, a file per rank

A file for `--init-expert-location`, .json or .pt, is counts (`logical_count` [L, E] or [1, L, E]) or a placement
(`physical_to_logical_map` [L, slots]).

Ids of the last two are physical: `last_physical_to_logical_map` turns them into the model's own.
"""

import json
from pathlib import Path

import numpy as np

from moe_replay.traces.errors import InputError
from moe_replay.traces.importers.reading.count_rows import check_grid, load_trace_of
from moe_replay.traces.importers.reading.id_maps import all_experts, checked_map, stated_map
from moe_replay.traces.importers.reading.import_source import Source, given, layer_numbers, option
from moe_replay.traces.importers.reading.placement_tables import placement_of
from moe_replay.traces.importers.reading.torch_file import pass_and_rank, torch_content, whole_numbers
from moe_replay.traces.importers.serving.recorder_tokens import MAPPED, read_tokens
from moe_replay.traces.load_trace import LoadTrace
from moe_replay.traces.placements.expert_placement import ExpertPlacement
from moe_replay.traces.selections import Trace

OWN_MAP = "last_physical_to_logical_map"
RING = "entries of a ring buffer, its last one used: passes may be lost, and the order of these is not known"


def read(source: Source) -> Trace | LoadTrace | ExpertPlacement:
    """Return what the recorder's files hold; --layers names the MoE layers, --k the experts per token."""
    contents = {path: content_of(path) for path in source.paths}
    if len(contents) < len(source.paths):
        raise InputError(f"{source.place}: a file given twice, allowed: each once")
    modes = {path: mode_of(path, content) for path, content in contents.items()}
    if len(set(modes.values())) > 1:
        raise InputError(f"{source.place}: files of {' and '.join(sorted(set(modes.values())))}, allowed one mode")
    if modes[source.paths[0]] == "placement":
        return read_placement(source, contents)
    mode = modes[source.paths[0]]
    for name in ("experts",) if mode == "per_token" else ("experts", "k"):
        given(source, name, "the files do not tell")
    others = ("approximate",) if mode == "per_token" else ("unrouted", "leave_out", "ranked")
    for name in (*others, *(("id_map",) if mode == "stat" else ())):
        if name in source.options.given:
            raise InputError(f"{source.kind}: {option(name)} means nothing for files of mode {mode}")
    return {"stat": read_stat, "per_pass": read_passes, "per_token": read_tokens_of}[mode](source, contents)


def content_of(path: Path) -> dict:
    """Return what a .json or .pt file holds; InputError for anything but an object."""
    if path.suffix != ".json":
        return torch_content(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise InputError(f"{path}: no such file") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not whole JSON ({str(error)[:60]})") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: holds a {type(content).__name__}, allowed an object")
    return content


def mode_of(path: Path, content: dict) -> str:
    """Return stat, per_pass, per_token or placement; InputError for a file that is none of them."""
    if "logical_count" in content:
        return "stat"
    if "physical_to_logical_map" in content:
        return "placement"
    records = content.get("records")
    if not isinstance(records, list) or not records or not all(isinstance(record, dict) for record in records):
        raise InputError(f"{path}: neither logical_count nor records, allowed a file of SGLang's recorder")
    for mode, key in (("per_token", "topk_ids_of_layer"), ("per_pass", "global_physical_count")):
        if all(key in record for record in records):
            return mode
    raise InputError(f"{path}: records without topk_ids_of_layer or global_physical_count, allowed one of them in all")


def moe_layers(source: Source, place: str, count_SLE: np.ndarray) -> tuple[int, ...]:
    """Return the MoE layers, named by --layers; InputError for one without counts, or a dense layer with some."""
    layer_ids = layer_numbers(source.options.layers, count_SLE.shape[1])
    if not count_SLE.any():
        raise InputError(f"{place}: every layer holds only zeros: nothing was recorded")
    for layer in range(count_SLE.shape[1]):
        idle = not count_SLE[:, layer].any()
        if idle == (layer in layer_ids):
            found = "is in --layers, but has no counts" if idle else "is not in --layers, but has counts"
            raise InputError(f"{place}: layer {layer} {found}, allowed: zeros exactly in the dense layers")
    return layer_ids


def read_stat(source: Source, contents: dict[Path, dict]) -> LoadTrace:
    """Return the load trace of stat or stat_approx: one file, its counts already summed over ranks."""
    path = source.one_file()
    flat = np.ndim(contents[path]["logical_count"]) == 2  # one entry, without its axis
    count_SLE = whole_numbers(str(path), contents[path], "logical_count", 2 if flat else 3)
    count_SLE = count_SLE[None] if flat else count_SLE
    if 0 in count_SLE.shape:
        raise InputError(f"{path}: logical_count has shape {count_SLE.shape}, allowed none of them 0")
    check_experts(source, path, count_SLE.shape[2])
    used = np.flatnonzero(count_SLE.any((1, 2)))
    layer_ids = moe_layers(source, str(path), count_SLE)
    load_SRMLE = count_SLE[used][:, None, None, list(layer_ids)]
    iterations, unused = used.tolist(), len(count_SLE) - len(used)
    notes = {"counts": "summed over ranks by the recorder"}
    if used[-1] == len(count_SLE) - 1:
        notes["iterations"] = RING
    if unused:  # the ring buffer is written whole; a pass without tokens looks like an entry that was never used
        notes["left_out"] = [f"{unused} of {len(count_SLE)} buffer entries, which hold no counts"]
    return load_trace_of(source, load_SRMLE, iterations, [0], layer_ids, source.options.k, **notes)


def read_placement(source: Source, contents: dict[Path, dict]) -> ExpertPlacement:
    """Return the placement of one file in the MoE layers, which --layers names, on --devices."""
    path = source.one_file()
    expert_LP = whole_numbers(str(path), contents[path], "physical_to_logical_map", 2)
    if 0 in expert_LP.shape:
        raise InputError(f"{path}: physical_to_logical_map has shape {expert_LP.shape}, allowed none of them 0")
    layer_ids = layer_numbers(source.options.layers, len(expert_LP))
    return placement_of(source, str(path), expert_LP[list(layer_ids)], layer_ids)


def read_passes(source: Source, contents: dict[Path, dict]) -> LoadTrace:
    """Return the load trace of per_pass: a file per rank, every rank with the same passes, physical ids mapped."""
    found, counts, gatherers = {}, {}, set()
    for path, content in contents.items():
        logical_LP = physical_to_logical(source, str(path), content)
        for at, record in enumerate(content["records"]):
            place = f"{path}: record {at}"
            iteration, rank = pass_and_rank(place, record)
            if (iteration, rank) in found:
                raise InputError(f"{place}: pass {iteration} of rank {rank} was in {found[iteration, rank]} before")
            gatherers.add(str(record.get("gatherer_key")))
            found[iteration, rank] = path
            counts[iteration, rank] = physical_counts(place, record, logical_LP)
    if len(gatherers) > 1:
        raise InputError(f"{source.place}: gatherer_key is {' and '.join(sorted(gatherers))!s:.60}, allowed one")
    iterations, ranks = check_grid(source, found, "record")
    shapes = {table.shape for table in counts.values()}
    if len(shapes) > 1:
        raise InputError(f"{source.place}: counts of shapes {sorted(shapes)!s:.60}, allowed one [layers, slots]")
    count_SRLP = np.stack([np.stack([counts[iteration, rank] for rank in ranks]) for iteration in iterations])
    local = rank_local(count_SRLP, ranks)
    load_SRLE = logical_counts(count_SRLP, logical_LP, all_experts(source))
    layer_ids = moe_layers(source, source.place, load_SRLE.sum(1))
    load_SRMLE = load_SRLE[:, :, None, list(layer_ids)]
    notes = {"ids": MAPPED} | ({"counts": local} if local else {})
    return load_trace_of(
        source, load_SRMLE, iterations, ranks, layer_ids, source.options.k, rank_local=bool(local), **notes
    )


def physical_counts(place: str, record: dict, logical_LP: np.ndarray) -> np.ndarray:
    """Return a record's counts [layers, slots]; InputError for another shape than the map's, or counts below zero."""
    count_LP = whole_numbers(place, record, "global_physical_count", 2)
    if count_LP.shape != logical_LP.shape:
        found = f"global_physical_count has shape {count_LP.shape}"
        raise InputError(f"{place}: {found}, allowed {logical_LP.shape} as last_physical_to_logical_map")
    if (count_LP < 0).any():
        raise InputError(f"{place}: count is {count_LP.min()}, allowed >= 0")
    return count_LP


def rank_local(count_SRLP: np.ndarray, ranks: list[int]) -> str | None:
    """Return the note on counts of ranks that each saw the selections of their own slots only; None where they did not.

    Of several ranks, each rank r then counts nothing outside the r-th of equally many slots.
    """
    total_SRL, slots = count_SRLP.sum(3), count_SRLP.shape[3]
    if len(ranks) < 2 or ranks != list(range(len(ranks))) or slots % len(ranks):
        return None
    owner_P = np.arange(slots) // (slots // len(ranks))
    elsewhere = any(count_SRLP[:, rank][..., owner_P != rank].any() for rank in ranks)
    if elsewhere or not count_SRLP.any((0, 2, 3)).all() or (total_SRL == total_SRL[:, :, -1:]).all():
        return None
    return "rank-local: each rank counted what its own experts received; summed over ranks, layers are alike"


def logical_counts(count_SRLP: np.ndarray, logical_LP: np.ndarray, experts: int) -> np.ndarray:
    """Return counts by the model's own experts: replicas of an expert are added up."""
    counts_SRLE = np.zeros((*count_SRLP.shape[:3], experts), np.int64)
    np.add.at(counts_SRLE, (..., np.arange(len(logical_LP))[:, None], logical_LP), count_SRLP)
    return counts_SRLE


def physical_to_logical(source: Source, place: str, content: dict) -> np.ndarray:
    """Return the map [layers, slots] of a file, or of --map where it has none; InputError where they differ."""
    stated = stated_map(source)
    if stated is not None and OWN_MAP not in content:
        return stated
    slots_LP = whole_numbers(place, content, OWN_MAP, 2)
    own = checked_map(f"{place}: {OWN_MAP}", slots_LP, all_experts(source))
    if stated is not None and not np.array_equal(stated, own):
        raise InputError(f"{place}: {OWN_MAP} is another than that of --map, allowed the same, or no --map")
    return own


def check_experts(source: Source, path: Path, experts: int) -> None:
    """Refuse --experts that the file contradicts."""
    if all_experts(source) != experts:
        shared = f" beside --shared-slots {n}" if (n := source.options.shared_slots) else ""
        stated = f"--experts is {source.options.experts}{shared}"
        raise InputError(f"{path}: logical_count has {experts} experts, but {stated}")


def read_tokens_of(source: Source, contents: dict[Path, dict]) -> Trace:
    """Return the trace of per_token; InputError where ranks have different maps."""
    maps = [physical_to_logical(source, str(path), content) for path, content in contents.items()]
    for path, each in zip(contents, maps, strict=True):
        if not np.array_equal(each, maps[0]):
            raise InputError(f"{path}: {OWN_MAP} is another than that of {source.paths[0]}, allowed the same in all")
    return read_tokens(source, contents, maps[0])
