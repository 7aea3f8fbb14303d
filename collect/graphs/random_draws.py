"""Which operations draw random numbers, from where in torch's generators they drew, and drawing the same once more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import fx

from moe_replay.traces.errors import InputError

DRAWN_FROM = "drawn_from"  # key in a node's `meta`


def draws(operation: Any, arguments: Sequence, named: Mapping[str, Any] | None = None) -> bool:
    """Return whether an operation called so draws from torch's generator.

    Fused attention carries the tag for its dropout: with `dropout_p` 0 it draws nothing. Neither does a dropout outside
    training.
    """
    if torch.Tag.nondeterministic_seeded not in getattr(operation, "tags", ()):
        return False
    schema = operation._schema.arguments
    given = {each.name: each.default_value for each in schema if each.has_default_value()}
    given |= dict(zip((each.name for each in schema), arguments, strict=False)) | dict(named or {})
    return given.get("dropout_p") != 0 and given.get("train") is not False


def generator_states(args: tuple, kwargs: dict | None) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Return the states of the CPU's and the GPU's generators; InputError for an operation with one of its own."""
    if any(isinstance(each, torch.Generator) for each in (*args, *(kwargs or {}).values())):
        raise InputError("an operation draws from a generator of its own; allowed: torch's, set by torch.manual_seed")
    return torch.get_rng_state(), torch.cuda.get_rng_state() if torch.cuda.is_available() else None


def draw_again(node: fx.Node) -> None:
    """Set torch's generators to where they were when an operation was captured that draws random numbers."""
    if DRAWN_FROM in node.meta:
        on_cpu, on_gpu = node.meta[DRAWN_FROM]
        torch.set_rng_state(on_cpu)
        if on_gpu is not None:
            torch.cuda.set_rng_state(on_gpu)
