"""The router modules of a transformers model.

Which modules are routers is what the model class itself declares for `output_router_logits` (`_can_record_outputs`),
not a pattern on names, which would catch a shared expert's gate too. What they return differs by family: see
`router_forms`. A MoE block whose router is not among them is refused, because left out it would pass for a dense layer.
"""

import itertools
import re
from dataclasses import dataclass, replace

import torch
from torch import nn

from moe_replay.collect.huggingface.router_forms import FORMS, Choice, as_logits
from moe_replay.traces.errors import InputError

# Routers of the same form as their model's declared one, which the model does not declare.
UNDECLARED = ("DeepseekV4HashRouter",)
# Blocks that are declared in the place of their router, and where in them the router is that tokens of text take.
INSIDE = {"Ernie4_5_VLMoeMoeBlock": "text_moe.gate"}
SIDES = ("encoder", "decoder")
ATTENTION, MLP = BOTH = ("attention", "mlp")  # parts of a layer that may both have experts
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
        parts = output if isinstance(output, tuple) else (output,)
        for fits, read in FORMS:
            if fits(parts, self.module, self.block):
                return read(parts, self.module, self.block)
        shapes = ", ".join(
            f"{each.dtype} {list(each.shape)}" if isinstance(each, torch.Tensor) else type(each).__name__
            for each in parts
        )
        raise InputError(
            f"router {self.name} ({type(self.module).__name__}) returns {shapes}: a form that is not known"
        )


def is_distribution(values_NE: torch.Tensor) -> bool:
    """Whether every row holds probabilities: none below 0, their sum 1."""
    values_NE = values_NE.float()
    return bool((values_NE >= 0).all() and ((values_NE.sum(1) - 1).abs() < SUM_TOLERANCE).all())


def find_routers(model: nn.Module, part: str | None = None) -> list[Router]:
    """Return a model's routers by ascending layer; `part`: only those whose name holds it (encoder or decoder).

    Where attention has experts of its own beside those of the MLP (JetMoE), only the latter's, or, with `part`
    attention, the former's. InputError where there are none, or two in one layer.
    """
    found = [each for each in all_routers(model) if part not in SIDES or part in each.name.split(".")]
    found = found if part in SIDES else of_one_side(found, part)
    if not found:
        of = f" in its {part}" if part else ""
        raise InputError(f"{type(model).__name__}: no MoE router{of} that transformers knows of")
    found.sort(key=lambda router: router.layer)
    for before, router in itertools.pairwise(found):
        if before.layer == router.layer:
            raise InputError(f"routers {before.name} and {router.name}: two in layer {router.layer}, allowed one")
    check_no_block_is_left(model, part, found)
    return found


def all_routers(model: nn.Module) -> list[Router]:
    """Return the routers of all parts of a model."""
    wanted = declared(model)
    found = []
    for name, module in model.named_modules():
        kind = type(module).__name__
        if kind in UNDECLARED or any(isinstance(module, each) and (at is None or at in name) for each, at in wanted):
            place = f"{name}.{INSIDE[kind]}" if kind in INSIDE else name
            block = model.get_submodule(place.rpartition(".")[0])
            found.append(Router(layer_number(place), place, model.get_submodule(place), block))
    return found


def has_both(model: nn.Module) -> bool:
    """Whether attention has experts beside those of the MLPs."""
    return len({is_of_attention(router) for router in all_routers(model)}) == 2


def of_one_side(found: list[Router], part: str | None) -> list[Router]:
    """Return the routers of the MLPs, or those of attention where that is the part asked for, or has them alone."""
    attention = [router for router in found if is_of_attention(router)]
    others = [router for router in found if not is_of_attention(router)]
    if part is not None and not (attention and others):
        raise InputError(f"--part {part}: attention and MLPs do not both have experts here; allowed: without it")
    return attention if part == ATTENTION or not others else others


def is_of_attention(router: Router) -> bool:
    """Whether a router chooses among experts of attention, as its name tells."""
    return any("attention" in word or "attn" in word for word in router.name.split("."))


def check_no_block_is_left(model: nn.Module, part: str | None, found: list[Router]) -> None:
    """Refuse a model with blocks like those found, experts in them, whose router was not found."""
    known, kinds = {id(router.block) for router in found}, {type(router.block) for router in found}
    known |= {id(each) for block in model.modules() if type(block).__name__ in INSIDE for each in block.modules()}
    for name, block in model.named_modules():
        inner = getattr(block, "experts", None)
        routed = type(block) in kinds and isinstance(inner, nn.Module) and any(True for _ in inner.parameters())
        if routed and id(block) not in known and (part not in SIDES or part in name.split(".")):
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
