"""The MoE block that a Hugging Face configuration describes, built by transformers' own class without any weights."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from moe_replay.collect.huggingface.model_loading import (
    TYPES,
    UNKNOWN_CLASS,
    check_at_hand,
    imported,
    short_name,
    told_in_one_line,
)
from moe_replay.collect.huggingface.routers import Router, find_routers
from moe_replay.traces.errors import InputError

TASKS = ("CausalLM", "ImageTextToText", "Seq2SeqLM")
DEFAULT_TYPE = torch.bfloat16  # of configurations that name none


@dataclass(frozen=True)
class DescribedBlock:
    """The first MoE block of a model, its tensors without memory: the block's router, what it is called, and its type.

    `place` is what messages call it. `layers`: how many such blocks the model has. `quantised`: the method by which the
    published weights are, or None.
    """

    place: str
    name: str
    kind: str
    router: Router
    dtype: torch.dtype
    layers: int
    quantised: str | None

    @property
    def block(self) -> nn.Module:
        """The block: router, experts, and what else its class has."""
        return self.router.block


def described_block(name: str, dtype: str = "auto") -> DescribedBlock:
    """Return the MoE block of a configuration: a file config.json, a folder that holds one, or a name on the hub.

    `dtype`: float32, bfloat16, float16; `auto` is the configuration's own. InputError in one line where transformers
    cannot build the model, where it has no router that is known, and where its MoE layers differ in size.
    """
    transformers = imported()
    place = f"--model {name}"
    check_at_hand(name)
    with told_in_one_line(place):
        config = transformers.AutoConfig.from_pretrained(name, trust_remote_code=False)
    text = config.get_text_config(decoder=True)
    chosen = TYPES[dtype] if dtype != "auto" else getattr(text, "dtype", None) or config.dtype or DEFAULT_TYPE
    with told_in_one_line(place), torch.device("meta"):
        model = model_of(transformers, config, place, chosen)
        routers = routers_of(model, config.is_encoder_decoder)
    check_alike(place, routers)
    first = routers[0]
    if not isinstance(getattr(first.block, "experts", None), nn.Module):
        raise InputError(
            f"{place}: {type(first.block).__name__} has no module `experts`, allowed: a block that has one"
        )
    method = (getattr(config, "quantization_config", None) or {}).get("quant_method")
    return DescribedBlock(place, called(name), config.model_type, first, chosen, len(routers), method)


def called(name: str) -> str:
    """Return how the model is called in headers: its folder's name where a file config.json is given."""
    path = Path(name)
    return path.resolve().parent.name if path.is_file() else short_name(name)


def model_of(transformers: object, config: object, place: str, dtype: torch.dtype) -> nn.Module:
    """Return the model of a configuration by the first task that has a class for it; InputError where none has."""
    for task in TASKS:
        try:
            kind = getattr(transformers, f"AutoModelFor{task}")
            return kind.from_config(config, dtype=dtype, experts_implementation="eager").eval()
        except ValueError as error:
            if not str(error).startswith(UNKNOWN_CLASS):
                raise
    raise InputError(f"{place}: transformers has no model for {type(config).__name__} among {', '.join(TASKS)}")


def routers_of(model: nn.Module, in_two_parts: bool) -> list[Router]:
    """Return the routers of a model, those of encoder and decoder together; InputError where it has none."""
    if not in_two_parts:
        return find_routers(model)
    found = []
    for part in ("encoder", "decoder"):
        with suppress(InputError):  # Switch may have experts in one part alone
            found += find_routers(model, part)
    return found or find_routers(model)


def check_alike(place: str, routers: list[Router]) -> None:
    """Refuse MoE layers of several sizes: one table would serve them all."""
    sizes = {router.name: sorted(tuple(each.shape) for each in router.block.parameters()) for router in routers}
    first = routers[0].name
    for name, found in sizes.items():
        if found != sizes[first]:
            raise InputError(f"{place}: the MoE blocks of {first} and {name} differ in size, allowed: all alike")
