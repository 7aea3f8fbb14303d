"""Whether padding in front of a prompt changes what a model computes for it, as it must not: tried, not taken on trust.

Some layers of transformers' (linear attention, convolutions) take in padding that the mask should hide: a prompt is
then continued otherwise in a batch than alone.
"""

from collections.abc import Callable, Sequence

import torch

from moe_replay.collect.huggingface.prompts import Prompt
from moe_replay.collect.huggingface.routers import Router
from moe_replay.traces.errors import InputError

TRIED_TOKENS = 16


def check_padding_changes_nothing(
    routers: list[Router], prompts: Sequence[Prompt], run: Callable[[list[Prompt]], torch.Tensor]
) -> None:
    """Refuse a model whose routers see another prompt where padding is in front of it, or behind that in decode.

    `run` generates behind prompts and returns the tokens, prompts included. The half of a prompt runs alone, then
    beside the whole. What changes most router logits by more than rounding does is no chance.
    """
    tokens = max((prompt.token_ids for prompt in prompts), key=len)[:TRIED_TOKENS]
    short, long = Prompt(tokens[: len(tokens) // 2]), Prompt(tokens)
    alone, alone_tokens = logits_of(routers, run, [short])
    beside, beside_tokens = logits_of(routers, run, [short, long])
    own, padding = len(short.token_ids), len(long.token_ids) - len(short.token_ids)
    pairs = [("a prompt", alone[0], beside[0][:, padding : padding + own])]
    if len(alone) > 1 and len(beside) > 1 and alone_tokens[0, own] == beside_tokens[0, own + padding]:
        pairs.append(("what is generated behind one", alone[1], beside[1][:, :1]))
    for what, one_LNE, other_LNE in pairs:
        change = ((one_LNE - other_LNE).norm(dim=2) / one_LNE.norm(dim=2).clamp_min(1e-20)).median().item()
        if not change <= torch.finfo(one_LNE.dtype).eps ** 0.5:
            raise InputError(
                f"padding in front of a prompt changes what this model computes for {what} (router logits by "
                f"{change:.1%}): allowed: --batch 1, or prompts of one length"
            )


def logits_of(
    routers: list[Router], run: Callable[[list[Prompt]], torch.Tensor], prompts: list[Prompt]
) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Return (router logits [L, N, E] of each forward call, the tokens) of a run."""
    seen = []
    handles = [
        router.module.register_forward_hook(
            lambda _, __, output, each=router: seen.append(each.choice(output).logits_NE.detach())
        )
        for router in routers
    ]
    try:
        tokens = run(prompts)
    finally:
        for handle in handles:
            handle.remove()
    calls = range(0, len(seen) - len(routers) + 1, len(routers))
    return [torch.stack(seen[first : first + len(routers)]) for first in calls], tokens
