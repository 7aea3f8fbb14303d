"""`megatron`: expert loads that Megatron-Core's recorder dumps, `mcore_ep_loads_rank<R>_*.npz`, a file per rank.

`loads` [layers, forwards, experts] are the selections of the rank's own tokens, of which each layer recorded
`forward_counts`: what is behind them was never written. Ranks of one expert-parallel group hold the same layers, stages
of a pipeline others. Layers are numbered from 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from moe_replay.traces.errors import InputError
from moe_replay.traces.importers.reading.array_file import opened_arrays
from moe_replay.traces.importers.reading.checked_rows import check_files
from moe_replay.traces.importers.reading.count_rows import load_trace_of
from moe_replay.traces.importers.reading.import_source import Source, given
from moe_replay.traces.importers.tables.count_arrays import whole_counts
from moe_replay.traces.load_trace import LoadTrace

VERSION = "mcore_ep_load_dump_v1"
NUMBERS = ("ep_rank", "ep_size", "global_rank", "num_global_physical_experts")


@dataclass(frozen=True)
class Dump:
    """One rank's file: counts [forwards, layers, experts], its layers, its place among the ranks."""

    load_SLE: np.ndarray
    layers: tuple[int, ...]
    numbers: dict[str, int]
    unfinished: int


def read(source: Source) -> LoadTrace:
    """Return the load trace of the files of all ranks; --k says how many experts a token selects."""
    check_files(source)
    k = given(source, "k", "loads do not tell how many experts a token selects")
    dumps = {path: dump_of(source, path) for path in source.paths}
    forwards = {len(each.load_SLE) for each in dumps.values()}
    if len(forwards) > 1:
        raise InputError(f"{source.place}: {min(forwards)} to {max(forwards)} forwards, allowed: as many in all files")
    load_SRLE, ranks, layers = joined(source, dumps)
    unfinished = max(each.unfinished for each in dumps.values())
    notes = {"layers": "numbered from 1", "counts": "selections of each rank's own tokens"}
    if unfinished:
        notes["left_out"] = [f"{unfinished} forwards that only some layers recorded"]
    return load_trace_of(source, load_SRLE[:, :, None], [*range(len(load_SRLE))], ranks, layers, k, **notes)


def dump_of(source: Source, path: Path) -> Dump:
    """Return what a file holds; InputError for another version, or parts that do not fit each other."""
    with opened_arrays(path) as held:
        arrays = {name: held[name] for name in held.files}
    version = arrays.get("dump_version")
    if version is None or str(version) != VERSION:
        raise InputError(f"{path}: dump_version is {str(version)!r:.40}, allowed {VERSION}")
    missing = [name for name in ("loads", "layer_numbers", "forward_counts", *NUMBERS) if name not in arrays]
    if missing:
        raise InputError(f"{path}: {missing[0]} is missing")
    for name in ("layer_numbers", "forward_counts", *NUMBERS):
        if arrays[name].dtype.kind not in "iu" or arrays[name].ndim != (name not in NUMBERS):
            raise InputError(
                f"{path}: {name} is {arrays[name].dtype} of shape {arrays[name].shape}, allowed whole numbers"
            )
    numbers = {name: int(arrays[name]) for name in NUMBERS}
    loads, layers, done_L = arrays["loads"], arrays["layer_numbers"], arrays["forward_counts"].astype(np.int64)
    expected = (len(layers), int(done_L.max(initial=0)), numbers["num_global_physical_experts"])
    if loads.ndim != 3 or len(done_L) != len(layers) or 0 in loads.shape or loads.shape[::2] != expected[::2]:
        raise InputError(f"{path}: loads has shape {loads.shape}, allowed {expected}: layers, forwards, experts")
    if not 1 <= done_L.min() <= done_L.max() <= loads.shape[1] or (np.diff(layers) <= 0).any():
        found = f"forward_counts {done_L.tolist()!s:.40}, layer_numbers {layers.tolist()!s:.40}"
        raise InputError(f"{path}: {found}, allowed 1..{loads.shape[1]} forwards, ascending layers")
    experts = source.options.experts
    if experts is not None and experts + (source.options.shared_slots or 0) != loads.shape[2]:
        raise InputError(
            f"{path}: {loads.shape[2]} physical experts, but --experts is {experts}; replicas have no map here"
        )
    done = int(done_L.min())
    load_LSE = whole_counts(f"{path}: loads", loads[:, :done])
    return Dump(load_LSE.transpose(1, 0, 2), tuple(layers.tolist()), numbers, int(done_L.max()) - done)


def joined(source: Source, dumps: dict[Path, Dump]) -> tuple[np.ndarray, list[int], tuple[int, ...]]:
    """Return (counts [S, R, L, E], ranks, layers); ranks in place of each other in all stages of a pipeline."""
    stages = {}
    for path, each in dumps.items():
        stages.setdefault(each.layers, {})
        name = "ep_rank" if len({other.layers for other in dumps.values()}) > 1 else "global_rank"
        rank = each.numbers[name]
        if rank in stages[each.layers] or rank < 0:
            raise InputError(f"{path}: {name} {rank} is there twice, allowed: the dumps of one capture, a file a rank")
        stages[each.layers][rank] = each
    numbers = [number for layers in stages for number in layers]
    if len(set(numbers)) < len(numbers):
        raise InputError(f"{source.place}: stages share some layers, allowed: the same layers, or none")
    ranks = sorted(next(iter(stages.values())))
    size = max(each.numbers["ep_size"] for each in dumps.values())
    if any(sorted(held) != ranks for held in stages.values()) or len(ranks) % size:
        found = f"ranks {', '.join(str(sorted(held)) for held in stages.values())!s:.60}"
        raise InputError(f"{source.place}: {found}, allowed: all {size} ranks of an expert-parallel group")
    ordered = sorted(stages)
    load_SRLE = np.concatenate(
        [np.stack([stages[layers][rank].load_SLE for rank in ranks], axis=1) for layers in ordered], axis=2
    )
    return load_SRLE, ranks, tuple(layer for layers in ordered for layer in layers)
