"""`sglang`: what SGLang's `--init-expert-location` reads, a .json or .pt with all layers, dense ones too.

Loads are `logical_count` [1, all layers, E], zeros in dense layers, as its recorder's mode stat writes them. A
placement is `physical_to_logical_map` [all layers, slots]; a dense layer has no experts, its row takes them in turn.
"""

from pathlib import Path

import numpy as np

from moe_replay.traces.command_line.files import replacing, write_json
from moe_replay.traces.command_line.number_limits import narrowed
from moe_replay.traces.exporters.export_subject import Subject
from moe_replay.traces.importers.reading.torch_file import save_torch

SUFFIXES = (".json", ".pt")
KEEPS = ()


def write(subject: Subject, path: Path) -> None:
    """Write the file, by its suffix with json or torch."""
    if subject.placement is None:
        content = {"logical_count": narrowed("selections", subject.in_all_layers(subject.load_LE, 0)[None], np.int32)}
    else:
        expert_LP = subject.placement.expert_LP
        dense_P = np.arange(expert_LP.shape[1]) % subject.model.real_experts
        content = {"physical_to_logical_map": subject.in_all_layers(expert_LP.astype(np.int64), dense_P)}
    if path.suffix == ".json":
        write_json(path, {name: table.tolist() for name, table in content.items()})
        return
    with replacing(path) as temporary:
        save_torch({"rank": 0, **content, "average_utilization_rate_over_window": None}, temporary)
