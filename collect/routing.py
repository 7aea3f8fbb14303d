"""Recording a classifier's expert choices over a data set's test images as a trace."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.progress import Progress

from collect.classifier import Classifier
from collect.datasets.images import Images
from collect.devices import device_name
from traces.header import Header, ModelInfo
from traces.provenance import SCHEMA_VERSION, provenance
from traces.recording import TraceWriter


@dataclass(frozen=True)
class Routing:
    """What one forward pass recorded: all experts in the gate's order with their softmax over all E, and input norms."""

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
