"""Whether the experts that run are those that their router chose, where experts are modules of their own.

It is not so everywhere: transformers 5.24 reads NLLB-MoE's mask of chosen experts as if it held their numbers, and
runs the experts 0 and 1 alone. A trace of what the routers chose would then be of nothing that ran.
"""

import re
from collections.abc import Sequence

import torch
from torch import nn

from moe_replay.collect.huggingface.router_forms import Choice
from moe_replay.collect.huggingface.routers import Router
from moe_replay.traces.errors import InputError


class RanExperts:
    """Counts the tokens that each expert got since its router decided last; until its `handles` are removed."""

    def __init__(self, routers: Sequence[Router]) -> None:
        self.tokens: dict[Router, torch.Tensor] = {}
        self.handles = []
        for router in routers:
            experts = own_modules(router.block)
            if experts:
                self.handles.append(router.module.register_forward_hook(self.reset(router, len(experts))))
            for number, expert in enumerate(experts):
                self.handles.append(expert.register_forward_pre_hook(self.counter(router, number)))

    def reset(self, router: Router, experts: int) -> object:
        """Return the hook that begins to count when a router has decided."""

        def begin(module: nn.Module, inputs: tuple, output: object) -> None:
            self.tokens[router] = torch.zeros(experts, dtype=torch.int64)

        return begin

    def counter(self, router: Router, expert: int) -> object:
        """Return the hook of an expert."""

        def count(module: nn.Module, inputs: tuple) -> None:
            if router in self.tokens:
                self.tokens[router][expert] += inputs[0].shape[:-1].numel()

        return count

    def check(self, router: Router, choice: Choice) -> None:
        """Refuse a router whose experts ran for other tokens than it chose; nothing is known where none was seen."""
        ran_E = self.tokens.get(router)
        if ran_E is None or not ran_E.any():
            return
        chosen_E = torch.bincount(choice.experts_NK[choice.experts_NK >= 0].cpu(), minlength=len(ran_E))[: len(ran_E)]
        if not torch.equal(ran_E, chosen_E):
            expert = int((ran_E != chosen_E).int().argmax())
            import transformers

            raise InputError(
                f"{router.name}: expert {expert} ran {ran_E[expert]} tokens but was chosen for {chosen_E[expert]}: "
                f"transformers {transformers.__version__} runs other experts of {type(router.block).__name__} than "
                "its routers choose; allowed: a version that runs the chosen ones"
            )


def own_modules(block: nn.Module) -> list[nn.Module]:
    """Return a block's experts, in the order of their numbers, where each is a module of its own; else nothing."""
    inner = getattr(block, "experts", None)
    children = inner.named_children() if isinstance(inner, nn.ModuleDict | nn.ModuleList) else ()
    experts = [each for name, each in children if re.fullmatch(r"(expert_)?\d+", name)]  # not what is beside them
    return experts if len({id(each) for each in experts}) == len(experts) else []
