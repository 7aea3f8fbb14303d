"""`tensorrt-llm`: expert statistics of TensorRT-LLM (`EXPERT_STATISTIC_ITER_RANGE`, `EXPERT_STATISTIC_PATH`).

`meta_info.json {num_experts, num_experts_per_token}` beside `rank{r}.safetensors`, whose tensors `"{iter}_{layer}"`
hold the counts of the experts. safetensors: 8 bytes with the header's length, a JSON header, the raw tensors.
A placement is the YAML of its load balancer: `num_slots`, and `initial_global_assignments` by layer.
"""

import json
import re
from pathlib import Path

import numpy as np

from moe_replay.traces.errors import InputError
from moe_replay.traces.importers.reading.count_rows import load_trace_of
from moe_replay.traces.importers.reading.id_maps import map_note, mapped_counts
from moe_replay.traces.importers.reading.import_source import Source, given, option
from moe_replay.traces.importers.reading.placement_tables import placement_of
from moe_replay.traces.load_trace import LoadTrace
from moe_replay.traces.placements.expert_placement import ExpertPlacement

YAML, CLUSTER = (".yaml", ".yml"), ("devices", "nodes")
NAME = re.compile(r"rank(\d{1,9})\.safetensors")
KEY = re.compile(r"(\d{1,9})_(\d{1,9})")
META_KEYS = ("num_experts", "num_experts_per_token")
TYPES = {"I64": "<i8", "I32": "<i4", "U32": "<u4", "I16": "<i2", "U8": "u1"}
LARGEST_HEADER = 100_000_000  # bytes, the limit of the format


def read(source: Source) -> LoadTrace | ExpertPlacement:
    """Return the placement of a YAML file, or the loads in the folder that TensorRT-LLM wrote.

    Every rank must have the same tensors.
    """
    folder = source.one_file()
    if folder.suffix in YAML:
        return read_placement(source, folder)
    mapping = source.options.id_map is not None
    for name in CLUSTER if mapping else ("experts", *CLUSTER):
        if getattr(source.options, name) is not None:
            raise InputError(f"{source.kind}: {option(name)} means nothing here; it is for a placement's YAML")
    experts, used_k = meta_info(folder / "meta_info.json")
    files = rank_files(folder)
    tables, first = [], None
    for path in files.values():
        counts = tensors(path)
        iterations, layers = grid(path, counts)
        if first not in (None, (iterations, layers)):
            found = f"iterations {short(iterations)} of layers {short(layers)}"
            raise InputError(f"{path}: {found}, allowed {short(first[0])} of {short(first[1])} as in other ranks")
        first = iterations, layers
        tables.append([[count_E(path, counts[at, layer], at, layer, experts) for layer in layers] for at in iterations])
    if mapping:  # its num_experts are then slots
        given(source, "experts", "the files count physical slots")
    load_SRMLE = mapped_counts(source, np.array(tables, np.int64).transpose(1, 0, 2, 3)[:, :, None], tuple(first[1]))
    written = [folder / "meta_info.json", *files.values()]
    routed_k = used_k - (source.options.shared_slots or 0)
    if routed_k < 1:
        shared = source.options.shared_slots
        raise InputError(f"{source.place}: --shared-slots {shared}, allowed fewer than {used_k}, the experts per token")
    return load_trace_of(
        source, load_SRMLE, *(first[0], list(files)), tuple(first[1]), routed_k, written, **map_note(source)
    )  # fmt: skip


def read_placement(source: Source, path: Path) -> ExpertPlacement:
    """Return the placement in the file of the load balancer; --devices says on how many."""
    import yaml

    if source.options.id_map is not None:
        raise InputError(f"{source.kind}: --map means nothing here: a placement is a map itself")

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError:
        raise InputError(f"{path}: no such file") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: not whole YAML ({' '.join(str(error).split())[:80]})") from None
    table = content.get("initial_global_assignments") if isinstance(content, dict) else None
    if not isinstance(table, dict) or not table or not all(type(each) is int and each >= 0 for each in table):
        raise InputError(f"{path}: no initial_global_assignments by layer, allowed the load balancer's file")
    layer_ids = tuple(sorted(table))
    slots = content.get("num_slots")
    for layer in layer_ids:
        if not whole_numbers(table[layer], slots):
            raise InputError(f"{path}: layer {layer}: allowed {slots} experts, num_slots, as whole numbers >= 0")
    return placement_of(source, str(path), np.array([table[layer] for layer in layer_ids], np.int64), layer_ids)


def short(numbers: list[int]) -> str:
    """Return a few numbers as text."""
    return f"{numbers}" if len(numbers) < 5 else f"[{numbers[0]}, ... {numbers[-1]}] ({len(numbers)})"


def meta_info(path: Path) -> tuple[int, int]:
    """Return (experts, experts per token); InputError for what cannot be."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"{path}: no such file, allowed the folder that TensorRT-LLM wrote") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not whole JSON ({str(error)[:60]})") from None
    values = [content.get(key) if isinstance(content, dict) else None for key in META_KEYS]
    for key, value, high in zip(META_KEYS, values, (32767, values[0]), strict=True):
        if type(value) is not int or not 1 <= value <= high:
            raise InputError(f"{path}: {key} is {value!r:.40}, allowed 1..{high}")
    return values[0], values[1]


def rank_files(folder: Path) -> dict[int, Path]:
    """Return {rank: file}, ascending; InputError unless ranks are 0, 1, ..."""
    found = {int(name[1]): path for path in folder.iterdir() if (name := NAME.fullmatch(path.name))}
    if not found:
        raise InputError(f"{folder}: no statistics, allowed files rank0.safetensors, ...")
    for rank in range(max(found) + 1):
        if rank not in found:
            raise InputError(f"{folder}: rank{rank}.safetensors is missing beside rank{max(found)}, allowed every rank")
    return {rank: found[rank] for rank in sorted(found)}


def tensors(path: Path) -> dict[tuple[int, int], np.ndarray]:
    """Return {(iteration, layer): counts} of a safetensors file; InputError for a damaged one or other tensors."""
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    if len(content) < 8 or not 2 <= length <= min(LARGEST_HEADER, len(content) - 8):
        raise InputError(
            f"{path}: header of {length} bytes in a file of {len(content)}, allowed a whole safetensors file"
        )
    try:
        header = json.loads(content[8 : 8 + length])
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: the header is not JSON ({str(error)[:60]})") from None
    if not isinstance(header, dict):
        raise InputError(f"{path}: the header is {type(header).__name__}, allowed an object")
    header.pop("__metadata__", None)
    raw, found = content[8 + length :], {}
    for name, entry in header.items():
        key = KEY.fullmatch(name)
        if not key:
            raise InputError(f"{path}: tensor {name!r:.40}, allowed names '<iteration>_<layer>'")
        at = int(key[1]), int(key[2])
        if at in found:
            raise InputError(f"{path}: tensor {name!r}: iteration {at[0]}, layer {at[1]} is there twice, allowed once")
        found[at] = tensor(f"{path}: tensor {name!r}", entry, raw)
    if not found:
        raise InputError(f"{path}: no tensors, allowed one per iteration and layer")
    used = sum(values.nbytes for values in found.values())
    if used != len(raw):
        raise InputError(f"{path}: tensors fill {used} of {len(raw)} bytes, allowed all of them")
    return found


def tensor(place: str, entry: object, raw: bytes) -> np.ndarray:
    """Return one tensor, a list of whole numbers; InputError if its entry in the header cannot be."""
    kind, shape, offsets = (
        entry.get(key) if isinstance(entry, dict) else None for key in ("dtype", "shape", "data_offsets")
    )
    if kind not in TYPES if isinstance(kind, str) else True:
        raise InputError(f"{place}: dtype is {kind!r:.40}, allowed {', '.join(TYPES)}: counts")
    if not whole_numbers(shape, 1):
        raise InputError(f"{place}: shape is {shape!r:.40}, allowed one dimension, the experts")
    if not whole_numbers(offsets, 2) or not offsets[0] <= offsets[1] <= len(raw):
        raise InputError(f"{place}: data_offsets are {offsets!r:.40}, allowed within 0..{len(raw)}")
    size = shape[0] * np.dtype(TYPES[kind]).itemsize
    if offsets[1] - offsets[0] != size:
        raise InputError(f"{place}: {offsets[1] - offsets[0]} bytes, allowed {size} for {shape[0]} of {kind}")
    return np.frombuffer(raw, TYPES[kind], count=shape[0], offset=offsets[0])


def whole_numbers(values: object, count: int) -> bool:
    """Return whether a value is a list of so many whole numbers >= 0."""
    return isinstance(values, list) and len(values) == count and all(type(each) is int and each >= 0 for each in values)


def grid(path: Path, counts: dict[tuple[int, int], np.ndarray]) -> tuple[list[int], list[int]]:
    """Return (iterations, layers), ascending; InputError unless every layer is there in every iteration."""
    iterations, layers = sorted({at[0] for at in counts}), sorted({at[1] for at in counts})
    for iteration in iterations:
        for layer in layers:
            if (iteration, layer) not in counts:
                raise InputError(f"{path}: no tensor '{iteration}_{layer}', allowed: every layer in every iteration")
    return iterations, layers


def count_E(path: Path, counts: np.ndarray, iteration: int, layer: int, experts: int) -> np.ndarray:
    """Return the counts of a layer; InputError for another number of experts, or counts below zero."""
    place = f"{path}: tensor '{iteration}_{layer}'"
    if len(counts) != experts:
        raise InputError(f"{place}: {len(counts)} counts, allowed {experts}, num_experts in meta_info.json")
    if (counts < 0).any():
        raise InputError(f"{place}: count is {counts.min()}, allowed >= 0")
    return counts
