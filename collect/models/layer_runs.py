"""How a model runs its layers: each as it is, or in the hands of whoever checkpoints it."""

from collections.abc import Callable

import torch

# run(layer, *inputs) -> (state after the layer, the gate's loss): what `layer(*inputs)` returns.
LayerRun = Callable[..., tuple[torch.Tensor, torch.Tensor]]


def directly(layer: LayerRun, *inputs: object) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what a layer returns; all that its backward pass needs is kept."""
    return layer(*inputs)
