"""A stack of MoE layers of one published shape with random weights: what executions at real sizes run."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from moe_replay.collect.gates.gate_result import recorded_weights
from moe_replay.collect.real_layers.gated_experts import GatedExperts
from moe_replay.collect.real_layers.layer_shapes import LayerShape

INPUTS = 256  # rows of the embedding: a byte-level trace tells which one a token takes
OUTPUTS = 256


@dataclass(frozen=True)
class StackConfig:
    """`layers` equal layers of a shape; sizes as every model of the collectors names them."""

    shape: LayerShape
    layers: int
    dtype: torch.dtype = torch.bfloat16
    seed: int = 0

    @property
    def experts(self) -> int:
        """Experts of a layer."""
        return self.shape.experts

    @property
    def k(self) -> int:
        """Experts per token."""
        return self.shape.k

    @property
    def width(self) -> int:
        """Width of a token."""
        return self.shape.width

    @property
    def hidden(self) -> int:
        """Width inside an expert."""
        return self.shape.hidden

    def about(self) -> dict:
        """Return what headers say of the model."""
        return {
            "name": self.shape.name, "layers": self.layers, "experts": self.experts, "k": self.k, "width": self.width,
            "hidden": self.hidden, "dtype": str(self.dtype).removeprefix("torch."), "scale": self.shape.scale,
            "weights": "random", "dense": "norm and router; no attention",
        }  # fmt: skip


class Router(nn.Module):
    """The linear router of a layer, in float32 as servers run it."""

    def __init__(self, width: int, experts: int, device: torch.device, generator: torch.Generator) -> None:
        super().__init__()
        weights_ME = torch.empty((width, experts), device=device).normal_(std=width**-0.5, generator=generator)
        self.weights_ME = nn.Parameter(weights_ME, requires_grad=False)

    def logits(self, x_NM: torch.Tensor) -> torch.Tensor:
        """Return the router's logits [N, E]."""
        return x_NM.float() @ self.weights_ME


class LayerStack(nn.Module):
    """embedding -> L times (x + MoE(norm(x))) -> norm -> head. The residual stream is float32, experts are `dtype`.

    Attention is left out: a batch's cost is that of its experts, and of the norm and the router before them.
    """

    def __init__(self, config: StackConfig, device: torch.device) -> None:
        super().__init__()
        self.config, width = config, config.width
        generator = torch.Generator(device).manual_seed(config.seed)
        self.register_buffer("embedding", torch.randn((INPUTS, width), device=device, generator=generator))
        self.norms = nn.ModuleList(nn.RMSNorm(width, device=device) for _ in range(config.layers + 1))
        self.gates = nn.ModuleList(Router(width, config.experts, device, generator) for _ in range(config.layers))
        self.experts = nn.ModuleList(
            GatedExperts(config.experts, width, config.hidden, config.dtype, device, generator)
            for _ in range(config.layers)
        )
        head_MC = torch.empty((width, OUTPUTS), device=device).normal_(std=width**-0.5, generator=generator)
        self.register_buffer("head", head_MC)

    def normed(self, layer: int, x_NM: torch.Tensor) -> torch.Tensor:
        """Return the inputs [N, M] of a layer's experts, in their type."""
        return self.norms[layer](x_NM).to(self.config.dtype)

    def finish(self, x_NM: torch.Tensor) -> torch.Tensor:
        """Return the outputs [N, C] from the residual stream after the last layer."""
        return self.norms[-1](x_NM) @ self.head

    @torch.inference_mode()
    def forward(self, input_N: torch.Tensor, experts_NLK: torch.Tensor, renormalised: bool = True) -> torch.Tensor:
        """Return the outputs [N, C] of tokens under given selections, expert by expert."""
        x_NM = self.embedding[input_N]
        for layer, (gate, experts) in enumerate(zip(self.gates, self.experts, strict=True)):
            h_NM, chosen_NK = self.normed(layer, x_NM), experts_NLK[:, layer]
            weights_NK = recorded_weights(gate.logits(h_NM), chosen_NK, renormalised)
            x_NM = x_NM.clone()
            for expert in range(len(experts)):
                row_A, slot_A = (chosen_NK == expert).nonzero(as_tuple=True)
                if len(row_A):
                    output_AM = experts.run(expert, h_NM[row_A]).float() * weights_NK[row_A, slot_A].unsqueeze(1)
                    x_NM.index_add_(0, row_A, output_AM)
        return self.finish(x_NM)
