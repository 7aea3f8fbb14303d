"""Activation checkpointing of a model's layers: what their backward pass needs is kept, computed again, or both."""

from __future__ import annotations

from functools import partial

import torch
from torch.utils.checkpoint import checkpoint, create_selective_checkpoint_contexts

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
    # An expert's relu works in place on a kept product. It comes to the same when it meets its own result again.
    contexts = partial(create_selective_checkpoint_contexts, list(PRODUCTS), allow_cache_entry_mutation=True)
    return checkpoint(layer, *inputs, use_reentrant=False, context_fn=contexts)


CHECKPOINTS: dict[str, LayerRun] = {"none": directly, "layer": whole_layer, "selective": all_but_products}


def layer_run(name: str) -> LayerRun:
    """Return what runs a layer under a way of checkpointing; an unknown name lists the known ones."""
    if name not in CHECKPOINTS:
        raise unknown_name("checkpoint", name, CHECKPOINTS)
    return CHECKPOINTS[name]
