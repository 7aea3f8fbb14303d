"""A small vision transformer whose feed-forward part is dense, switch-routed or randomly routed.

Patches -> linear embedding + learned positions -> `depth` pre-norm blocks (attention, feed-forward) -> norm -> mean
over the patches -> head. Mean pooling instead of a class token: all tokens are patches, and no router meets a token
of another kind. All variants keep their perceptrons in `Experts`, dense as one expert: equal layouts, equal costs.
"""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from moe_replay.collect.dispatch.dispatch_names import Dispatch
from moe_replay.collect.dispatch.dynamic_dispatch import dynamic_dispatch
from moe_replay.collect.gates.gate_names import GateOptions, build_gate
from moe_replay.collect.models.classifier import seeded_linear
from moe_replay.collect.models.experts import Experts
from moe_replay.collect.models.layer_runs import LayerRun, directly
from moe_replay.traces.errors import InputError, unknown_name

VARIANTS = ("dense", "switch", "random", "random-per-token")
AVERAGED = ("random", "random-per-token")  # variants that are deployed with their experts' weights averaged into one


@dataclass(frozen=True)
class VisionConfig:
    """Sizes of a vision transformer: `width` of a token, `hidden` of a perceptron, `patch` in pixels.

    `equal_start`: a random-routing layer's experts start as copies of one, so that they stay close enough for their
    averaged weights to mean something. `w_balance`: Switch's alpha.
    InputError where sizes do not fit together.
    """

    variant: str = "dense"
    experts: int = 1
    width: int = 64
    hidden: int = 256
    depth: int = 4
    heads: int = 4
    patch: int = 8
    equal_start: bool = True
    w_balance: float = 0.01

    def __post_init__(self) -> None:
        if self.variant not in VARIANTS:
            raise unknown_name("variant", self.variant, VARIANTS)
        for name in ("experts", "width", "hidden", "depth", "heads", "patch"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} = {getattr(self, name)}, allowed 1 and more")
        if self.variant == "dense" and self.experts != 1:
            raise InputError(f"experts = {self.experts} for variant dense, allowed 1")
        if self.width % self.heads:
            raise InputError(f"heads = {self.heads}, allowed: divisors of the width {self.width}")


class Attention(nn.Module):
    """Multi-head self-attention over the patches of an image."""

    def __init__(self, width: int, heads: int, generator: torch.Generator) -> None:
        super().__init__()
        self.heads = heads
        self.inputs = seeded_linear(width, 3 * width, generator)
        self.output = seeded_linear(width, width, generator)

    def forward(self, x_NPM: torch.Tensor) -> torch.Tensor:
        """Return the attended tokens [N, P, M]."""
        images, patches, width = x_NPM.shape
        parts = self.inputs(x_NPM).view(images, patches, 3, self.heads, width // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(query, key, value)
        return self.output(mixed.transpose(1, 2).reshape(x_NPM.shape))


class FeedForward(nn.Module):
    """The second half of a block: one perceptron for all tokens, or one of E for each."""

    def __init__(self, config: VisionConfig, generator: torch.Generator) -> None:
        super().__init__()
        self.variant = config.variant
        self.experts = Experts(config.experts, config.width, config.hidden, config.width, generator)
        if config.variant in AVERAGED and config.equal_start:
            with torch.no_grad():
                for stack in self.experts.parameters():
                    stack.copy_(stack[:1].clone().expand_as(stack))
        options = GateOptions(w_balance=config.w_balance)
        self.gate = (
            None
            if config.variant == "dense"
            else build_gate(config.variant, config.width, config.experts, options, generator)
        )

    def forward(
        self, x_NM: torch.Tensor, generator: torch.Generator | None, dispatch: Dispatch = dynamic_dispatch
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (outputs [N, M] of all tokens, the gate's loss)."""
        if self.gate is None:
            return self.experts.run(0, x_NM), x_NM.new_zeros(())
        if self.variant == "random":  # one expert for the whole pass: nothing to sort, and one row is enough to draw it
            drawn = int(self.gate(x_NM[:1], generator=generator).experts_NK)
            return self.experts.run(drawn, x_NM), x_NM.new_zeros(())
        weights_NK, experts_NK, loss = self.gate(x_NM, generator=generator)
        return dispatch(x_NM, weights_NK, experts_NK, self.experts), loss


class Block(nn.Module):
    """x + attention(norm(x)), then x + feed-forward(norm(x))."""

    def __init__(self, config: VisionConfig, generator: torch.Generator) -> None:
        super().__init__()
        self.attention_norm, self.norm = nn.LayerNorm(config.width), nn.LayerNorm(config.width)
        self.attention = Attention(config.width, config.heads, generator)
        self.feed_forward = FeedForward(config, generator)

    def forward(
        self, x_NPM: torch.Tensor, generator: torch.Generator | None, dispatch: Dispatch = dynamic_dispatch
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (tokens [N, P, M], the gate's loss)."""
        x_NPM = x_NPM + self.attention(self.attention_norm(x_NPM))
        out, loss = self.feed_forward(self.norm(x_NPM).flatten(0, 1), generator, dispatch)
        return x_NPM + out.view(x_NPM.shape), loss


class VisionTransformer(nn.Module):
    """Class logits from uint8 images [N, features], which are normalised inside by `mean_F` and `deviation_F`.

    `shape`: (channels, height, width) of an image. InputError where the patch does not divide it.
    """

    def __init__(
        self, config: VisionConfig, shape: tuple[int, int, int], mean: torch.Tensor, deviation: torch.Tensor,
        classes: int, seed: int,
    ) -> None:  # fmt: skip
        super().__init__()
        channels, height, width = shape
        if height % config.patch or width % config.patch:
            raise InputError(f"patch = {config.patch}, allowed: divisors of the image's {height}x{width} pixels")
        generator = torch.Generator().manual_seed(seed)
        patches = (height // config.patch) * (width // config.patch)
        self.config, self.shape, self.classes = config, shape, classes
        self.register_buffer("mean_F", mean)
        self.register_buffer("deviation_F", deviation)
        self.embedding = seeded_linear(channels * config.patch**2, config.width, generator)
        self.position_PM = nn.Parameter(torch.randn(patches, config.width, generator=generator) * 0.02)
        self.blocks = nn.ModuleList(Block(config, generator) for _ in range(config.depth))
        self.last_norm = nn.LayerNorm(config.width)
        self.head = seeded_linear(config.width, classes, generator)

    def patches(self, images_NF: torch.Tensor) -> torch.Tensor:
        """Return the normalised patches [N, P, channels * patch * patch], row by row."""
        channels, height, width = self.shape
        patch = self.config.patch
        x = ((images_NF.float() - self.mean_F) / self.deviation_F).view(
            -1, channels, height // patch, patch, width // patch, patch
        )
        return x.permute(0, 2, 4, 1, 3, 5).reshape(len(images_NF), -1, channels * patch**2)

    def forward(
        self, images_NF: torch.Tensor, generator: torch.Generator | None = None,
        dispatch: Dispatch = dynamic_dispatch, run_layer: LayerRun = directly,
    ) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
        """Return (class logits [N, classes], the sum of the gates' losses); `generator` draws jitter and experts.

        `run_layer` runs every block.
        """
        x_NPM = self.embedding(self.patches(images_NF)) + self.position_PM
        total = x_NPM.new_zeros(())
        for block in self.blocks:
            x_NPM, loss = run_layer(block, x_NPM, generator, dispatch)
            total = total + loss
        return self.head(self.last_norm(x_NPM).mean(1)), total


def parameter_count(model: nn.Module) -> int:
    """Return the number of weights that training changes."""
    return sum(parameter.numel() for parameter in model.parameters())
