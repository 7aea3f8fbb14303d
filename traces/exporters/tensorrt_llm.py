"""`tensorrt-llm`: loads as TensorRT-LLM's expert statistics (a folder), a placement as its load balancer's YAML."""

import json
from pathlib import Path

import numpy as np

from moe_replay.traces.command_line.files import replacing, write_json
from moe_replay.traces.command_line.number_limits import narrowed
from moe_replay.traces.exporters.export_subject import ITERATIONS, LAYERS, RANKS, K, Subject

SUFFIXES = ("", ".yaml", ".yml")
KEEPS = (LAYERS, K, ITERATIONS, RANKS)


def write(subject: Subject, path: Path) -> None:
    """Write the folder with meta_info.json and rank{r}.safetensors, or the YAML file."""
    if subject.placement is None:
        write_statistics(subject, path)
        return
    slots = subject.placement.expert_LP.shape[1]
    layers = zip(subject.placement.layer_ids, subject.placement.expert_LP.tolist(), strict=True)
    lines = [f"num_slots: {slots}", "layer_updates_per_iter: 0", "initial_global_assignments:"]
    lines += [f"  {layer}: [{', '.join(map(str, expert_P))}]" for layer, expert_P in layers]
    with replacing(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n")


def write_statistics(subject: Subject, folder: Path) -> None:
    """Write the counts of every rank; the meta file comes last, so that a folder with one is whole."""
    for rank, load_SLE in enumerate(subject.load_RSLE):
        tensors = {
            f"{iteration}_{layer}": narrowed(f"selections in iteration {iteration}", load_E, np.int32).astype("<i4")
            for iteration, load_LE in zip(subject.iterations, load_SLE, strict=True)
            for layer, load_E in zip(subject.model.layer_ids, load_LE, strict=True)
        }
        with replacing(folder / f"rank{rank}.safetensors") as temporary:
            temporary.write_bytes(safetensors(tensors))
    write_json(folder / "meta_info.json", {
        "num_experts": subject.model.real_experts, "num_experts_per_token": subject.model.used_k,
    })  # fmt: skip


def safetensors(tensors: dict[str, np.ndarray]) -> bytes:
    """Return int32 tensors in the form of safetensors: a header's length, the header, the raw values."""
    header, start = {}, 0
    for name, values in tensors.items():
        header[name] = {"dtype": "I32", "shape": list(values.shape), "data_offsets": [start, start + values.nbytes]}
        start += values.nbytes
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + b"".join(values.tobytes() for values in tensors.values())
