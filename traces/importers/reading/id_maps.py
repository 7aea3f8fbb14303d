"""Physical ids: where an engine places replicas of experts, a row may name slots; a map says which expert each holds.

A map is [layers, slots] (MoE layers, or all hidden layers) or [slots] for all layers: `physical_to_logical_map` or
`phy2log` in .json, .npz or .pt, one plain array in .npy or .json, or a placement's file of this project.
"""

import json
from pathlib import Path

import numpy as np

from moe_replay.traces.errors import InputError
from moe_replay.traces.importers.reading.array_file import opened_arrays
from moe_replay.traces.importers.reading.import_source import Source
from moe_replay.traces.importers.reading.torch_file import torch_content, whole_numbers
from moe_replay.traces.placements.expert_placement import holds_placement, load_placement

NAMES = ("physical_to_logical_map", "last_physical_to_logical_map", "phy2log")


def stated_map(source: Source) -> np.ndarray | None:
    """Return the map of --map, [layers, slots], checked; None where the option is not given."""
    path = source.options.id_map
    if path is None:
        return None
    if holds_placement(path):
        placed_LP = load_placement(path).expert_LP.astype(np.int64)
        return checked_map(str(path), placed_LP, all_experts(source), lowest=-1)  # -1: an empty slot
    content = map_content(path)
    if isinstance(content, dict):
        found = [name for name in NAMES if name in content]
        if len(found) != 1:
            held = " and ".join(found) or "none of them"
            raise InputError(f"{path}: holds {held}, allowed one of {', '.join(NAMES)}")
        content, name = content[found[0]], found[0]
    else:
        name = "the map"
    dimensions = np.ndim(content) if not isinstance(content, str) else 0
    slots = whole_numbers(str(path), {name: content}, name, 1 if dimensions == 1 else 2)
    return checked_map(f"{path}: {name}", np.atleast_2d(slots), all_experts(source))


def map_content(path: Path) -> object:
    """Return what a map's file holds: an object, or plain numbers."""
    if path.suffix == ".json":
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except OSError:
            raise InputError(f"{path}: no such file") from None
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path}: not whole JSON ({str(error)[:60]})") from None
    if path.suffix in (".npz", ".npy"):
        with opened_arrays(path, plain=True) as held:
            return held if isinstance(held, np.ndarray) else {name: held[name] for name in held.files if name in NAMES}
    return torch_content(path)


def checked_map(place: str, logical_LP: np.ndarray, experts: int, lowest: int = 0) -> np.ndarray:
    """Return a map [layers, slots]; InputError unless every layer names exactly the model's experts."""
    wrong = (logical_LP < lowest) | (logical_LP >= experts)
    if not logical_LP.size or wrong.any():
        layer, at = (int(i) for i in np.unravel_index(int(wrong.argmax()), wrong.shape)) if logical_LP.size else (0, 0)
        found = f"layer {layer}, slot {at} is {logical_LP[layer, at]}" if logical_LP.size else "is empty"
        raise InputError(f"{place}: {found}, allowed {lowest}..{experts - 1}")
    for layer, logical_P in enumerate(logical_LP):
        if len(missing := np.setdiff1d(np.arange(experts), logical_P)):
            found = f"layer {layer} has no slot for expert {missing[0]}"
            raise InputError(f"{place}: {found}, allowed: every expert 0..{experts - 1}")
    return logical_LP


def all_experts(source: Source) -> int:
    """Return how many experts the files number: those a router chooses among, and behind them the shared ones."""
    return source.options.experts + (source.options.shared_slots or 0)


def mapped(source: Source, physical_TLK: np.ndarray, logical_LP: np.ndarray, layer_ids: tuple[int, ...]) -> np.ndarray:
    """Return the experts of physical ids in the MoE layers (-1 stays), by a map of these, of all layers, or of one.

    InputError where the map is of another number of layers.
    """
    by_layer = rows_for(source, logical_LP, layer_ids)
    logical_TLK = logical_LP[by_layer[:, None], np.maximum(physical_TLK, 0)]
    return np.where(physical_TLK < 0, -1, logical_TLK).astype(np.int16)


def rows_for(source: Source, logical_LP: np.ndarray, layer_ids: tuple[int, ...]) -> np.ndarray:
    """Return which row of a map each MoE layer has: its own, that of its number among all layers, or the only one."""
    if len(logical_LP) == 1:
        return np.zeros(len(layer_ids), int)
    if len(logical_LP) == len(layer_ids):
        return np.arange(len(layer_ids))
    if len(logical_LP) > layer_ids[-1]:
        return np.array(layer_ids)
    named = f"{len(layer_ids)}, or all up to layer {layer_ids[-1]}"
    raise InputError(f"{source.place}: the map has {len(logical_LP)} layers, allowed {named}")


def mapped_counts(source: Source, physical_XLP: np.ndarray, layer_ids: tuple[int, ...]) -> np.ndarray:
    """Return counts [..., L, E] of experts from those of physical slots, by --map; as they are where it is not given.

    InputError for another number of slots, and for selections of an empty slot.
    """
    logical_LP = stated_map(source)
    if logical_LP is None:
        return physical_XLP
    slots = physical_XLP.shape[-1]
    if logical_LP.shape[1] != slots:
        raise InputError(f"{source.place}: counts of {slots} slots, but the map has {logical_LP.shape[1]}: allowed one")
    found = np.zeros((*physical_XLP.shape[:-1], all_experts(source)), np.int64)
    for at, row in enumerate(rows_for(source, logical_LP, layer_ids)):
        if physical_XLP[..., at, logical_LP[row] < 0].any():
            raise InputError(f"{source.place}: layer {layer_ids[at]} has selections of a slot that the map calls empty")
        for slot in np.flatnonzero(logical_LP[row] >= 0).tolist():
            found[..., at, logical_LP[row, slot]] += physical_XLP[..., at, slot]
    return found


def map_note(source: Source) -> dict[str, str]:
    """Return the note on ids that were mapped, nothing where --map was not given."""
    path = source.options.id_map
    return {} if path is None else {"ids": f"physical ids were mapped to experts by {path.name}"}
