"""Records the experts of every patch of a clip's frames: frame after frame through a trained switch transformer."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from moe_replay.collect.datasets.clips import Clip
from moe_replay.collect.devices import device_name, on_device
from moe_replay.collect.models.vision_transformer import VisionTransformer
from moe_replay.collect.recording.score_rounding import rounded
from moe_replay.traces.command_line.provenance import provenance
from moe_replay.traces.errors import InputError
from moe_replay.traces.file.trace_writer import TraceWriter
from moe_replay.traces.header import Header, ModelInfo
from moe_replay.traces.k_rules import PROBABILITIES
from moe_replay.traces.selections import Trace


@torch.inference_mode()
def record_clip(
    model: VisionTransformer, description: dict, clip: Clip, camera: str, score_bits: int, batch: int, out: Path,
    advance: Callable[[int], object] = lambda frames: None,
) -> None:  # fmt: skip
    """Record one clip: one sequence, a step per frame, a token per patch, all experts with their scores.

    A patch's position is its place in the frame, so that a token follows the same patch of the frame before
    (`notes.stream`). Frames are images to the model; it knows nothing of time. `camera` becomes the domain.
    InputError for a model that is not switch-routed.
    """
    if model.config.variant != "switch":
        raise InputError(f"the model's feed-forward part is {model.config.variant}, allowed switch")
    header, seen = clip_header(model, description, clip, camera, score_bits), []
    handles = [
        block.feed_forward.register_forward_pre_hook(lambda part, inputs: seen.append(decision(part, inputs[0])))
        for block in model.blocks
    ]
    try:
        with TraceWriter(out, header) as writer:
            for first in range(0, len(clip.frames_NF), batch):
                frames_NF = clip.frames_NF[first : first + batch]
                model(on_device(frames_NF, model.mean_F.device))
                writer.append(frame_rows(header, seen, first, len(frames_NF), score_bits, camera))
                seen.clear()
                advance(len(frames_NF))
    finally:
        for handle in handles:
            handle.remove()


def decision(part: torch.nn.Module, x_NM: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return (experts best first [N, E], their softmax, the input's norm) of one layer."""
    score_NE, order_NE = part.gate.logits(x_NM).softmax(1).sort(dim=1, descending=True, stable=True)
    return order_NE, score_NE, x_NM.norm(dim=1)


def frame_rows(header: Header, seen: list, first: int, frames: int, score_bits: int, camera: str) -> Trace:
    """Return some frames as a trace."""
    experts, scores, norms = (torch.stack(each, 1).cpu().numpy() for each in zip(*seen, strict=True))
    patches = len(experts) // frames
    return Trace(
        header=header, experts_TLK=experts.astype(np.int16), scores_TLK=rounded(scores, score_bits),
        norm_TL=rounded(norms, score_bits),
        sequence_T=np.zeros(len(experts), np.int32), position_T=np.tile(np.arange(patches, dtype=np.int32), frames),
        step_T=np.arange(first, first + frames, dtype=np.int32).repeat(patches),
        phase_T=np.zeros(len(experts), np.int8), domain_S=np.array([camera]),
    )  # fmt: skip


def switch_model_info(model: VisionTransformer, data: str) -> ModelInfo:
    """Return what a trace says of a switch transformer that was trained on these images."""
    config = model.config
    return ModelInfo(
        name=f"switch-vit-{data}", experts=config.experts, used_k=1, layer_ids=tuple(range(config.depth)),
        d_model=config.width, d_ff=config.hidden,
        expert_bytes=model.blocks[0].feed_forward.experts.expert_bytes, dtype="float32",
    )  # fmt: skip


def clip_header(model: VisionTransformer, description: dict, clip: Clip, camera: str, score_bits: int) -> Header:
    """Return the header of a clip's trace."""
    note = f"every {clip.every}. frame, middle square, {model.shape[1]} x {model.shape[2]} pixels"
    return Header(
        model=switch_model_info(model, description["data"]),
        gate_rule=PROBABILITIES, score_kind="softmax", ranked=True,
        data={"name": clip.name, "digest": clip.digest, "note": note}, device=device_name(model.mean_F.device),
        provenance=provenance(description["training"]["seed"]),
        notes={"stream": "position", "camera": camera, "score_bits": score_bits, "training": description["training"],
               "trained_on": description["data"], "test_accuracy": description["history"][-1]["test_accuracy"]},
    )  # fmt: skip
