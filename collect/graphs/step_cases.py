"""Which iteration is captured: a model, its batch, and how it is trained, as a frozen value; and those of the study."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from moe_replay.collect.dispatch.capacity import Capacity
from moe_replay.collect.dispatch.dispatch_names import build_dispatch
from moe_replay.collect.graphs.captured_step import CapturedStep, capture
from moe_replay.collect.graphs.checkpointing import layer_run
from moe_replay.collect.graphs.step_optimizers import optimizer_rule
from moe_replay.collect.graphs.step_subjects import Handling, ModelSizes, Subject, module_subject, own_subject
from moe_replay.traces.errors import InputError, unknown_name

DISPATCHES = ("gathered", "static")  # dynamic dispatch is gathered where gradients are asked for


@dataclass(frozen=True)
class StepCase:
    """One iteration. `model`: a name of the project's own, or with `is_own` False a user's MODULE:FUNCTION.

    `capacity` is static dispatch's. InputError for an unknown name.
    """

    model: str
    batch: int
    checkpoint: str = "none"
    optimizer: str = "adam"
    dispatch: str = "gathered"
    separate_experts: bool = False
    sizes: ModelSizes = field(default_factory=ModelSizes)
    capacity: str = "CSk/E:1.25"
    is_own: bool = True

    def __post_init__(self) -> None:
        layer_run(self.checkpoint)
        optimizer_rule(self.optimizer)
        if self.dispatch not in DISPATCHES:
            raise unknown_name("dispatch", self.dispatch, DISPATCHES)
        if not self.is_own and (self.checkpoint != "none" or self.separate_experts):
            raise InputError("--checkpoint and --separate-experts are of the project's models; --module has its own")

    @property
    def notes(self) -> dict:
        """What a graph says of itself."""
        told = {name: getattr(self, name) for name in ("checkpoint", "optimizer", "dispatch", "separate_experts")}
        return (
            {"model": self.model, "batch_size": self.batch}
            | told
            | {"layers": self.sizes.layers, "experts": self.sizes.experts, "k": self.sizes.k}
        )

    @property
    def name(self) -> str:
        """The graph's name."""
        parts = [self.model.replace(":", "-"), f"b{self.batch}", self.checkpoint, self.optimizer]
        extra = [self.dispatch] * (self.dispatch != "gathered") + ["separate-experts"] * self.separate_experts
        return "-".join([*(part for part in parts if part != "none"), *extra])

    def subject(self, seed: int) -> Subject:
        """Return the model, its loss and its batch."""
        if not self.is_own:
            return module_subject(self.model, self.batch)
        capacity = Capacity.parse(self.capacity) if self.dispatch == "static" else None
        how = Handling(layer_run(self.checkpoint), build_dispatch(self.dispatch, capacity), self.separate_experts)
        return own_subject(self.model, self.sizes, self.batch, seed, how)

    def capture(self, device: torch.device, seed: int, name: str | None = None) -> CapturedStep:
        """Return the captured iteration on a device."""
        notes = self.notes | {"device": device.type}
        return capture(self.subject(seed), self.optimizer, device, seed, name or self.name, notes)


STUDY: dict[str, StepCase] = {
    "vit-b256": StepCase("vit", 256),
    "vit-b256-ac": StepCase("vit", 256, "layer"),
    "vit-b64-ac": StepCase("vit", 64, "layer"),
    "lm-b8": StepCase("language", 8),
    "lm-b8-ac": StepCase("language", 8, "layer"),
    "lm-b32-ac": StepCase("language", 32, "layer"),
    "cls-b512": StepCase("classifier", 512),
    "cls-b512-ac": StepCase("classifier", 512, "layer"),
    "cls-b4096-ac": StepCase("classifier", 4096, "layer"),
    "cls-b64": StepCase("classifier", 64),
    "cls-b512-ac-separate": StepCase("classifier", 512, "layer", separate_experts=True),
}
