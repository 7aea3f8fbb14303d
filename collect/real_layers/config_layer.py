"""One MoE layer of a Hugging Face configuration, its weights drawn at random and its sizes true, cut into blocks."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from moe_replay.collect.devices import check_weights_fit
from moe_replay.collect.huggingface.model_loading import told_in_one_line
from moe_replay.collect.huggingface.routers import Choice
from moe_replay.collect.real_layers.layer_stack import INPUTS, OUTPUTS
from moe_replay.collect.real_layers.model_configs import DescribedBlock
from moe_replay.collect.real_layers.own_experts import OwnExperts, count_of, one_each, stack_names
from moe_replay.traces.errors import InputError

BIAS = 0.1  # spread of drawn biases of experts
DENSE = "norm, router and shared experts of a layer in the middle of a model, without attention"


@dataclass(frozen=True)
class LayerConfig:
    """Sizes of the layer, named as every model of the collectors names them; `layers` is 1."""

    described: DescribedBlock
    experts: int
    held: int
    k: int
    width: int
    hidden: int
    layers: int = 1

    @property
    def dtype(self) -> torch.dtype:
        """Type of the weights."""
        return self.described.dtype

    def about(self) -> dict:
        """Return what headers say of the layer."""
        found = {
            "name": self.described.name, "kind": self.described.kind, "layers": self.layers,
            "moe_layers": self.described.layers, "experts": self.experts, "k": self.k, "width": self.width,
            "hidden": self.hidden, "dtype": str(self.dtype).removeprefix("torch."), "weights": "random", "dense": DENSE,
        }  # fmt: skip
        if self.held < self.experts:
            found["held_experts"] = self.held
        return found


class NoExperts(nn.Module):
    """Stands where a block had its experts: nothing is computed, so that the block runs all that it has beside them.

    `shape`: that of the inputs that experts were to get.
    """

    shape: tuple[int, ...] = ()

    def forward(self, hidden: torch.Tensor, *_: object, **__: object) -> torch.Tensor:
        """Return zeros in the place of the experts' outputs."""
        self.shape = tuple(hidden.shape)
        return torch.zeros_like(hidden)


class OwnGate(nn.Module):
    """A block without its experts: `logits` runs its router and its shared experts, in the class's own code."""

    def __init__(self, described: DescribedBlock) -> None:
        super().__init__()
        self.router, self.block = described.router, described.block
        self.last: object = None
        self.at: int | None = None  # which of the router's results are its logits, where one of them is
        self.router.module.register_forward_hook(self.keep)

    def keep(self, module: nn.Module, inputs: tuple, output: object) -> None:
        """Keep what the router returned."""
        self.last = output

    def logits(self, x_NM: torch.Tensor) -> torch.Tensor:
        """Return the router's logits [N, E], float32."""
        self.block(x_NM.unsqueeze(0))
        logits = self.router.read(self.last).logits_NE if self.at is None else self.last[self.at]
        return logits.flatten(0, -2).float()

    def choice(self, x_NM: torch.Tensor) -> Choice:
        """Return what the router decides; later calls of `logits` take its result without sorting anything."""
        self.at, _ = None, self.logits(x_NM)
        found = self.router.read(self.last)
        places = (at for at, each in enumerate(self.last) if each.data_ptr() == found.logits_NE.data_ptr())
        self.at = next(places, None)
        return found


class ConfigLayer(nn.Module):
    """norm -> MoE block of a configuration, as a stack of one layer: what `LayerStackBlocks` runs.

    `held` experts get weights of their own (None: all), the others share these in turn, so that a large layer fits a
    small memory. InputError where the weights do not fit on the device, or where a block computes something that cannot
    be cut into router, experts and the rest.
    """

    def __init__(self, described: DescribedBlock, device: torch.device, held: int | None = None, seed: int = 0) -> None:
        super().__init__()
        place, block, draws = described.place, described.block, torch.Generator(device).manual_seed(seed)
        count = count_of(block.experts, place)
        held = min(held or count, count)
        check_weights_fit(f"{place} --held-experts {held}", needed_bytes(block, count, held), device)
        own = block.experts
        block.experts = NoExperts()
        drawn_anew(block, device, draws)
        fill_experts(own, held, device, draws)
        with told_in_one_line(place):
            experts = OwnExperts(own, count, held, place)
        gate = OwnGate(described)
        k = self.checked(place, gate, experts, device)
        self.config = LayerConfig(described, count, held, k, experts.width, experts.hidden)
        self.gates, self.experts = nn.ModuleList([gate]), nn.ModuleList([experts])
        self.norm = nn.RMSNorm(experts.width, device=device)
        self.register_buffer("embedding", torch.randn((INPUTS, experts.width), device=device, generator=draws))
        self.register_buffer("head", torch.randn((experts.width, OUTPUTS), device=device, generator=draws))

    @staticmethod
    @torch.inference_mode()
    def checked(place: str, gate: OwnGate, experts: OwnExperts, device: torch.device) -> int:
        """Return how many experts a token takes; InputError for a block that is not router, experts and a rest."""
        rows = 2
        x_NM = torch.randn((rows, experts.width), device=device).to(experts.weights_of_first[0].dtype)
        with told_in_one_line(f"{place}: {type(gate.block).__name__} without its experts"):
            choice = gate.choice(x_NM)
        found = gate.block.experts.shape
        if not found or found[-1] != experts.width or torch.Size(found[:-1]).numel() != rows:
            raise InputError(
                f"{place}: {type(gate.block).__name__} gives its experts {list(found)} for {rows} tokens,"
                f" allowed [{rows}, {experts.width}]"
            )
        if choice.logits_NE.shape != (rows, len(experts)):
            raise InputError(
                f"{place}: its router ranks {choice.logits_NE.shape[-1]} experts, of which {len(experts)} have weights;"
                " allowed: all of them"
            )
        return choice.experts_NK.shape[1]

    def normed(self, layer: int, x_NM: torch.Tensor) -> torch.Tensor:
        """Return the inputs [N, M] of the block, in its type."""
        return self.norm(x_NM).to(self.config.dtype)

    def finish(self, x_NM: torch.Tensor) -> torch.Tensor:
        """Return the outputs [N, C] from the residual stream behind the layer."""
        return self.norm(x_NM) @ self.head


def needed_bytes(block: nn.Module, count: int, held: int) -> int:
    """Return the bytes of a block of which so many of `count` experts have weights."""
    experts = sum(each.nbytes for each in block.experts.parameters())
    return sum(each.nbytes for each in block.parameters()) - experts + experts // count * held


def drawn_anew(block: nn.Module, device: torch.device, draws: torch.Generator) -> None:
    """Give a module's tensors memory on a device: matrices as those of a trained layer, norms 1, all else 0."""
    block.to_empty(device=device)
    with torch.no_grad():
        for name, each in (*block.named_parameters(), *block.named_buffers()):
            if each.ndim > 1 and each.is_floating_point():
                each.normal_(std=each.shape[-1] ** -0.5, generator=draws)
            else:
                each.fill_(1 if "norm" in name else 0)


def fill_experts(own: nn.Module, held: int, device: torch.device, draws: torch.Generator) -> None:
    """Give the first `held` experts of a module drawn weights on a device; the others get none."""
    for module in one_each(own)[:held]:
        drawn_anew(module, device, draws)
    if one_each(own):
        return
    inputs = -2 if getattr(own, "is_transposed", False) else -1
    for name in stack_names(own):
        described = getattr(own, name)
        weights = torch.empty((held, *described.shape[1:]), dtype=described.dtype, device=device)
        weights.normal_(std=BIAS if name.endswith("bias") else described.shape[inputs] ** -0.5, generator=draws)
        setattr(own, name, nn.Parameter(weights, requires_grad=False))
