"""What the quality of a model is measured on: held-out text window by window, or test images one by one.

A probe scores *units* under any selector that replaces the model's gates, always the same units, so that
two treatments can be compared pair by pair.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from moe_replay.collect.datasets.images import Images
from moe_replay.collect.datasets.text_corpus import Corpus
from moe_replay.collect.gates.gate_result import Selector
from moe_replay.collect.models.classifier import Classifier
from moe_replay.collect.models.language_model import LanguageModel


class Probe(Protocol):
    """`measure` names the quality, `better` is 1 where more of it is better, else -1; `units` counts the units."""

    model: nn.Module
    measure: str
    better: int
    units: int
    batch: int  # units at once

    def score(self, first: int, last: int, select: Selector | None) -> np.ndarray:
        """Return the quality of units first..last-1 under a selector (None: the model's own gates)."""

    def profile(self, select: Selector) -> None:
        """Run other inputs than the units', from the training data, through a selector that keeps count."""


class LanguageProbe:
    """Bits per byte of the second half of held-out windows; the first half is context.

    The text changes its domain every `stretch` windows, as requests of one kind follow each other; within a stretch
    windows follow each other in the text. Profiles read as many windows of training text, all domains in turn.
    """

    measure, better, batch = "bits_per_byte", -1, 8

    def __init__(self, model: LanguageModel, corpus: Corpus, units: int, stretch: int, seed: int = 0) -> None:
        self.model, self.units, draws = model.eval(), units, np.random.default_rng(seed)
        length = model.config.window
        held_out = [domain.held_out_B for domain in corpus.domains]
        self.windows_SB = np.concatenate([
            cut(held_out[number % len(held_out)], stretch, length, draws) for number in range(-(-units // stretch))
        ])[:units]  # fmt: skip
        self.profiled_SB = np.concatenate([
            cut(domain.train_B, 1, length, draws) for _ in range(8) for domain in corpus.domains
        ])  # fmt: skip

    @torch.inference_mode()
    def score(self, first: int, last: int, select: Selector | None) -> np.ndarray:
        """Return the bits per byte of windows."""
        windows_BW = self._bytes(self.windows_SB[first:last])
        logits, _ = self.model(windows_BW[:, :-1].flatten(), len(windows_BW), select=select)
        nats = functional.cross_entropy(logits, windows_BW[:, 1:].flatten(), reduction="none").view(len(windows_BW), -1)
        return nats[:, self.model.config.window // 2 :].double().mean(1).cpu().numpy() / np.log(2)

    @torch.inference_mode()
    def profile(self, select: Selector) -> None:
        """Run windows of training text."""
        for first in range(0, len(self.profiled_SB), self.batch):
            windows_BW = self._bytes(self.profiled_SB[first : first + self.batch, :-1])
            self.model(windows_BW.flatten(), len(windows_BW), select=select)

    def _bytes(self, windows_SB: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(windows_SB.astype(np.int64)).to(self.model.embedding.device)


def cut(text_B: np.ndarray, windows: int, length: int, draws: np.random.Generator) -> np.ndarray:
    """Return windows [S, length + 1] that follow each other from a place drawn evenly; each knows its next byte."""
    start = int(draws.integers(len(text_B) - windows * length - 1))
    return np.stack([text_B[start + n * length : start + (n + 1) * length + 1] for n in range(windows)])


class ClassifierProbe:
    """Whether test images are classified right, in an order drawn by a seed; profiles use training images."""

    measure, better, batch = "accuracy", 1, 500

    def __init__(self, model: Classifier, images: Images, units: int, device: torch.device, seed: int = 0) -> None:
        self.model, self.units = model.eval(), min(units, len(images.test_NF))
        draws = np.random.default_rng(seed)
        order = draws.permutation(len(images.test_NF))[: self.units]
        self.images_SF = torch.from_numpy(images.test_NF[order]).to(device)
        self.label_S = torch.from_numpy(images.test_label_N[order]).to(device)
        chosen = draws.permutation(len(images.train_NF))[: 4 * self.batch]
        self.profiled_SF = torch.from_numpy(images.train_NF[chosen]).to(device)

    @torch.inference_mode()
    def score(self, first: int, last: int, select: Selector | None) -> np.ndarray:
        """Return 1 for every image that is classified right, else 0."""
        logits, _ = self.model(self.images_SF[first:last], select=select)
        return (logits.argmax(1) == self.label_S[first:last]).double().cpu().numpy()

    @torch.inference_mode()
    def profile(self, select: Selector) -> None:
        """Run training images."""
        for images_NF in self.profiled_SF.split(self.batch):
            self.model(images_NF, select=select)
