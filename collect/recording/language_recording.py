"""Prefill and decode traces of the language model: every candidate expert with its score, and input norms."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from moe_replay.collect.datasets.text_corpus import Corpus
from moe_replay.collect.devices import device_name
from moe_replay.collect.gates.gate_result import Selection, keep
from moe_replay.collect.models.experts import noted_norms
from moe_replay.collect.models.language_model import LanguageModel
from moe_replay.collect.recording.continuous_batching import Request, Step, serve
from moe_replay.collect.recording.score_rounding import FULL_PRECISION, rounded
from moe_replay.traces.command_line.provenance import provenance
from moe_replay.traces.file.trace_writer import TraceWriter
from moe_replay.traces.header import Header, ModelInfo
from moe_replay.traces.k_rules import OVER_CHOSEN
from moe_replay.traces.selections import Trace


class Recorder:
    """Takes the place of the gates of a model: selects as they do, and keeps the order that selected.

    `take` returns what the layers of the last forward call saw: experts [N, L, C] best first, their softmax over all
    E, and the norm of every layer's input [N, L]. One order serves record and run, ties included.
    """

    def __init__(self, model: LanguageModel, candidates: int, score_bits: int = FULL_PRECISION) -> None:
        self.model, self.candidates, self.score_bits = model, candidates, score_bits
        self.seen: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []

    def __call__(self, layer: int, x_NM: torch.Tensor) -> Selection:
        """Return the layer's selection."""
        gate = self.model.gates[layer]
        score_NE, order_NE = gate.logits(x_NM).softmax(1).sort(dim=1, descending=True, stable=True)
        count_N = order_NE.new_full((len(x_NM),), self.model.config.k)
        weights_NK, experts_NK = keep(score_NE, order_NE, count_N, gate.renormalised)
        self.seen.append((order_NE[:, : self.candidates], score_NE[:, : self.candidates], x_NM.norm(dim=1)))
        return Selection(weights_NK, experts_NK, score_NE.new_zeros(()))

    def take(self) -> dict[str, np.ndarray]:
        """Return the last forward call's fields of a trace, and forget them."""
        experts, scores, norms = (torch.stack(each, 1).cpu().numpy() for each in zip(*self.seen, strict=True))
        self.seen = []
        return {
            "experts_TLK": experts.astype(np.int16), "scores_TLK": rounded(scores, self.score_bits),
            "norm_TL": rounded(norms, self.score_bits),
        }  # fmt: skip


def language_model_info(model: LanguageModel) -> ModelInfo:
    """Return what a trace says of the language model."""
    config = model.config
    return ModelInfo(
        name="byte-moe", experts=config.experts, used_k=config.k, layer_ids=tuple(range(config.layers)),
        d_model=config.width, d_ff=config.hidden, expert_bytes=model.experts[0].expert_bytes, dtype="float32",
    )  # fmt: skip


def language_header(
    model: LanguageModel, description: dict, corpus: Corpus, device: torch.device, seed: int, notes: dict
) -> Header:
    """Return the header of a language model's trace; `notes` say how it was recorded."""
    return Header(
        model=language_model_info(model),
        gate_rule=OVER_CHOSEN, score_kind="softmax", ranked=True,
        data={"name": "text", "digest": corpus.digest, "note": "held-out documents of " + ", ".join(corpus.names)},
        device=device_name(device), provenance=provenance(seed),
        notes={
            **notes, **noted_norms(model.experts), "training": description["training"],
            "start": description.get("start"), "text": corpus.about(),
        },
    )  # fmt: skip


@torch.inference_mode()
def record_prefill(
    model: LanguageModel, corpus: Corpus, header: Header, recorder: Recorder, windows: int, batch: int,
    draws: np.random.Generator, out: Path, advance: Callable[[], object] = lambda: None, stepwise: bool = False,
) -> None:  # fmt: skip
    """Record `windows` windows per domain of held-out text, at places drawn evenly, domains taking turns.

    A window is one sequence and one pass; `batch` windows make a step. `stepwise`: a window's bytes are passes of their
    own, one after another, as if the text was being generated, each in a step of its own. `advance` is called after
    every forward call.
    """
    length, names = model.config.window, corpus.names
    count = windows * len(names)
    start_S = [int(draws.integers(len(corpus.domains[s % len(names)].held_out_B) - length)) for s in range(count)]
    with TraceWriter(out, header, resume=True) as writer:
        for step, first in enumerate(range(0, count, batch)):
            sequence_S = np.arange(first, min(first + batch, count), dtype=np.int32)
            if sequence_S[0] * length < writer.safe_rows:
                continue  # a recording that was cut off had got further
            parts = [corpus.domains[s % len(names)].held_out_B[start_S[s] : start_S[s] + length] for s in sequence_S]
            bytes_N = np.concatenate(parts).astype(np.int64)
            model(torch.from_numpy(bytes_N).to(model.embedding.device), len(parts), select=recorder)
            position_T = np.tile(np.arange(length, dtype=np.int32), len(parts))
            sequence_T = sequence_S.repeat(length)
            writer.append(Trace(
                header=header, **recorder.take(), token_id_T=bytes_N.astype(np.int32), sequence_T=sequence_T,
                position_T=position_T, phase_T=np.full(len(bytes_N), stepwise, np.int8),
                step_T=sequence_T * length + position_T if stepwise else np.full(len(bytes_N), step, np.int32),
                domain_S=np.array([names[s % len(names)] for s in sequence_S]),
                prompt_len_S=np.full(len(parts), 0 if stepwise else length, np.int32),
            ))  # fmt: skip
            writer.flush()
            advance()


def record_decode(
    model: LanguageModel, requests: list[Request], header: Header, recorder: Recorder, slots: int, seed: int, out: Path,
    advance: Callable[[], object] = lambda: None,
) -> None:  # fmt: skip
    """Record what `serve` computes, prompts (phase 0) and generated bytes (phase 1); `advance` after every step.

    A recording that was cut off keeps its finished parts and is started anew: the cache is not on disk.
    """
    with TraceWriter(out, header) as writer:
        for number, step in enumerate(serve(model, requests, slots, seed, recorder)):
            writer.append(step_rows(step, number, header, recorder))
            advance()


def step_rows(step: Step, number: int, header: Header, recorder: Recorder) -> Trace:
    """Return one step of serving as a trace."""
    requests, first, count, phase = zip(*step.members, strict=True)
    by_sequence = sorted(requests, key=lambda request: request.sequence)
    return Trace(
        header=header, **recorder.take(), token_id_T=step.bytes_N.astype(np.int32),
        sequence_T=np.repeat([request.sequence for request in requests], count).astype(np.int32),
        position_T=np.concatenate([np.arange(f, f + n) for f, n in zip(first, count, strict=True)]).astype(np.int32),
        step_T=np.full(len(step.bytes_N), number, np.int32), phase_T=np.repeat(phase, count).astype(np.int8),
        domain_S=np.array([request.domain for request in by_sequence]),
        prompt_len_S=np.array([len(request.prompt) for request in by_sequence], np.int32),
    )  # fmt: skip
