"""Activation checkpointing of a model's layers: what their backward pass needs is kept, computed again, or both."""

from __future__ import annotations

from collections import deque
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

from moe_replay.collect.models.layer_runs import LayerRun, directly
from moe_replay.traces.errors import unknown_name

aten = torch.ops.aten
# Matrix products and attention: they take most of the time to compute again, and their results are small beside it.
PRODUCTS = (
    aten.mm.default, aten.addmm.default, aten.bmm.default, aten._scaled_dot_product_flash_attention_for_cpu.default,
    aten._scaled_dot_product_flash_attention.default, aten._scaled_dot_product_efficient_attention.default,
)  # fmt: skip


def whole_layer(layer: LayerRun, *inputs: object) -> tuple[torch.Tensor, torch.Tensor]:
    """Run a layer of which only the inputs are kept: its backward pass computes all of it again."""
    return checkpoint(layer, *inputs, use_reentrant=False)


def all_but_products(layer: LayerRun, *inputs: object) -> tuple[torch.Tensor, torch.Tensor]:
    """Run a layer of which the inputs and the results of PRODUCTS are kept: the rest is computed again."""
    return checkpoint(layer, *inputs, use_reentrant=False, context_fn=keep_products)


def keep_products() -> tuple[Keeping, Recalling]:
    """Return what a layer's forward pass runs in, and what the same runs in when it is computed again.

    torch's `create_selective_checkpoint_contexts` does this too, but keeps every result where a graph is traced.
    """
    keeping = Keeping()
    return keeping, Recalling(keeping.kept)


class Keeping(TorchDispatchMode):
    """Keeps the results of PRODUCTS in the order in which they are made."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: deque[object] = deque()

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func in PRODUCTS:
            self.kept.append(detached(result))
        return result


class Recalling(TorchDispatchMode):
    """Gives the kept results back in their order instead of computing them.

    An expert's relu works in place on a kept product. It comes to the same when it meets its own result again.
    """

    def __init__(self, kept: deque[object]) -> None:
        super().__init__()
        self.kept = kept

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        return self.kept.popleft() if func in PRODUCTS else func(*args, **(kwargs or {}))


def detached(result: object) -> object:
    """Return results apart from the autograd graph that they are about to enter, on the same storages."""
    if isinstance(result, torch.Tensor):
        return result.detach()
    return tuple(map(detached, result)) if isinstance(result, tuple) else result


CHECKPOINTS: dict[str, LayerRun] = {"none": directly, "layer": whole_layer, "selective": all_but_products}


def layer_run(name: str) -> LayerRun:
    """Return what runs a layer under a way of checkpointing; an unknown name lists the known ones."""
    if name not in CHECKPOINTS:
        raise unknown_name("checkpoint", name, CHECKPOINTS)
    return CHECKPOINTS[name]
