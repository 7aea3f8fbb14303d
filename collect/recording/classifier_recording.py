"""Recording a classifier's expert choices over a data set's test images as a trace."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from rich.progress import Progress

from moe_replay.collect.datasets.images import Images
from moe_replay.collect.devices import device_name, on_device
from moe_replay.collect.dispatch.dynamic_dispatch import dynamic_dispatch
from moe_replay.collect.gates.gate_result import keep
from moe_replay.collect.models.classifier import Classifier
from moe_replay.collect.models.experts import noted_norms
from moe_replay.traces.command_line.provenance import provenance
from moe_replay.traces.file.trace_file import load_trace
from moe_replay.traces.file.trace_writer import TraceWriter
from moe_replay.traces.header import Header, ModelInfo
from moe_replay.traces.k_rules import OVER_CHOSEN, PROBABILITIES, KRule
from moe_replay.traces.selections import Trace


@dataclass(frozen=True)
class Routing:
    """What one forward pass recorded, all experts in the gate's order: their softmax over all E, and input norms.

    `count_NL`: how many of them ran.
    """

    experts_NLE: np.ndarray
    scores_NLE: np.ndarray
    norm_NL: np.ndarray
    count_NL: np.ndarray
    prediction_N: np.ndarray
    logits_NC: torch.Tensor


@torch.inference_mode()
def route(model: Classifier, images_NF: torch.Tensor, k: int | KRule) -> Routing:
    """Run the plain forward pass with k experts per row, or by a rule, and return everything the gates saw."""
    model.eval()
    x_NM = model.embed(images_NF)
    experts, scores, norms, counts = [], [], [], []
    for norm, gate, layer_experts in zip(model.norms, model.gates, model.experts, strict=True):
        h_NM = norm(x_NM)
        score_NE, order_NE = gate.logits(h_NM).softmax(1).sort(dim=1, descending=True, stable=True)
        # One order serves record and run, ties included.
        count_N = torch.full((len(h_NM),), k, device=h_NM.device) if isinstance(k, int) else k.count(score_NE)
        weights_NK, chosen_NK = keep(score_NE, order_NE, count_N, gate.renormalised)
        experts.append(order_NE)
        scores.append(score_NE)
        norms.append(h_NM.norm(dim=1))
        counts.append(count_N)
        x_NM = model.combine(x_NM, dynamic_dispatch(h_NM, weights_NK, chosen_NK, layer_experts))
    logits_NC = model.finish(x_NM)
    return Routing(
        torch.stack(experts, 1).to(torch.int16).cpu().numpy(), torch.stack(scores, 1).cpu().numpy(),
        torch.stack(norms, 1).cpu().numpy(), torch.stack(counts, 1).cpu().numpy(),
        logits_NC.argmax(1).to(torch.int32).cpu().numpy(), logits_NC,
    )  # fmt: skip


def record_trace(
    model: Classifier, description: dict, images: Images, k: int | KRule, batch: int, device: torch.device, out: Path,
    only_ran: bool = False,
) -> Trace:  # fmt: skip
    """Record the test images' expert choices, `batch` images a step, write the trace to `out` and return it.

    A sample is one sequence of one token. With a fixed k every expert is recorded as a candidate, the first k of them
    ran; under a rule only those that ran are recorded, because only they tell how many that were. `only_ran` records
    no more than these under a fixed k too, and neither scores nor norms: a small file, to compare choices with.
    """
    model = model.to(device)
    header = trace_header(model, description, k, batch, device)
    header = replace(header, score_kind=None) if only_ran else header
    images_NF = on_device(images.test_NF, device)
    with TraceWriter(out, header, resume=True) as writer, Progress(transient=True) as progress:
        for start in progress.track(range(0, len(images_NF), batch), description="recording"):
            chosen = slice(max(start, writer.safe_rows), min(start + batch, len(images_NF)))
            if chosen.start >= chosen.stop:
                continue  # a recording that was cut off had got further
            seen = route(model, images_NF[chosen], k)
            ran = None if isinstance(k, int) and not only_ran else header.model.used_k
            writer.append(chunk_of(header, seen, ran, chosen.start, start // batch, images.test_label_N[chosen]))
    return load_trace(out)


def trace_header(model: Classifier, description: dict, k: int | KRule, batch: int, device: torch.device) -> Header:
    """Return the header of a classifier's trace."""
    config, fixed = model.config, isinstance(k, int)
    used_k = k if fixed else k.most or config.experts
    return Header(
        model=ModelInfo(
            name=f"mlp-moe-{description['data']}", experts=config.experts, used_k=used_k,
            layer_ids=tuple(range(config.layers)), d_model=config.width, d_ff=config.hidden,
            expert_bytes=model.experts[0].expert_bytes, dtype="float32",
        ),
        gate_rule=OVER_CHOSEN if model.gates[0].renormalised else PROBABILITIES, score_kind="softmax", ranked=True,
        data={"name": description["data"], "digest": description["data_digest"], "note": description["data_note"]},
        device=device_name(device), provenance=provenance(description["training"]["seed"]),
        notes={**noted_norms(model.experts), "training": description["training"],
               "trained_k": description["model"]["k"], "step_images": batch, "k_rule": None if fixed else str(k),
               "test_accuracy": description["history"][-1]["test_accuracy"]},
    )  # fmt: skip


def chunk_of(header: Header, seen: Routing, slots: int | None, start: int, step: int, label_N: np.ndarray) -> Trace:
    """Return one step's rows as a trace: sequences start.. with one token each. `slots`: only what ran, in so many.

    A header without scores takes none, and no norms.
    """
    count = len(label_N)
    experts_TLK, scores_TLK = seen.experts_NLE, seen.scores_NLE
    if slots is not None:
        empty_NLK = np.arange(slots) >= seen.count_NL[:, :, None]
        experts_TLK = np.where(empty_NLK, np.int16(-1), experts_TLK[:, :, :slots])
        scores_TLK = np.where(empty_NLK, np.float32(0), scores_TLK[:, :, :slots])
    measured = {"scores_TLK": scores_TLK, "norm_TL": seen.norm_NL} if header.score_kind else {}
    return Trace(
        header=header, experts_TLK=experts_TLK, **measured,
        sequence_T=np.arange(start, start + count, dtype=np.int32), position_T=np.zeros(count, np.int32),
        step_T=np.full(count, step, np.int32), phase_T=np.zeros(count, np.int8),
        label_S=label_N.astype(np.int32), prediction_S=seen.prediction_N,
    )  # fmt: skip
