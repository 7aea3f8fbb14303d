"""What is captured: a model, a batch and a loss. The project's own models with random weights, or a user's own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from moe_replay.collect.dispatch.dispatch_names import Dispatch
from moe_replay.collect.dispatch.dynamic_dispatch import gathered_dispatch
from moe_replay.collect.models.classifier import Classifier, ClassifierConfig
from moe_replay.collect.models.language_model import VOCABULARY, LanguageConfig, LanguageModel
from moe_replay.collect.models.layer_runs import LayerRun, directly
from moe_replay.collect.models.separate_experts import separate
from moe_replay.collect.models.vision_transformer import VisionConfig, VisionTransformer
from moe_replay.simulate.policies.rule_names import imported
from moe_replay.traces.errors import InputError, unknown_name

CLASSES = 10
IMAGE = (3, 32, 32)  # CIFAR-10's
FEATURES = 784  # Fashion-MNIST's


@dataclass(frozen=True)
class Subject:
    """A training iteration: `loss(model, *batch)` is the scalar whose gradients are taken."""

    name: str
    model: nn.Module
    loss: Callable[..., torch.Tensor]
    batch: tuple[torch.Tensor, ...]


@dataclass(frozen=True)
class ModelSizes:
    """Sizes of the project's own models; the others are fixed (`own_subject`). `k` is not of the vision transformer."""

    layers: int = 4
    experts: int = 8
    k: int = 2
    width: int = 128
    hidden: int = 128
    window: int = 64


@dataclass(frozen=True)
class Handling:
    """How a model's layers run: in whose hands, by which dispatch, and whether each expert has weights of its own."""

    run_layer: LayerRun = directly
    dispatch: Dispatch = gathered_dispatch
    separate_experts: bool = False


def classifier(sizes: ModelSizes, batch: int, draws: torch.Generator, how: Handling) -> Subject:
    """Return the classifier on flat grey images, with a top-k gate."""
    config = ClassifierConfig(sizes.layers, sizes.experts, sizes.k, sizes.width, sizes.hidden, gate="top-k")
    mean_F, deviation_F = torch.full((FEATURES,), 128.0), torch.full((FEATURES,), 64.0)
    model = Classifier(config, mean_F, deviation_F, CLASSES, 0)

    def loss(model: nn.Module, images_NF: torch.Tensor, label_N: torch.Tensor) -> torch.Tensor:
        logits_NC, balance = model(images_NF, dispatch=how.dispatch, run_layer=how.run_layer)
        return functional.cross_entropy(logits_NC, label_N) + balance

    return Subject("classifier", model, loss, images_and_labels(FEATURES, batch, draws))


def vision(sizes: ModelSizes, batch: int, draws: torch.Generator, how: Handling) -> Subject:
    """Return the vision transformer with switch routing on small colour images."""
    config = VisionConfig("switch", sizes.experts, sizes.width // 2, 2 * sizes.hidden, sizes.layers)
    features = IMAGE[0] * IMAGE[1] * IMAGE[2]
    mean_F, deviation_F = torch.full((features,), 128.0), torch.full((features,), 64.0)
    model = VisionTransformer(config, IMAGE, mean_F, deviation_F, CLASSES, 0)

    def loss(model: nn.Module, images_NF: torch.Tensor, label_N: torch.Tensor) -> torch.Tensor:
        logits_NC, balance = model(images_NF, dispatch=how.dispatch, run_layer=how.run_layer)
        return functional.cross_entropy(logits_NC, label_N) + balance

    return Subject("vit", model, loss, images_and_labels(features, batch, draws))


def language(sizes: ModelSizes, batch: int, draws: torch.Generator, how: Handling) -> Subject:
    """Return the byte language model; a batch is so many windows."""
    config = LanguageConfig(sizes.layers, sizes.experts, sizes.k, sizes.width, sizes.hidden, window=sizes.window)
    windows_BW = torch.randint(VOCABULARY, (batch, sizes.window + 1), generator=draws)

    def loss(model: nn.Module, bytes_N: torch.Tensor, next_N: torch.Tensor) -> torch.Tensor:
        logits, balance = model(bytes_N, batch, dispatch=how.dispatch, run_layer=how.run_layer)
        return functional.cross_entropy(logits, next_N) + balance

    batches = windows_BW[:, :-1].flatten(), windows_BW[:, 1:].flatten()
    return Subject("language", LanguageModel(config, 0), loss, batches)


MODELS: dict[str, Callable[[ModelSizes, int, torch.Generator, Handling], Subject]] = {
    "classifier": classifier, "vit": vision, "language": language,
}  # fmt: skip


def own_subject(name: str, sizes: ModelSizes, batch: int, seed: int, how: Handling) -> Subject:
    """Return one of the project's models in training mode with a random batch, the same for the same seed.

    Routing follows from weights and batch, so it is the same in every run. An unknown name lists the known ones.
    """
    if name not in MODELS:
        raise unknown_name("model", name, MODELS)
    subject = MODELS[name](sizes, batch, torch.Generator().manual_seed(seed), how)
    if how.separate_experts:
        separate(subject.model)
    subject.model.train()
    return subject


def module_subject(name: str, batch: int) -> Subject:
    """Return what a user's `MODULE:FUNCTION` gives for a batch size: (model, loss, batch), as in `Subject`.

    InputError where it cannot be imported or returns something else.
    """
    what = f"--module {name!r}"
    module, _, attribute = name.partition(":")
    function = getattr(imported(what, module), attribute, None) if attribute else None
    if not callable(function):
        raise InputError(f"{what}: allowed MODULE:FUNCTION, a function of the batch size")
    found = function(batch)
    if not isinstance(found, tuple) or len(found) != 3 or not isinstance(found[0], nn.Module) or not callable(found[1]):
        raise InputError(f"{what}: returned {type(found).__name__}, allowed (model, loss, batch): a module, a function")
    model, loss, tensors = found
    tensors = tensors if isinstance(tensors, tuple) else (tensors,)
    if not all(isinstance(each, torch.Tensor) for each in tensors):
        raise InputError(f"{what}: the batch is no tensor or tuple of tensors")
    return Subject(name.replace(":", "-"), model, loss, tensors)


def images_and_labels(features: int, batch: int, draws: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Return random images, uint8 [N, features], and their classes, int64 [N]."""
    images_NF = torch.randint(256, (batch, features), generator=draws, dtype=torch.uint8)
    return images_NF, torch.randint(CLASSES, (batch,), generator=draws)
