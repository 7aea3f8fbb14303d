"""The residual MLP-MoE classifier: embedding, L MoE layers, head; and its named configurations."""

from dataclasses import dataclass

import torch
from torch import nn

from collect.gates.noisy_top_k import NoisyTopK
from traces.errors import InputError


@dataclass(frozen=True)
class ClassifierConfig:
    """Sizes of a classifier. `width` None means no embedding, no norms, no residual and no head: one bare MoE layer
    from the features to the classes (Shazeer's layer as its best-known small reimplementation uses it)."""

    layers: int = 4
    experts: int = 16
    k: int = 4
    width: int | None = 128
    hidden: int = 128
    w_importance: float = 0.02
    w_load: float = 0.02

    def __post_init__(self) -> None:
        if not 1 <= self.k <= self.experts:
            raise InputError(f"k = {self.k}, allowed 1..{self.experts} (the number of experts)")


CONFIGURATIONS: dict[str, ClassifierConfig] = {
    "base": ClassifierConfig(),  # small enough to train at every k with several seeds on a CPU
    "wide": ClassifierConfig(width=256, hidden=2048),  # experts of 4 MiB: their service time stands clear of the loop's
    "one-layer": ClassifierConfig(layers=1, experts=10, k=4, width=None, hidden=128, w_importance=0.01, w_load=0.01),
}


class Experts(nn.Module):
    """E two-layer perceptrons of equal shape, [width -> hidden -> outputs], with their weights stacked."""

    def __init__(self, experts: int, width: int, hidden: int, outputs: int, generator: torch.Generator) -> None:
        super().__init__()

        def uniform(fan_in: int, *shape: int) -> nn.Parameter:
            return nn.Parameter((torch.rand(*shape, generator=generator) * 2 - 1) / fan_in**0.5)

        self.w1_EMH, self.b1_EH = uniform(width, experts, width, hidden), uniform(width, experts, hidden)
        self.w2_EHO, self.b2_EO = uniform(hidden, experts, hidden, outputs), uniform(hidden, experts, outputs)

    @property
    def expert_bytes(self) -> int:
        """Bytes of one expert's weights."""
        return sum(parameter[0].nbytes for parameter in self.parameters())

    def run(self, expert: int, x_NM: torch.Tensor) -> torch.Tensor:
        """Return the outputs [N, O] of one expert for a batch of inputs."""
        return perceptron(x_NM, self.w1_EMH[expert], self.b1_EH[expert], self.w2_EHO[expert], self.b2_EO[expert])

    def forward(self, x_NM: torch.Tensor, weights_NK: torch.Tensor, experts_NK: torch.Tensor) -> torch.Tensor:
        """Return the weighted sum over each row's experts [N, O]: rows sorted by expert, an active expert runs once."""
        order = experts_NK.flatten().argsort(stable=True)
        rows, weights = order // experts_NK.shape[1], weights_NK.flatten()[order]
        counts = torch.bincount(experts_NK.flatten(), minlength=len(self.w1_EMH)).tolist()
        # `unbind` once: the gradient of indexing would be one zero tensor of the whole stack per expert.
        stacks = (stack.unbind() for stack in (self.w1_EMH, self.b1_EH, self.w2_EHO, self.b2_EO))
        parts = [
            perceptron(part, *tensors)
            for part, *tensors in zip(x_NM[rows].split(counts), *stacks, strict=True)
            if len(part)
        ]
        return x_NM.new_zeros(len(x_NM), self.b2_EO.shape[1]).index_add(0, rows, torch.cat(parts) * weights[:, None])


def perceptron(
    x_NM: torch.Tensor, w1_MH: torch.Tensor, b1_H: torch.Tensor, w2_HO: torch.Tensor, b2_O: torch.Tensor
) -> torch.Tensor:
    """Return relu(x w1 + b1) w2 + b2, shape [N, O]."""
    return torch.addmm(b2_O, torch.addmm(b1_H, x_NM, w1_MH).relu_(), w2_HO)


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
            NoisyTopK(width, config.experts, config.w_importance, config.w_load) for _ in range(config.layers)
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
        self, images_NF: torch.Tensor, k: int | None = None, generator: torch.Generator | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (class logits [N, classes], balance loss) with `k` experts per row (default: the model's own)."""
        x_NM = self.embed(images_NF)
        loss = x_NM.new_zeros(())
        for norm, gate, experts in zip(self.norms, self.gates, self.experts, strict=True):
            h_NM = norm(x_NM)
            weights_NK, experts_NK, balance = gate(h_NM, k or self.config.k, generator)
            x_NM = self.combine(x_NM, experts(h_NM, weights_NK, experts_NK))
            loss = loss + balance
        return self.finish(x_NM), loss


def seeded_linear(inputs: int, outputs: int, generator: torch.Generator) -> nn.Linear:
    """Return a linear layer whose weights come from `generator` (torch's usual uniform initialisation)."""
    layer = nn.Linear(inputs, outputs)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_((torch.rand(parameter.shape, generator=generator) * 2 - 1) / inputs**0.5)
    return layer
