"""What a classifier answers at an operating point: right or wrong, and how many experts it took, sample by sample."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from moe_replay.collect.gates.gate_result import ExpertsPerLayer, GivenCounts, Selection
from moe_replay.collect.models.classifier import Classifier


@dataclass(frozen=True)
class Answers:
    """`right_N`: bool; `count_NL`: experts that ran, per sample and layer; both on the CPU."""

    right_N: torch.Tensor
    count_NL: torch.Tensor

    @property
    def accuracy(self) -> float:
        """The share of right answers."""
        return float(self.right_N.float().mean())

    @property
    def mean_k(self) -> float:
        """Experts per sample and layer, on average."""
        return float(self.count_NL.float().mean())


@torch.inference_mode()
def answer(
    model: Classifier, images_NF: torch.Tensor, label_N: torch.Tensor, k: ExpertsPerLayer | torch.Tensor | None,
    batch: int = 1000,
) -> Answers:  # fmt: skip
    """Return a model's answers with `k` experts: a number, a rule, None (as trained), or given numbers [N, L]."""
    model.eval()
    right, counts = [], []
    for start in range(0, len(images_NF), batch):
        rows = slice(start, start + batch)
        chosen = [GivenCounts(count_N) for count_N in k[rows].T] if isinstance(k, torch.Tensor) else k
        with counted(model) as count_LN:
            logits_NC, _ = model(images_NF[rows], chosen)
        right.append((logits_NC.argmax(1) == label_N[rows]).cpu())
        counts.append(torch.stack(count_LN, 1).cpu())
    return Answers(torch.cat(right), torch.cat(counts))


@contextmanager
def counted(model: Classifier) -> Iterator[list[torch.Tensor]]:
    """Give a list to which every gate appends how many experts each row got, layer by layer."""
    counts: list[torch.Tensor] = []

    def note(_module: torch.nn.Module, _inputs: tuple, selection: Selection) -> None:
        counts.append((selection.experts_NK >= 0).sum(1))

    hooks = [gate.register_forward_hook(note) for gate in model.gates]
    try:
        yield counts
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def noisy_gates(model: Classifier, deviation: float, generator: torch.Generator) -> Iterator[None]:
    """Add normal noise to every gate's logits: each forward pass is then another try at the same samples."""
    try:
        for gate in model.gates:
            clean = gate.logits
            gate.logits = lambda x_NM, clean=clean: disturbed(clean(x_NM), deviation, generator)
        yield
    finally:
        for gate in model.gates:
            del gate.logits  # the class's own method shows again


def disturbed(logits_NE: torch.Tensor, deviation: float, generator: torch.Generator) -> torch.Tensor:
    """Return logits plus normal noise of a standard deviation."""
    return logits_NE + deviation * torch.empty_like(logits_NE).normal_(generator=generator)
