"""What of a model is recorded: its routers, tried on a few tokens, and how many experts a row holds."""

from dataclasses import dataclass

import torch
from torch import nn

from moe_replay.collect.huggingface.generation import Plan, generate
from moe_replay.collect.huggingface.prompts import Prompt
from moe_replay.collect.huggingface.ran_experts import RanExperts
from moe_replay.collect.huggingface.routers import SIDES, Choice, Router, find_routers, limited
from moe_replay.traces.errors import InputError

ALL_CANDIDATES = 64  # up to so many experts per layer all are recorded, beyond that twice the router's k
PROBE_TOKENS = 16
CHOSEN, ALL = "chosen", "all"


@dataclass(frozen=True)
class Watch:
    """The module whose calls are recorded, its routers, and what a probe saw them return."""

    module: nn.Module
    routers: list[Router]
    choices: list[Choice]

    @property
    def experts(self) -> int:
        """E, the same in every layer."""
        return self.choices[0].logits_NE.shape[1]

    @property
    def k(self) -> int:
        """Experts that a router chooses."""
        return self.choices[0].experts_NK.shape[1]


@torch.no_grad()
def probe(model: nn.Module, plan: Plan, prompt: Prompt) -> Watch:
    """Return what to watch, after the routers decided a few tokens; InputError where it cannot be recorded."""
    module = part_of(model, plan.part)
    routers = find_routers(model, plan.part)
    seen = {router: [] for router in routers}
    handles = [
        router.module.register_forward_hook(lambda _, __, output, each=router: seen[each].append(each.choice(output)))
        for router in routers
    ]
    ran = RanExperts(routers)
    try:
        generate(model, [Prompt(prompt.token_ids[:PROBE_TOKENS])], Plan(new_tokens=1), 0)
    finally:
        for handle in (*handles, *ran.handles):
            handle.remove()
    for router in routers:
        if len(seen[router]) != 1:
            raise InputError(f"router {router.name} ran {len(seen[router])} times in a forward call, allowed: once")
        ran.check(router, seen[router][0])
    told = [router.told(seen[router][0]) for router in routers]
    watch = Watch(module, [router for router, _ in told], [choice for _, choice in told])
    check_numbers(watch)
    shapes = {(choice.logits_NE.shape[1], choice.experts_NK.shape[1]) for choice in watch.choices}
    if len(shapes) > 1:
        raise InputError(f"layers have different (experts, k): {sorted(shapes)}, allowed: the same in all layers")
    return watch


def part_of(model: nn.Module, part: str | None) -> nn.Module:
    """Return the module whose calls are forward calls: the model, or its encoder or decoder, which have to be named."""
    if not model.config.is_encoder_decoder:
        if part in SIDES:
            raise InputError(f"--part {part}: the model has one part only")
        return model
    if part not in SIDES:
        raise InputError(f"--part {' or '.join(SIDES)} is needed here")
    return model.get_encoder() if part == "encoder" else model.get_decoder()


def check_numbers(watch: Watch) -> None:
    """Refuse a model whose routers decide on NaN: what they choose then means nothing."""
    for router, choice in zip(watch.routers, watch.choices, strict=True):
        if choice.logits_NE.isnan().any():
            raise InputError(f"router {router.name} has logits that are NaN, allowed: finite weights, a wider --dtype")


def slots_recorded(watch: Watch, wanted: int | str | None) -> int | None:
    """Return how many experts a row records, None for the router's choice alone."""
    may_drop = any(choice.may_drop for choice in watch.choices)
    if wanted == CHOSEN or (wanted is None and (may_drop or not by_score(watch))):
        return None
    if may_drop:
        place = f"--candidates {wanted}: experts have a capacity, so that some tokens get none"
        raise InputError(f"{place}, and nothing is recorded behind an empty slot; allowed: {CHOSEN}")
    if wanted in (watch.k, ALL if watch.experts == watch.k else None) and not by_score(watch):
        return None
    if wanted is None:
        return watch.experts if watch.experts <= ALL_CANDIDATES else 2 * watch.k
    if wanted == ALL:
        return watch.experts
    if not watch.k <= wanted <= watch.experts:
        raise InputError(f"--candidates {wanted}: allowed {watch.k}..{watch.experts}, {ALL} or {CHOSEN}")
    return wanted


def by_score(watch: Watch) -> bool:
    """Whether the routers rank by the scores that are recorded, so that the best of these are the chosen ones."""
    return not any(map(limited, watch.routers))
