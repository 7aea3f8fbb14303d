"""`eplb`: what DeepSeek's `rebalance_experts` takes, weight [L, E], and returns: phy2log, log2phy, logcnt."""

from pathlib import Path

import numpy as np

from moe_replay.traces.command_line.files import replacing
from moe_replay.traces.errors import InputError
from moe_replay.traces.exporters.export_subject import LAYERS, Subject

SUFFIXES = (".npz",)
KEEPS = (LAYERS,)
EXACT = np.float32, np.float64  # the first that holds every load as it is


def write(subject: Subject, path: Path) -> None:
    """Write an .npz: loads as `weight` [L, E], or a placement as EPLB's three tables; `layer_ids` beside.

    A weight is float32, float64 where loads above 2^24 need it; InputError for one that neither holds.
    """
    placed = subject.placement
    if placed is None:
        arrays = {"weight": exact(subject.load_LE)}
    else:
        arrays = {
            "phy2log": placed.expert_LP.astype(np.int64), "log2phy": placed.slot_LEX,
            "logcnt": placed.replicas_LE.astype(np.int64),
        }  # fmt: skip
    with replacing(path) as temporary, open(temporary, "wb") as opened:
        np.savez(opened, **arrays, layer_ids=np.array(subject.model.layer_ids, np.int64))


def exact(load_LE: np.ndarray) -> np.ndarray:
    """Return loads as floats that come back as they are."""
    for kind in EXACT:
        if np.array_equal(load_LE.astype(kind).astype(np.int64), load_LE):
            return load_LE.astype(kind)
    raise InputError(f"eplb: {load_LE.max():,} selections of an expert, allowed 0..2^53, which a float holds")
