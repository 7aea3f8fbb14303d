"""What costs and executions are measured on: a checkpoint's model, layers of a published shape, a config's layer."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import typer

from moe_replay.collect.commands.app import ImageOptions, check_belonging
from moe_replay.collect.devices import check_weights_fit, device_name, on_device
from moe_replay.collect.execution.calibration import NewBlocks
from moe_replay.collect.execution.classifier_blocks import ClassifierCalibration, ClassifierOnWeights
from moe_replay.collect.execution.executor import TraceOnWeights
from moe_replay.collect.execution.language_blocks import LanguageCalibration, LanguageOnWeights
from moe_replay.collect.huggingface.model_loading import TYPES
from moe_replay.collect.real_layers.config_layer import ConfigLayer
from moe_replay.collect.real_layers.layer_shapes import SHAPES, shape_of
from moe_replay.collect.real_layers.layer_stack import LayerStack, StackConfig
from moe_replay.collect.real_layers.layer_stack_blocks import LayerStackCalibration, LayerStackOnWeights
from moe_replay.collect.real_layers.loop_costs import LOOP, MiddleLayerCalibration
from moe_replay.collect.real_layers.model_configs import described_block
from moe_replay.collect.training.checkpoints import load_checkpoint
from moe_replay.collect.training.classifier_training import restore
from moe_replay.collect.training.language_training import KIND as LANGUAGE
from moe_replay.collect.training.language_training import restore_language
from moe_replay.traces.command_line.units import COUNT
from moe_replay.traces.errors import InputError, unknown_name
from moe_replay.traces.runs.cost_table import CostTable
from moe_replay.traces.selections import Trace

LAYERS = 8  # of a layer stack, as many as the recorded language model has

CheckpointOrShape = Annotated[
    Path | None, typer.Option("--checkpoint", help="A finished training's checkpoint, or --shape in its place.")
]
Shape = Annotated[
    str | None, typer.Option(help=f"Layers of a published shape with random weights: {', '.join(SHAPES)}.")
]
Scale = Annotated[int | None, COUNT.option(low=1, help="--shape: divides both widths; default 1, the layer itself.")]
Layers = Annotated[int | None, COUNT.option(low=1, help=f"--shape: equal layers; default {LAYERS}.")]
Model = Annotated[
    str | None,
    typer.Option(help="One MoE layer of a Hugging Face config, weights random: config.json, its folder, a hub name."),
]
Dtype = Annotated[str | None, typer.Option(help=f"--model: type of the weights, {', '.join(TYPES)}; default auto.")]
HeldExperts = Annotated[
    int | None,
    COUNT.option(low=1, help="--model: experts with weights, for a small memory; the others share these."),
]


@dataclass(frozen=True)
class Subject:
    """A model on its device: what is measured or executed, whatever its kind.

    `about` describes it, `calibration` builds runs that measure costs, `on_weights` makes a trace of it executable.
    `is_any_layer`: it is one layer in the middle of a model, whose costs are those of any layer.
    """

    about: dict
    data: str
    k: int
    expert_bytes: int
    calibration: Callable[[], NewBlocks]
    on_weights: Callable[[Path, Trace, Path, CostTable], TraceOnWeights] | None = None
    is_any_layer: bool = False
    said: str = ""  # lines that a command adds to what it prints


def classifier_subject(checkpoint: Path, chosen: ImageOptions, where: torch.device) -> Subject:
    """Return a classifier with its images; InputError where they do not belong together."""
    images = chosen.read()
    model, about = restore(checkpoint, images)
    model = model.to(where)

    def on_weights(path: Path, trace: Trace, costs: Path, table: CostTable) -> TraceOnWeights:
        check_belonging(path, trace, costs, table, images, where)
        return ClassifierOnWeights(model, trace, on_device(images.test_NF, where), images.test_label_N)

    return Subject(
        about, images.name, model.config.k, model.experts[0].expert_bytes,
        lambda: ClassifierCalibration(model, on_device(images.train_NF, where)), on_weights,
    )  # fmt: skip


def language_subject(checkpoint: Path, where: torch.device) -> Subject:
    """Return a language model: its traces hold their text."""
    model, about = restore_language(checkpoint)
    model = model.to(where)

    def on_weights(path: Path, trace: Trace, costs: Path, table: CostTable) -> TraceOnWeights:
        if trace.header.data["digest"] != about["data_digest"]:
            raise InputError(f"{path}: is of another text than the one that {checkpoint} was trained on")
        check_device(costs, table, where)
        return LanguageOnWeights(model, trace)

    return Subject(
        about, "text", model.config.k, model.experts[0].expert_bytes, lambda: LanguageCalibration(model), on_weights
    )


def shape_subject(name: str, scale: int, layers: int, where: torch.device) -> Subject:
    """Return layers of a published shape with random weights; any trace of as many layers and experts drives them.

    InputError where the weights do not fit on the device.
    """
    config = StackConfig(shape_of(name, scale), layers)
    weights_bytes = layers * config.experts * config.shape.expert_bytes(config.dtype)
    check_weights_fit(f"--shape {name}", weights_bytes, where)
    model, about = LayerStack(config, where), config.about()

    def on_weights(path: Path, trace: Trace, costs: Path, table: CostTable) -> TraceOnWeights:
        check_device(costs, table, where)
        if table.header["model"] != about:
            raise InputError(f"{costs}: was measured on {named(table.header['model'])}, this is {named(about)}")
        return LayerStackOnWeights(model, trace)

    return Subject(
        {"model": about}, "random", config.k, model.experts[0].expert_bytes, lambda: LayerStackCalibration(model),
        on_weights,
    )  # fmt: skip


def model_subject(name: str, dtype: str, held: int | None, where: torch.device) -> Subject:
    """Return one MoE layer of a Hugging Face config; InputError where its weights do not fit on the device."""
    described = described_block(name, dtype)
    layer = ConfigLayer(described, where, held)
    expert_bytes = layer.experts[0].expert_bytes
    about = {"model": layer.config.about(), "measured": LOOP, "expert_bytes": expert_bytes, "torch": torch.__version__}
    said = (
        f"\none of {described.layers} MoE layers: {layer.config.experts} experts of {expert_bytes / 1e6:,.4g} MB,"
        f" {layer.config.k} a token"
    )
    if described.quantised:  # transformers has the class, not the kernels of servers
        about["quantised"] = described.quantised
        said += f"\nthe published weights are quantised ({described.quantised}), those measured are not"
    return Subject(
        about, "random", layer.config.k, expert_bytes, lambda: MiddleLayerCalibration(layer), is_any_layer=True,
        said=said,
    )  # fmt: skip


def named(model: dict) -> str:
    """Return what a message calls the model of a cost table."""
    return f"{model['layers']} layers of {model['name']}" if "name" in model else "a trained model"


def check_device(costs: Path, table: CostTable, where: torch.device) -> None:
    """Refuse a cost table of another device than this one."""
    if table.header["device"] != device_name(where):
        raise InputError(f"{costs}: was measured on {table.header['device']}, this is {device_name(where)}")


def subject_of(checkpoint: Path, images: ImageOptions, where: torch.device) -> Subject:
    """Return the model of a checkpoint, a classifier or a language model."""
    if load_checkpoint(checkpoint)["description"].get("kind") == LANGUAGE:
        return language_subject(checkpoint, where)
    return classifier_subject(checkpoint, images, where)


@dataclass(frozen=True)
class SubjectOptions:
    """What is measured or executed: a checkpoint's model, or layers of a published shape."""

    checkpoint: CheckpointOrShape = None
    shape: Shape = None
    scale: Scale = None
    layers: Layers = None

    @property
    def subjects(self) -> dict[str, object]:
        """The options of which one names the subject."""
        return {"--checkpoint": self.checkpoint, "--shape": self.shape}

    def check(self) -> None:
        """Refuse options that name no subject, or two."""
        if sum(given is not None for given in self.subjects.values()) != 1:
            *first, last = self.subjects
            raise InputError(f"{', '.join(first)} and {last}: allowed exactly one of them")
        if self.shape is None and (self.scale, self.layers) != (None, None):
            raise InputError("--scale and --layers have a meaning only with --shape")

    def on(self, where: torch.device, images: ImageOptions) -> Subject:
        """Return the subject on a device; a classifier comes with its images. `check` saw the options before."""
        if self.checkpoint is not None:
            return subject_of(self.checkpoint, images, where)
        return shape_subject(self.shape, self.scale or 1, self.layers or LAYERS, where)


@dataclass(frozen=True)
class CostSubjectOptions(SubjectOptions):
    """What costs are measured of: also one MoE layer of a Hugging Face config."""

    model: Model = None
    dtype: Dtype = None
    held_experts: HeldExperts = None

    @property
    def subjects(self) -> dict[str, object]:
        """The options of which one names the subject."""
        return {**super().subjects, "--model": self.model}

    def check(self) -> None:
        """Refuse options that name no subject, or two, and those of --model without one."""
        super().check()
        if self.model is None and (self.dtype, self.held_experts) != (None, None):
            raise InputError("--dtype and --held-experts have a meaning only with --model")
        if self.dtype is not None and self.dtype not in TYPES:
            raise unknown_name("type of weights", self.dtype, TYPES)

    def check_slots(self, slots: str | None) -> None:
        """Refuse expert slots where experts share weights: every expert is copied from its own."""
        if slots is not None and self.held_experts is not None:
            raise InputError("--held-experts and --slots: allowed one of them")

    def on(self, where: torch.device, images: ImageOptions) -> Subject:
        """Return the subject on a device, as `SubjectOptions` does."""
        if self.model is not None:
            return model_subject(self.model, self.dtype or "auto", self.held_experts, where)
        return super().on(where, images)
