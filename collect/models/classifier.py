"""The residual MLP-MoE classifier: embedding, L MoE layers, head; and its named configurations."""

from dataclasses import dataclass

import torch
from torch import nn

from moe_replay.collect.dispatch.dispatch_names import Dispatch
from moe_replay.collect.dispatch.dynamic_dispatch import dynamic_dispatch
from moe_replay.collect.gates.gate_names import GateOptions, build_gate
from moe_replay.collect.gates.gate_result import ExpertsPerLayer, ExpertsPerRow, Selector
from moe_replay.collect.models.experts import Experts
from moe_replay.collect.models.layer_runs import LayerRun, directly
from moe_replay.traces.errors import InputError


@dataclass(frozen=True)
class ClassifierConfig:
    """Sizes of a classifier and its gate. `width` None means no embedding, no norms, no residual and no head: one bare
    MoE layer from the features to the classes (Shazeer's layer as its best-known small reimplementation uses it).

    `gate` is a name of `collect.gates.gate_names`; `threshold` and `most` are of gates with a dynamic number of
    experts, `w_balance` and `w_size` weigh the gate's losses. `k` is what a fixed gate uses.
    """

    layers: int = 4
    experts: int = 16
    k: int = 4
    width: int | None = 128
    hidden: int = 128
    gate: str = "noisy-top-k"
    threshold: float | None = None
    most: int | None = None
    w_balance: float = 0.02
    w_size: float = 0.0

    def __post_init__(self) -> None:
        if not 1 <= self.k <= self.experts:
            raise InputError(f"k = {self.k}, allowed 1..{self.experts} (the number of experts)")

    @property
    def gate_options(self) -> GateOptions:
        """What the table of gates needs to build this configuration's gates."""
        return GateOptions(self.k, self.threshold, self.most, self.w_balance, self.w_size)


CONFIGURATIONS: dict[str, ClassifierConfig] = {
    "base": ClassifierConfig(),  # small enough to train at every k with several seeds on a CPU
    "wide": ClassifierConfig(width=256, hidden=2048),  # experts of 4 MiB: their service time is well above the loop's
    "one-layer": ClassifierConfig(layers=1, experts=10, k=4, width=None, hidden=128, w_balance=0.01),
}


class Classifier(nn.Module):
    """x -> embedding -> L times (x + MoE(norm(x))) -> norm -> head. `config.width` None: a bare MoE layer."""

    def __init__(
        self, config: ClassifierConfig, mean: torch.Tensor, deviation: torch.Tensor, classes: int, seed: int
    ) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.config, self.classes = config, classes
        self.register_buffer("mean_F", mean)
        self.register_buffer("deviation_F", deviation)
        features = len(mean)
        bare = config.width is None
        width = features if bare else config.width
        self.embedding = nn.Identity() if bare else seeded_linear(features, width, generator)
        self.norms = nn.ModuleList(nn.Identity() if bare else nn.LayerNorm(width) for _ in range(config.layers))
        self.gates = nn.ModuleList(
            build_gate(config.gate, width, config.experts, config.gate_options, generator) for _ in range(config.layers)
        )
        outputs = classes if bare else width
        self.experts = nn.ModuleList(
            Experts(config.experts, width, config.hidden, outputs, generator) for _ in range(config.layers)
        )
        self.last_norm = nn.Identity() if bare else nn.LayerNorm(width)
        self.head = nn.Identity() if bare else seeded_linear(width, classes, generator)

    def embed(self, images_NF: torch.Tensor) -> torch.Tensor:
        """Return the state [N, M] before the first layer, from uint8 images."""
        return self.embedding((images_NF.float() - self.mean_F) / self.deviation_F)

    def finish(self, x_NM: torch.Tensor) -> torch.Tensor:
        """Return the class logits [N, classes] from the state after the last layer."""
        return self.head(self.last_norm(x_NM))

    def combine(self, x_NM: torch.Tensor, moe_NM: torch.Tensor) -> torch.Tensor:
        """Return the state after a layer: residual, or the layer's output alone in the bare configuration."""
        return moe_NM if self.config.width is None else x_NM + moe_NM

    def forward(
        self, images_NF: torch.Tensor, k: ExpertsPerLayer | None = None, generator: torch.Generator | None = None,
        dispatch: Dispatch = dynamic_dispatch, select: Selector | None = None, run_layer: LayerRun = directly,
    ) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
        """Return (class logits [N, classes], gate loss): experts per row by `k`, a number or a rule, one for all layers
        or a list with one each (default: the gates' own). `select(layer, h_NM)` returns a layer's selection in
        the place of its gate; `run_layer` runs every layer."""
        x_NM = self.embed(images_NF)
        loss = x_NM.new_zeros(())
        per_layer = k if isinstance(k, list) else [k] * self.config.layers
        for layer in range(self.config.layers):
            x_NM, gate_loss = run_layer(self.layer, layer, x_NM, per_layer[layer], generator, dispatch, select)
            loss = loss + gate_loss
        return self.finish(x_NM), loss

    def layer(
        self, layer: int, x_NM: torch.Tensor, k: ExpertsPerRow | None, generator: torch.Generator | None,
        dispatch: Dispatch, select: Selector | None,
    ) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
        """Return (the state [N, M] after a layer, its gate's loss)."""
        h_NM = self.norms[layer](x_NM)
        chosen = select(layer, h_NM) if select else self.gates[layer](h_NM, k, generator)
        weights_NK, experts_NK, gate_loss = chosen
        return self.combine(x_NM, dispatch(h_NM, weights_NK, experts_NK, self.experts[layer])), gate_loss


def seeded_linear(inputs: int, outputs: int, generator: torch.Generator) -> nn.Linear:
    """Return a linear layer whose weights come from `generator` (torch's usual uniform initialisation)."""
    layer = nn.Linear(inputs, outputs)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_((torch.rand(parameter.shape, generator=generator) * 2 - 1) / inputs**0.5)
    return layer
