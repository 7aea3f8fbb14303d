"""What the memory study runs dispatches on: batches and their selections, of a stated skew or a trained gate."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch

from moe_replay.collect.dispatch.capacity import Capacity
from moe_replay.collect.dispatch.footprint import LayerSizes
from moe_replay.collect.models.classifier import Classifier
from moe_replay.collect.models.experts import Experts
from moe_replay.collect.real_layers.gated_experts import GatedExperts
from moe_replay.collect.real_layers.layer_shapes import LayerShape
from moe_replay.traces.errors import InputError


@dataclass(frozen=True)
class Published:
    """A published model's experts, choices per token and capacity (Huang et al. 2023, section 3); the width is ours."""

    experts: int
    k: int
    capacity: Capacity


PUBLISHED = {
    "lm": Published(512, 2, Capacity("CS", 0.05)),  # language model, waste 12.8
    "mt": Published(128, 2, Capacity("CS", 1.0)),  # translation model, waste 64
}


@dataclass(frozen=True)
class Grid:
    """Batch sizes S, experts E, choices k and capacities, all combined; `like`: names of PUBLISHED, at every S.

    `zipf`: expert number r in popularity is chosen with a probability proportional to r ** -zipf (0: uniform).
    """

    batches: tuple[int, ...]
    experts: tuple[int, ...]
    ks: tuple[int, ...]
    capacities: tuple[Capacity, ...]
    like: tuple[str, ...] = ()
    width: int = 64
    hidden: int = 256
    zipf: float = 1.0

    def __post_init__(self) -> None:
        if max(self.ks) > min(self.experts):
            raise InputError(f"k = {max(self.ks)}, allowed 1..{min(self.experts)} (the least number of experts)")

    @property
    def cases(self) -> int:
        """How many batches the grid holds."""
        return len(list(self.points())) * len(self.batches)

    def points(self) -> Iterator[tuple[str, int, int, tuple[Capacity, ...]]]:
        """Yield (name of the published model or "", E, k, capacities) of every combination."""
        for name in self.like:
            yield name, PUBLISHED[name].experts, PUBLISHED[name].k, (PUBLISHED[name].capacity,)
        for experts in self.experts:
            for k in self.ks:
                yield "", experts, k, self.capacities


@dataclass(frozen=True)
class Case:
    """One batch before one layer: what every dispatch gets, the capacities to try, and where the selection is from."""

    router: str
    like: str
    capacities: tuple[Capacity, ...]
    x_NM: torch.Tensor
    weights_NK: torch.Tensor
    experts_NK: torch.Tensor
    experts: Experts | GatedExperts

    @property
    def sizes(self) -> LayerSizes:
        """Tokens, experts, choices and widths."""
        tokens, k = self.experts_NK.shape
        layer = self.experts
        return LayerSizes(
            tokens, len(layer), k, layer.width, layer.hidden, layer.outputs, self.x_NM.element_size(), layer.INNER
        )

    @cached_property
    def load_E(self) -> list[int]:
        """How many rows every expert was chosen for."""
        return torch.bincount(self.experts_NK.flatten() + 1, minlength=len(self.experts) + 1)[1:].tolist()

    @property
    def input_bytes(self) -> int:
        """Bytes of the inputs and the selection."""
        return self.x_NM.nbytes + self.weights_NK.nbytes + self.experts_NK.nbytes

    @property
    def weights_bytes(self) -> int:
        """Bytes of all experts' weights."""
        return self.experts.expert_bytes * len(self.experts)


def skewed_cases(grid: Grid, seed: int, device: torch.device) -> Iterator[Case]:
    """Yield the cases of a grid with random inputs, weights and experts: the bytes do not depend on values."""
    for like, experts, k, capacities in grid.points():
        generator = torch.Generator().manual_seed(seed)
        layer = Experts(experts, grid.width, grid.hidden, grid.width, generator).to(device)
        for batch in grid.batches:
            x_NM = torch.randn(batch, grid.width, generator=generator)
            selection = (part.to(device) for part in zipf_selection(batch, experts, k, grid.zipf, generator))
            yield Case(f"zipf {grid.zipf:g}", like, capacities, x_NM.to(device), *selection, layer)


def shape_cases(shape: LayerShape, grid: Grid, seed: int, device: torch.device) -> Iterator[Case]:
    """Yield the cases of one layer of a published shape, at each batch size of a grid, its capacities and its skew.

    Weights and inputs are drawn on the device, in bfloat16.
    """
    drawn = torch.Generator(device).manual_seed(seed)
    layer = GatedExperts(shape.experts, shape.width, shape.hidden, torch.bfloat16, device, drawn)
    generator = torch.Generator().manual_seed(seed)
    for batch in grid.batches:
        x_NM = torch.randn(batch, shape.width, device=device, generator=drawn).to(torch.bfloat16)
        weights_NK, experts_NK = zipf_selection(batch, shape.experts, shape.k, grid.zipf, generator)
        selection = weights_NK.to(device, torch.bfloat16), experts_NK.to(device)
        yield Case(f"zipf {grid.zipf:g}", shape.name, grid.capacities, x_NM, *selection, layer)


def zipf_selection(
    tokens: int, experts: int, k: int, exponent: float, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (weights [N, K], experts [N, K]): k experts per row drawn without replacement, most popular ones first.

    The chance of the r-th most popular expert is proportional to r ** -exponent; which one that is, is drawn too.
    Drawn as the k largest of log p + Gumbel noise, which is drawing one after another without replacement.
    """
    logs_E = -exponent * torch.arange(1, experts + 1).log()
    logs_E = logs_E[torch.randperm(experts, generator=generator)]
    noise_NE = -torch.empty(tokens, experts).exponential_(generator=generator).log()
    keys_NK, experts_NK = (logs_E + noise_NE).topk(k, dim=1)
    return keys_NK.softmax(1), experts_NK


@torch.no_grad()
def trained_cases(model: Classifier, images_NF: torch.Tensor, data: str, grid: Grid) -> Iterator[Case]:
    """Yield the cases of a trained classifier's first layer, on real images: its own E, widths, weights and gate."""
    if model.config.width is None:
        raise InputError("memory: needs a residual model (base, wide) as --checkpoint")
    if max(grid.batches) > len(images_NF):
        raise InputError(f"--batch {max(grid.batches)}: allowed 1..{len(images_NF)} (the test images of --data {data})")
    for k in (k for k in grid.ks if k <= model.config.experts):
        for batch in grid.batches:
            x_NM = model.norms[0](model.embed(images_NF[:batch]))
            weights_NK, experts_NK, _ = model.gates[0](x_NM, k)
            router = f"trained {model.config.gate}"
            yield Case(router, "", grid.capacities, x_NM, weights_NK, experts_NK.contiguous(), model.experts[0])
