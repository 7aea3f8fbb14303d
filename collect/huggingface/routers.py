"""The router modules of a transformers model, and what each form of them returns.

Which modules are routers is what the model class itself declares for `output_router_logits` (`_can_record_outputs`),
not a pattern on names, which would catch a shared expert's gate too. What they return differs by family: FORMS. A MoE
block whose router is not among them is refused, because left out it would pass for a dense layer.
"""

import itertools
import re
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import nn

from moe_replay.traces.errors import InputError


class Choice(NamedTuple):
    """What a router decided for N tokens: logits [N, E], weights [N, K], experts int64 [N, K], -1 = dropped.

    `may_drop`: experts have a capacity, so that which tokens they get depends on more than the tokens' own scores.
    """

    logits_NE: torch.Tensor
    weights_NK: torch.Tensor
    experts_NK: torch.Tensor
    may_drop: bool = False


# Routers of the same form as their model's declared one, which the model does not declare.
UNDECLARED = ("DeepseekV4HashRouter",)
SUM_TOLERANCE = 1e-2  # probabilities in bfloat16 do not sum to one exactly


@dataclass(frozen=True)
class Router:
    """A router module, its place in the model, the MoE block around it, and the model's own number of its layer.

    `probabilities`: it returns its softmax in the place of logits (Gemma 4); their logarithm stands in for these.
    """

    layer: int
    name: str
    module: nn.Module
    block: nn.Module
    probabilities: bool = False

    def choice(self, output: object) -> Choice:
        """Return what an output of this module says; InputError for a form that is not known."""
        choice = self.read(output)
        return choice._replace(logits_NE=as_logits(choice.logits_NE)) if self.probabilities else choice

    def told(self, choice: Choice) -> tuple["Router", Choice]:
        """Return the router knowing whether it returns probabilities, and its choice so understood."""
        if not is_distribution(choice.logits_NE):
            return self, choice
        return replace(self, probabilities=True), choice._replace(logits_NE=as_logits(choice.logits_NE))

    def read(self, output: object) -> Choice:
        """Return what an output of this module says, unchanged."""
        tensors = output if isinstance(output, tuple) else ()
        if not all(isinstance(each, torch.Tensor) for each in tensors):
            tensors = ()
        for fits, read in FORMS:
            if fits(tensors):
                return read(tensors, self.module)
        shapes = ", ".join(f"{each.dtype} {list(each.shape)}" for each in tensors) or type(output).__name__
        raise InputError(
            f"router {self.name} ({type(self.module).__name__}) returns {shapes}: a form that is not known"
        )


def is_top_k(tensors: tuple) -> bool:
    """Whether these are (logits [N, E], weights [N, K], indices [N, K]): Mixtral and most others."""
    return len(tensors) == 3 and not is_integer(tensors[0]) and is_integer(tensors[2]) and tensors[2].ndim == 2


def top_k(tensors: tuple, module: nn.Module) -> Choice:
    """Return the choice; routers of several families do not sort it, so it is sorted here, best weight first."""
    logits_NE, weights_NK, experts_NK = tensors
    order_NK = weights_NK.argsort(dim=1, descending=True, stable=True)
    return Choice(logits_NE, weights_NK.gather(1, order_NK), experts_NK.gather(1, order_NK))


def is_scattered(tensors: tuple) -> bool:
    """Whether these are (scores [N, E], 0 outside the choice, logits [N, E]): Llama 4."""
    return len(tensors) == 2 and tensors[0].shape == tensors[1].shape and tensors[0].ndim == 2


def scattered(tensors: tuple, module: nn.Module) -> Choice:
    """Return the choice out of scores that are 0 for the experts not chosen."""
    scores_NE, logits_NE = tensors
    weights_NK, experts_NK = scores_NE.topk(module.top_k, dim=1)
    return Choice(logits_NE, weights_NK, experts_NK)


def is_one_hot(tensors: tuple) -> bool:
    """Whether these are (one-hot [B, S, E] after capacity, probability [B, S, 1], logits [B, S, E]): Switch.

    NLLB-MoE's mask of the better of two experts, with weights [N, E], is not: there transformers 5.23 runs the experts
    0 and 1 alone, whatever its routers chose.
    """
    if len(tensors) != 3 or not is_integer(tensors[0]) or tensors[0].shape != tensors[2].shape:
        return False
    return tensors[1].shape == (*tensors[0].shape[:-1], 1)


def one_hot(tensors: tuple, module: nn.Module) -> Choice:
    """Return the choice; a token beyond an expert's capacity has a row of zeros and gets no expert."""
    hot_NE, weights_N1, logits_NE = (each.flatten(0, -2) for each in tensors)
    dropped_N1 = hot_NE.sum(1, keepdim=True) == 0
    experts_N1 = hot_NE.argmax(1, keepdim=True).masked_fill(dropped_N1, -1)
    return Choice(logits_NE, weights_N1.masked_fill(dropped_N1, 0), experts_N1, may_drop=True)


FORMS = ((is_one_hot, one_hot), (is_top_k, top_k), (is_scattered, scattered))


def is_distribution(values_NE: torch.Tensor) -> bool:
    """Whether every row holds probabilities: none below 0, their sum 1."""
    values_NE = values_NE.float()
    return bool((values_NE >= 0).all() and ((values_NE.sum(1) - 1).abs() < SUM_TOLERANCE).all())


def as_logits(probabilities_NE: torch.Tensor) -> torch.Tensor:
    """Return logits whose softmax these probabilities are."""
    return probabilities_NE.float().clamp_min(torch.finfo(torch.float32).tiny).log()


def is_integer(tensor: torch.Tensor) -> bool:
    """Whether a tensor holds whole numbers."""
    return not (tensor.is_floating_point() or tensor.is_complex())


def find_routers(model: nn.Module, part: str | None = None) -> list[Router]:
    """Return a model's routers by ascending layer; `part`: only those whose name holds it (encoder or decoder).

    InputError where there are none, or two in one layer.
    """
    wanted = declared(model)
    found = [
        Router(layer_number(name), name, module, model.get_submodule(name.rpartition(".")[0]))
        for name, module in model.named_modules()
        if (any(isinstance(module, kind) and (where is None or where in name) for kind, where in wanted)
            or type(module).__name__ in UNDECLARED)
        and (part is None or part in name.split("."))
    ]  # fmt: skip
    if not found:
        of = f" in its {part}" if part else ""
        raise InputError(f"{type(model).__name__}: no MoE router{of} that transformers knows of")
    found.sort(key=lambda router: router.layer)
    for before, router in itertools.pairwise(found):
        if before.layer == router.layer:
            raise InputError(f"routers {before.name} and {router.name}: two in layer {router.layer}, allowed one")
    check_no_block_is_left(model, part, found)
    return found


def check_no_block_is_left(model: nn.Module, part: str | None, found: list[Router]) -> None:
    """Refuse a model with blocks like those found, experts in them, whose router was not found."""
    known, kinds = {id(router.block) for router in found}, {type(router.block) for router in found}
    for name, block in model.named_modules():
        inner = getattr(block, "experts", None)
        routed = type(block) in kinds and isinstance(inner, nn.Module) and any(True for _ in inner.parameters())
        if routed and id(block) not in known and (part is None or part in name.split(".")):
            raise InputError(f"{name} ({type(block).__name__}): its experts have no router that is known")


def declared(model: nn.Module) -> list[tuple[type, str | None]]:
    """Return (class, part of the name or None) of everything that the model's classes declare to give router logits."""
    found = []
    for module in model.modules():
        recorders = (getattr(module, "_can_record_outputs", None) or {}).get("router_logits", ())
        for recorder in recorders if isinstance(recorders, (list, tuple)) else (recorders,):
            kind = getattr(recorder, "target_class", recorder)
            if isinstance(kind, type):
                found.append((kind, getattr(recorder, "layer_name", None)))
    return list(dict.fromkeys(found))


def layer_number(name: str) -> int:
    """Return the layer's number in a module's name: `model.layers.3.mlp.gate` is in layer 3."""
    number = re.search(r"\.(\d+)\.", name)
    if number is None:
        raise InputError(f"router {name}: its name holds no layer number")
    return int(number[1])


def limited(router: Router) -> bool:
    """Whether a router ranks by something else than its scores: a correction bias, a limit to groups, a table."""
    module, block = router.module, router.block
    own = (*module.named_buffers(), *module.named_parameters())
    beside = (*block.named_buffers(recurse=False), *block.named_parameters(recurse=False))
    if any("bias" in name and name not in ("bias", "classifier.bias") for name, _ in (*own, *beside)):
        return True
    if type(module).__name__ in UNDECLARED:
        return True
    groups = getattr(module, "num_group", None) or getattr(module, "n_group", None) or 1
    chosen = getattr(module, "topk_group", None) or groups
    return groups > chosen and getattr(module, "topk_method", "") != "greedy"
