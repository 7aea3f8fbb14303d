"""Experts of transformers' own classes, one at a time: what the class computes, without its dispatch of all experts.

A class computes all experts in one call. What it does to a single one is put together here out of its public
attributes, and then held against the class itself: a form that does not give the class's own outputs is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import product

import torch
from torch import nn
from torch.nn import functional

from moe_replay.traces.errors import InputError

STACKED = (("gate_up_proj", "up_proj"), ("gate_up_proj_bias", "up_proj_bias"), ("down_proj",), ("down_proj_bias",))
PROBES = (1.0, 30.0)  # spreads of inputs: the second reaches what a class clamps
ROWS = 4  # inputs of a probe
TOLERANCE = 2e-2  # of the largest output; bfloat16 has eight bits

Gate = Callable[[nn.Module, torch.Tensor, torch.Tensor], torch.Tensor]  # (experts, gate [N, H], up [N, H]) -> [N, H]


def activation(experts: nn.Module) -> Callable[..., torch.Tensor]:
    """Return the activation of an experts module."""
    return getattr(experts, "act_fn", functional.silu)


def number(experts: nn.Module, name: str, default: float) -> float:
    """Return a number of a gated activation, under either of the names that classes give it."""
    found = getattr(experts, name, getattr(experts, f"swiglu_{name}", None))
    return default if found is None else float(found)


def plain(experts: nn.Module, gate_NH: torch.Tensor, up_NH: torch.Tensor) -> torch.Tensor:
    """Return act(gate) * up: Mixtral and most others."""
    return activation(experts)(gate_NH).mul_(up_NH)


def clamped(experts: nn.Module, gate_NH: torch.Tensor, up_NH: torch.Tensor) -> torch.Tensor:
    """Return act(gate) * up, both limited before: DeepSeek V4, HunYuan V4."""
    limit = number(experts, "limit", torch.inf)
    return activation(experts)(gate_NH.clamp(max=limit)).mul_(up_NH.clamp(-limit, limit))


def clamped_behind(experts: nn.Module, gate_NH: torch.Tensor, up_NH: torch.Tensor) -> torch.Tensor:
    """Return act(gate) * up, the first limited behind its activation: Step 3.7."""
    limit = number(experts, "limit", torch.inf)
    return activation(experts)(gate_NH).clamp(max=limit).mul_(up_NH.clamp(-limit, limit))


def scaled_swish(experts: nn.Module, gate_NH: torch.Tensor, up_NH: torch.Tensor) -> torch.Tensor:
    """Return gate * sigmoid(alpha gate) * (up + 1), limited: gpt-oss, MiniMax M3."""
    limit, alpha = number(experts, "limit", torch.inf), number(experts, "alpha", 1.0)
    gate_NH = gate_NH.clamp(max=limit)
    return (up_NH.clamp(-limit, limit) + 1) * (gate_NH * torch.sigmoid(gate_NH * alpha))


def of_both(experts: nn.Module, gate_NH: torch.Tensor, up_NH: torch.Tensor) -> torch.Tensor:
    """Return act(gate, up), an activation of two inputs: Inkling 2."""
    return activation(experts)(gate_NH, up_NH)


GATES: tuple[Gate, ...] = (plain, clamped, clamped_behind, scaled_swish, of_both)


def halves(both_NH: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return gate and up that lie side by side."""
    return both_NH.chunk(2, dim=-1)


def interleaved(both_NH: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return gate and up whose columns alternate."""
    return both_NH[:, ::2], both_NH[:, 1::2]


def inside_forms(experts: nn.Module) -> list[Callable[[torch.Tensor], torch.Tensor]]:
    """Return what an expert may do between its two products, the likeliest first."""
    if not hasattr(experts, "gate_up_proj"):
        return [activation(experts)]
    layouts = (halves, interleaved) if getattr(experts, "is_concatenated", True) else (interleaved,)
    return [lambda both, gate=gate, cut=cut: gate(experts, *cut(both)) for cut, gate in product(layouts, GATES)]


class OwnExperts(nn.Module):
    """`count` experts of a class of transformers, of which `held` have weights; others share theirs in turn.

    As `GatedExperts`: `runners`, `stacks` and `compute`. `outputs` and `width` are those of a token, `hidden` is the
    width inside an expert. InputError for a class whose experts are not computed in a form that is known.
    """

    def __init__(self, experts: nn.Module, count: int, held: int, place: str) -> None:
        super().__init__()
        self.own, self.count, self.held = experts, count, held
        self.modules_H = one_each(experts)[:held]
        self.stacks = () if self.modules_H else tuple(getattr(experts, name) for name in stack_names(experts))
        self.has_bias, self.is_transposed = len(self.stacks) == 4, bool(getattr(experts, "is_transposed", False))
        self.inside: Callable[[torch.Tensor], torch.Tensor] | None = None
        if not self.modules_H:
            self.find_form(place)

    def __len__(self) -> int:
        return self.count

    @property
    def expert_bytes(self) -> int:
        """Bytes of one expert's weights, biases included."""
        return sum(each.nbytes for each in self.weights_of_first)

    @property
    def weights_of_first(self) -> list[torch.Tensor]:
        """All tensors of the first expert."""
        return list(self.modules_H[0].parameters()) if self.modules_H else [stack[0] for stack in self.stacks]

    @property
    def width(self) -> int:
        """The width of a token."""
        return self._sizes[0]

    @property
    def hidden(self) -> int:
        """The width inside an expert."""
        return self._sizes[1]

    @property
    def outputs(self) -> int:
        """The width of an expert's output."""
        return self._sizes[0]

    @property
    def _sizes(self) -> tuple[int, int]:
        """(width of a token, width inside) of the product that leads out: the last matrix."""
        down = [each for each in self.weights_of_first if each.ndim == 2][-1]
        outer, inner = down.shape[::-1] if self.is_transposed else down.shape
        return outer, inner

    def compute(self, x_NM: torch.Tensor, *tensors: torch.Tensor) -> torch.Tensor:
        """Return the outputs [N, M] of one expert, its tensors in the order of `stacks`."""
        (first, first_bias), (down, down_bias) = zip(tensors[::2], tensors[1::2], strict=True) if self.has_bias else (
            (tensors[0], None), (tensors[1], None)
        )  # fmt: skip
        if self.is_transposed:
            first, down = first.T, down.T
        return functional.linear(self.inside(functional.linear(x_NM, first, first_bias)), down, down_bias)

    def runners(self) -> list[Callable[[torch.Tensor], torch.Tensor]]:
        """Return one function per expert, inputs [N, M] -> outputs [N, M]."""
        if self.modules_H:
            own = list(self.modules_H)
        else:
            own = [partial(self.run_with, tensors) for tensors in zip(*self.stacks, strict=True)]
        return [own[expert % len(own)] for expert in range(self.count)]

    def run_with(self, tensors: tuple[torch.Tensor, ...], x_NM: torch.Tensor) -> torch.Tensor:
        """Return the outputs [N, M] of the expert of these tensors."""
        return self.compute(x_NM, *tensors)

    @torch.inference_mode()
    def find_form(self, place: str) -> None:
        """Take the form whose outputs are those of the class itself; InputError where no form's are."""
        probes = [(expert, spread) for expert in sorted({0, self.held - 1}) for spread in PROBES]
        wanted = [self.of_the_class(*probe, place) for probe in probes]
        for inside in inside_forms(self.own):
            self.inside = inside
            if all(self.equals(*probe, each) for probe, each in zip(probes, wanted, strict=True)):
                return
        raise InputError(f"{place}: what {type(self.own).__name__} computes for one expert is in no form that is known")

    def probe_inputs(self, expert: int, spread: float) -> torch.Tensor:
        """Return a few drawn inputs [N, M] of an expert."""
        like = self.stacks[0]
        draws = torch.Generator(like.device).manual_seed(expert)
        return torch.randn((ROWS, self.width), device=like.device, generator=draws).mul_(spread).to(like.dtype)

    def of_the_class(self, expert: int, spread: float, place: str) -> torch.Tensor:
        """Return what the class gives tokens that all chose one expert with weight 1; InputError where it cannot."""
        x_NM = self.probe_inputs(expert, spread)
        chosen_N1 = torch.full((ROWS, 1), expert, device=x_NM.device)
        try:
            return self.own(x_NM, chosen_N1, torch.ones((ROWS, 1), dtype=x_NM.dtype, device=x_NM.device)).float()
        except TypeError as error:
            kind = type(self.own).__name__
            raise InputError(f"{place}: {kind} runs all its experts on all tokens, allowed: those chosen") from error

    def equals(self, expert: int, spread: float, wanted_NM: torch.Tensor) -> bool:
        """Say whether one expert's outputs are those of the class."""
        try:
            found_NM = self.compute(self.probe_inputs(expert, spread), *(stack[expert] for stack in self.stacks))
        except (TypeError, RuntimeError):  # shapes or arguments of another form
            return False
        if found_NM.shape != wanted_NM.shape:
            return False
        return bool((found_NM.float() - wanted_NM).abs().max() <= TOLERANCE * wanted_NM.abs().max())


def one_each(experts: nn.Module) -> list[nn.Module]:
    """Return the modules of a class that has one per expert, all alike; none where it stacks weights."""
    children = [each for each in experts.children() if any(True for _ in each.parameters())]
    shapes = [[tuple(weights.shape) for weights in each.parameters()] for each in children]
    alike = all(type(each) is type(children[0]) for each in children) and all(each == shapes[0] for each in shapes)
    return children if alike and isinstance(experts, (nn.ModuleList, nn.ModuleDict)) else []


def count_of(experts: nn.Module, place: str) -> int:
    """Return how many experts a module has; InputError where it neither stacks weights nor has a module for each."""
    if modules := one_each(experts):
        return len(modules)
    if len(names := stack_names(experts)) in (2, 4) and getattr(experts, names[0]).ndim == 3:
        return len(getattr(experts, names[0]))
    raise InputError(f"{place}: {type(experts).__name__} holds its experts in a form that is not known")


def stack_names(experts: nn.Module) -> list[str]:
    """Return the names of the stacked tensors of an experts module, in the order in which an expert uses them."""
    return [name for names in STACKED for name in names if isinstance(getattr(experts, name, None), torch.Tensor)]
