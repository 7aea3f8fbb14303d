"""`eplb`: arrays of DeepSeek's EPLB in an .npz: `weight`, the loads it is given, or its tables, a placement.

`weight` [L, E] or [S, L, E] are whole numbers of selections, `domain` a text for each of the S; `phy2log` [L, P] is the
expert of every slot, with which `log2phy` and `logcnt` must agree. `layer_ids` may be beside either.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from moe_replay.traces.errors import InputError
from moe_replay.traces.importers.npz import layers_of
from moe_replay.traces.importers.reading.array_file import opened_arrays
from moe_replay.traces.importers.reading.count_rows import load_trace_of
from moe_replay.traces.importers.reading.import_source import Source, given
from moe_replay.traces.importers.reading.placement_tables import placement_of
from moe_replay.traces.load_trace import LoadTrace
from moe_replay.traces.placements.even_split import replicas_LE
from moe_replay.traces.placements.expert_placement import ExpertPlacement


def read(source: Source) -> LoadTrace | ExpertPlacement:
    """Return the loads or the placement in a file; --k says how many experts a token selects, --devices on how many."""
    path = source.one_file()
    arrays = arrays_of(path)
    if "phy2log" in arrays:
        return read_placement(source, path, arrays)
    if "weight" not in arrays:
        held = ", ".join(arrays) or "nothing"
        raise InputError(f"{path}: holds {held}, allowed weight (loads), or phy2log (a placement)")
    return read_weight(source, path, arrays)


def arrays_of(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays of an .npz; InputError for anything else."""
    with opened_arrays(path) as held:
        return {name: held[name] for name in held.files}


def read_weight(source: Source, path: Path, arrays: dict[str, np.ndarray]) -> LoadTrace:
    """Return the loads: an iteration for each [L, E]."""
    weight = arrays["weight"]
    if weight.ndim not in (2, 3) or weight.dtype.kind not in "iuf" or 0 in weight.shape:
        found = f"weight is {weight.dtype} of shape {weight.shape}"
        raise InputError(f"{path}: {found}, allowed numbers [layers, experts], or several of those")
    if not (np.isfinite(weight).all() and (weight >= 0).all() and (weight == np.floor(weight)).all()):
        wrong = weight[~(np.isfinite(weight) & (weight >= 0) & (weight == np.floor(weight)))]
        raise InputError(f"{path}: weight has {wrong[0]}, allowed whole numbers >= 0, selections ({wrong.size} such)")
    load_SLE = weight.reshape(-1, *weight.shape[-2:]).astype(np.int64)
    iterations, layers, experts = load_SLE.shape
    if source.options.experts not in (None, experts):
        raise InputError(f"{path}: weight has {experts} experts, but --experts is {source.options.experts}")
    notes = {}
    if "domain" in arrays:
        domain = arrays["domain"]
        if domain.dtype.kind != "U" or domain.shape != (iterations,):
            raise InputError(f"{path}: domain is {domain.dtype} of shape {domain.shape}, allowed {iterations} texts")
        notes["domains"] = domain.tolist()
    layer_ids = layers_of(path, source, arrays.get("layer_ids"), layers)
    used_k = given(source, "k", "weight does not tell")
    return load_trace_of(source, load_SLE[:, None, None], list(range(iterations)), [0], layer_ids, used_k, **notes)


def read_placement(source: Source, path: Path, arrays: dict[str, np.ndarray]) -> ExpertPlacement:
    """Return the placement of phy2log; InputError where log2phy or logcnt say something else."""
    expert_LP = arrays["phy2log"]
    if expert_LP.ndim != 2 or expert_LP.dtype.kind not in "iu" or 0 in expert_LP.shape:
        found = f"phy2log is {expert_LP.dtype} of shape {expert_LP.shape}"
        raise InputError(f"{path}: {found}, allowed whole numbers [layers, slots]")
    layer_ids = layers_of(path, source, arrays.get("layer_ids"), len(expert_LP))
    experts = arrays["logcnt"].shape[-1] if "logcnt" in arrays else None
    made = placement_of(source, str(path), expert_LP, layer_ids, experts)
    if "logcnt" in arrays and not np.array_equal(arrays["logcnt"], replicas_LE(made.expert_LP, made.experts)):
        raise InputError(f"{path}: logcnt does not count the slots of phy2log, allowed: tables of one placement")
    if "log2phy" in arrays and not same_slots(arrays["log2phy"], made.slot_LEX):
        raise InputError(f"{path}: log2phy does not name the slots of phy2log, allowed: tables of one placement")
    return made


def same_slots(slot_LEX: np.ndarray, own_LEX: np.ndarray) -> bool:
    """Say whether two tables name the same slots of every expert, in any order."""
    if slot_LEX.ndim != 3 or slot_LEX.shape[:2] != own_LEX.shape[:2]:
        return False
    width = max(slot_LEX.shape[2], own_LEX.shape[2])
    one, other = (
        np.sort(np.pad(each, ((0, 0), (0, 0), (0, width - each.shape[2])), constant_values=-1), axis=2)
        for each in (slot_LEX, own_LEX)
    )
    return np.array_equal(one, other)
