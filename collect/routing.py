"""Recording a classifier's expert choices over a data set's test images as a trace."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.progress import Progress

from collect.classifier import Classifier
from collect.datasets.images import Images
from collect.devices import device_name, on_device
from traces.header import Header, ModelInfo
from traces.provenance import provenance
from traces.recording import TraceWriter
from traces.selections import Trace
from traces.trace_file import load_trace


@dataclass(frozen=True)
class Routing:
    """What one forward pass recorded: all experts in the gate's order, their softmax over all E, and input norms."""

    experts_NLE: np.ndarray
    scores_NLE: np.ndarray
    norm_NL: np.ndarray
    prediction_N: np.ndarray
    logits_NC: torch.Tensor


@torch.inference_mode()
def route(model: Classifier, images_NF: torch.Tensor, k: int) -> Routing:
    """Run the plain forward pass with k experts per row and return everything the gates saw."""
    model.eval()
    x_NM = model.embed(images_NF)
    experts, scores, norms = [], [], []
    for norm, gate, layer_experts in zip(model.norms, model.gates, model.experts, strict=True):
        h_NM = norm(x_NM)
        logits_NE = gate.logits(h_NM)
        score_NE, order_NE = logits_NE.softmax(1).sort(dim=1, descending=True, stable=True)
        chosen_NK = order_NE[:, :k]  # one order serves record and run, ties included
        weights_NK = logits_NE.gather(1, chosen_NK).softmax(1)
        experts.append(order_NE)
        scores.append(score_NE)
        norms.append(h_NM.norm(dim=1))
        x_NM = model.combine(x_NM, layer_experts(h_NM, weights_NK, chosen_NK))
    logits_NC = model.finish(x_NM)
    return Routing(
        torch.stack(experts, 1).to(torch.int16).cpu().numpy(), torch.stack(scores, 1).cpu().numpy(),
        torch.stack(norms, 1).cpu().numpy(), logits_NC.argmax(1).to(torch.int32).cpu().numpy(), logits_NC,
    )  # fmt: skip


def record_trace(
    model: Classifier, description: dict, images: Images, k: int, batch: int, device: torch.device, out: Path
) -> Trace:
    """Record the test images' expert choices, `batch` images a step, write the trace to `out` and return it.

    A sample is one sequence of one token; every expert is recorded as a candidate, the first k of them ran.
    """
    model = model.to(device)
    header = trace_header(model, description, k, batch, device)
    images_NF = on_device(images.test_NF, device)
    with TraceWriter(out, header, resume=True) as writer, Progress(transient=True) as progress:
        for start in progress.track(range(0, len(images_NF), batch), description="recording"):
            chosen = slice(max(start, writer.safe_rows), min(start + batch, len(images_NF)))
            if chosen.start >= chosen.stop:
                continue  # a recording that was cut off had got further
            seen = route(model, images_NF[chosen], k)
            writer.append(chunk_of(header, seen, chosen.start, start // batch, images.test_label_N[chosen]))
    return load_trace(out)


def trace_header(model: Classifier, description: dict, k: int, batch: int, device: torch.device) -> Header:
    """Return the header of a classifier's trace."""
    config = model.config
    return Header(
        model=ModelInfo(
            name=f"mlp-moe-{description['data']}", experts=config.experts, used_k=k,
            layer_ids=tuple(range(config.layers)), d_model=config.width, d_ff=config.hidden,
            expert_bytes=model.experts[0].expert_bytes, dtype="float32",
        ),
        gate_rule="softmax over the chosen", score_kind="softmax", ranked=True,
        data={"name": description["data"], "digest": description["data_digest"], "note": description["data_note"]},
        device=device_name(device), provenance=provenance(description["training"]["seed"]),
        notes={"training": description["training"], "trained_k": description["model"]["k"], "step_images": batch,
               "test_accuracy": description["history"][-1]["test_accuracy"]},
    )  # fmt: skip


def chunk_of(header: Header, seen: Routing, start: int, step: int, label_N: np.ndarray) -> Trace:
    """Return one step's rows as a trace: sequences start.. with one token each."""
    count = len(label_N)
    return Trace(
        header=header, experts_TLK=seen.experts_NLE, scores_TLK=seen.scores_NLE, norm_TL=seen.norm_NL,
        sequence_T=np.arange(start, start + count, dtype=np.int32), position_T=np.zeros(count, np.int32),
        step_T=np.full(count, step, np.int32), phase_T=np.zeros(count, np.int8),
        label_S=label_N.astype(np.int32), prediction_S=seen.prediction_N,
    )  # fmt: skip
