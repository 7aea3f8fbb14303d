"""What the routers of transformers' families return, and how each form is read: FORMS.

A form is a pair of functions of a router's output (a tuple of its parts) and of the router's module and the MoE block
around it: whether the output has this form, and the choice that it says. What has no form here is refused.
"""

from typing import NamedTuple

import torch
from torch import nn

from moe_replay.traces.errors import InputError


class Choice(NamedTuple):
    """What a router decided for N tokens: logits [N, E], weights [N, K], experts int64 [N, K], -1 = dropped.

    `may_drop`: experts have a capacity, so that which tokens they get depends on more than the tokens' own scores.
    `by_batch`: it depends on the other prompts of a batch too.
    """

    logits_NE: torch.Tensor
    weights_NK: torch.Tensor
    experts_NK: torch.Tensor
    may_drop: bool = False
    by_batch: bool = False


def are_tensors(parts: tuple, count: int) -> bool:
    """Whether an output has so many parts, all of them tensors."""
    return len(parts) == count and all(isinstance(each, torch.Tensor) for each in parts)


def is_top_k(parts: tuple, module: nn.Module, block: nn.Module) -> bool:
    """Whether these are (logits [N, E], weights [N, K], indices [N, K]): Mixtral and most others."""
    return are_tensors(parts, 3) and not is_integer(parts[0]) and is_integer(parts[2]) and parts[2].ndim == 2


def top_k(parts: tuple, module: nn.Module, block: nn.Module) -> Choice:
    """Return the choice; routers of several families do not sort it, so it is sorted here, best weight first."""
    logits_NE, weights_NK, experts_NK = parts[:3]
    order_NK = weights_NK.argsort(dim=1, descending=True, stable=True)
    return Choice(logits_NE, weights_NK.gather(1, order_NK), experts_NK.gather(1, order_NK))


def is_with_shared(parts: tuple, module: nn.Module, block: nn.Module) -> bool:
    """Whether these are as of `is_top_k` with the weights of shared experts [N, shared] behind them: Inkling."""
    if not are_tensors(parts, 4) or not is_top_k(parts[:3], module, block):
        return False
    shared = getattr(module, "n_shared_experts", None)
    return not is_integer(parts[3]) and parts[3].shape == (len(parts[0]), shared)


def is_with_skip(parts: tuple, module: nn.Module, block: nn.Module) -> bool:
    """Whether these are as of `is_top_k`, states behind them, with one expert more that skips the layer: Zaya."""
    if not are_tensors(parts, 4) or not is_top_k(parts[:3], module, block) or not hasattr(module, "balancing_biases"):
        return False
    return parts[0].shape[1] == module.num_experts + 1


def with_skip(parts: tuple, module: nn.Module, block: nn.Module) -> Choice:
    """Return the choice in which the expert that skips is the last one, without weights.

    The router returns expert 0 at weight 0 in its place: transformers computes that, and it adds nothing.
    """
    logits_NE, given_NK, experts_NK = parts[:3]
    scores_NE = logits_NE.softmax(1)
    chosen_NK = (scores_NE.float() + module.balancing_biases).topk(experts_NK.shape[1], dim=1).indices
    experts_NK = torch.where((given_NK == 0) & (chosen_NK == module.num_experts), module.num_experts, experts_NK)
    return top_k((logits_NE, scores_NE.gather(1, experts_NK), experts_NK), module, block)


def is_scattered(parts: tuple, module: nn.Module, block: nn.Module) -> bool:
    """Whether these are (scores [N, E], 0 outside the choice, logits [N, E]): Llama 4."""
    return are_tensors(parts, 2) and parts[0].shape == parts[1].shape and parts[0].ndim == 2


def scattered(parts: tuple, module: nn.Module, block: nn.Module) -> Choice:
    """Return the choice out of scores that are 0 for the experts not chosen."""
    scores_NE, logits_NE = parts
    weights_NK, experts_NK = scores_NE.topk(module.top_k, dim=1)
    return Choice(logits_NE, weights_NK, experts_NK)


def is_one_hot(parts: tuple, module: nn.Module, block: nn.Module) -> bool:
    """Whether these are (one-hot [B, S, E] after capacity, probability [B, S, 1], logits [B, S, E]): Switch."""
    if not are_tensors(parts, 3) or not is_integer(parts[0]) or parts[0].shape != parts[2].shape:
        return False
    return parts[1].shape == (*parts[0].shape[:-1], 1)


def one_hot(parts: tuple, module: nn.Module, block: nn.Module) -> Choice:
    """Return the choice; a token beyond an expert's capacity has a row of zeros and gets no expert."""
    hot_NE, weights_N1, logits_NE = (each.flatten(0, -2) for each in parts)
    dropped_N1 = hot_NE.sum(1, keepdim=True) == 0
    experts_N1 = hot_NE.argmax(1, keepdim=True).masked_fill(dropped_N1, -1)
    return Choice(logits_NE, weights_N1.masked_fill(dropped_N1, 0), experts_N1, may_drop=True)


def is_two_gates(parts: tuple, module: nn.Module, block: nn.Module) -> bool:
    """Whether these are (the better expert's mask [N, E], gates [N, E] of at most two, logits [N, E]): NLLB-MoE."""
    if not are_tensors(parts, 3) or not is_integer(parts[0]) or parts[0].ndim != 2:
        return False
    return parts[0].shape == parts[1].shape == parts[2].shape and not is_integer(parts[1])


def two_gates(parts: tuple, module: nn.Module, block: nn.Module) -> Choice:
    """Return the experts whose gates are not 0: what is beyond a capacity, or drawn not to run, is none."""
    policy = getattr(module, "second_expert_policy", "all")
    if policy == "sampling":
        raise InputError("second_expert_policy sampling puts noise on the logits it returns; allowed: all, random")
    weights_N2, experts_N2 = parts[1].topk(2, dim=1)
    by_batch = policy == "random" or not getattr(module, "moe_eval_capacity_token_fraction", 0) >= 1
    return Choice(parts[2], weights_N2, experts_N2.masked_fill(weights_N2 == 0, -1), may_drop=True, by_batch=by_batch)


def is_sorted(parts: tuple, module: nn.Module, block: nn.Module) -> bool:
    """Whether these are (place, token, weight, all [N x K] by expert, sizes of E, logits [N, E]): JetMoE."""
    if len(parts) != 5 or not isinstance(parts[3], list) or not are_tensors((*parts[:3], parts[4]), 4):
        return False
    return parts[4].ndim == 2 and len(parts[3]) == parts[4].shape[1] and len(parts[0]) == sum(parts[3])


def by_expert(parts: tuple, module: nn.Module, block: nn.Module) -> Choice:
    """Return the choice out of selections that are sorted by expert."""
    place_X, _, weight_X, sizes_E, logits_NE = parts
    expert_X = torch.arange(len(sizes_E)).repeat_interleave(torch.tensor(sizes_E)).to(place_X.device)
    weights_X, experts_X = torch.empty_like(weight_X), torch.empty_like(place_X)
    weights_X[place_X], experts_X[place_X] = weight_X, expert_X
    return top_k((logits_NE, weights_X.view(len(logits_NE), -1), experts_X.view(len(logits_NE), -1)), module, block)


def is_logits(parts: tuple, module: nn.Module, block: nn.Module) -> bool:
    """Whether these are logits [N, E] alone, of which the block itself makes the choice: DBRX."""
    return are_tensors(parts, 1) and parts[0].ndim == 2 and hasattr(block, "route_tokens_to_experts")


def chosen_by_block(parts: tuple, module: nn.Module, block: nn.Module) -> Choice:
    """Return the choice that the block makes of the logits: its own function, called with them once more.

    In a type narrower than float32 it ranks by rounded probabilities, among which several are alike: these are its
    scores, since the logits would rank otherwise.
    """
    weights_NK, experts_NK = block.route_tokens_to_experts(parts[0])
    if is_integer(weights_NK) or not is_integer(experts_NK):
        raise InputError(f"{type(block).__name__} makes a choice of its router's logits in a form that is not known")
    logits_NE = parts[0] if parts[0].dtype == torch.float32 else as_logits(parts[0].softmax(1))
    return top_k((logits_NE, weights_NK, experts_NK), module, block)


def as_logits(probabilities_NE: torch.Tensor) -> torch.Tensor:
    """Return logits whose softmax these probabilities are."""
    return probabilities_NE.float().clamp_min(torch.finfo(torch.float32).tiny).log()


FORMS = (
    (is_one_hot, one_hot),
    (is_top_k, top_k),
    (is_with_skip, with_skip),
    (is_with_shared, top_k),
    (is_scattered, scattered),
    (is_two_gates, two_gates),
    (is_sorted, by_expert),
    (is_logits, chosen_by_block),
)


def is_integer(tensor: torch.Tensor) -> bool:
    """Whether a tensor holds whole numbers."""
    return not (tensor.is_floating_point() or tensor.is_complex())
