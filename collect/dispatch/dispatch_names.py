"""The table of dispatches: all of one callable type, `dispatch(x_NM, weights_NK, experts_NK, experts)` -> [N, O]."""

from collections.abc import Callable

import torch

from moe_replay.collect.dispatch.capacity import Capacity
from moe_replay.collect.dispatch.dynamic_dispatch import dynamic_dispatch, gathered_dispatch
from moe_replay.collect.dispatch.static_dispatch import StaticDispatch
from moe_replay.collect.models.experts import Experts
from moe_replay.traces.errors import InputError, unknown_name

Dispatch = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, Experts], torch.Tensor]

DISPATCHES: dict[str, Dispatch | type[StaticDispatch]] = {
    "static": StaticDispatch,
    "dynamic": dynamic_dispatch,
    "gathered": gathered_dispatch,
}


def build_dispatch(name: str, capacity: Capacity | None = None) -> Dispatch:
    """Return a dispatch. Static dispatch needs a capacity, the others have none; an unknown name lists the known."""
    if name not in DISPATCHES:
        raise unknown_name("dispatch", name, DISPATCHES)
    if (DISPATCHES[name] is StaticDispatch) != (capacity is not None):
        raise InputError(f"dispatch {name}: {'needs a' if capacity is None else 'has no'} capacity")
    return StaticDispatch(capacity) if capacity else DISPATCHES[name]
