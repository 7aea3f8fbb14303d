"""`eplb`: what DeepSeek's `rebalance_experts` takes, weight [L, E], and returns: phy2log, log2phy, logcnt."""

from pathlib import Path

import numpy as np

from moe_replay.traces.command_line.files import replacing
from moe_replay.traces.exporters.export_subject import Subject

SUFFIXES = (".npz",)


def write(subject: Subject, path: Path) -> None:
    """Write an .npz: loads as `weight` float32 [L, E], or a placement as EPLB's three tables; `layer_ids` beside."""
    placed = subject.placement
    if placed is None:
        arrays = {"weight": subject.load_LE.astype(np.float32)}
    else:
        arrays = {
            "phy2log": placed.expert_LP.astype(np.int64), "log2phy": placed.slot_LEX,
            "logcnt": placed.replicas_LE.astype(np.int64),
        }  # fmt: skip
    with replacing(path) as temporary, open(temporary, "wb") as opened:
        np.savez(opened, **arrays, layer_ids=np.array(subject.model.layer_ids, np.int64))
