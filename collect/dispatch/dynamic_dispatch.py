"""Dynamic dispatch: rows sorted by expert, every expert runs on exactly the rows it got (Huang et al. 2023, section 4).

No capacity, so nothing is padded and nothing dropped: argsort, bincount, index. Two forms of it give the same sums in
the same order: `gathered_dispatch` reorders all rows at once, as the paper does, whose experts lie on several devices;
expert by expert only one expert's rows are copied at a time, which costs less memory and needs no gradient.
"""

import torch

from moe_replay.collect.models.experts import Experts


def dynamic_dispatch(
    x_NM: torch.Tensor, weights_NK: torch.Tensor, experts_NK: torch.Tensor, experts: Experts
) -> torch.Tensor:
    """Return the weighted sum over each row's experts [N, O]; an expert id of -1 is an empty slot.

    Expert by expert where no gradient is asked for, else gathered.
    """
    if torch.is_grad_enabled():
        return gathered_dispatch(x_NM, weights_NK, experts_NK, experts)
    rows, weights, counts = by_expert(weights_NK, experts_NK, len(experts))
    output_NO = x_NM.new_zeros(len(x_NM), experts.outputs)
    for run, own, own_weights in zip(experts.runners(), rows.split(counts), weights.split(counts), strict=True):
        if len(own):
            part = run(x_NM.index_select(0, own)).mul_(own_weights[:, None])
            output_NO.index_add_(0, own, part)
            del part  # or it would live on beside the next expert's rows
    return output_NO


def gathered_dispatch(
    x_NM: torch.Tensor, weights_NK: torch.Tensor, experts_NK: torch.Tensor, experts: Experts
) -> torch.Tensor:
    """Return the same as `dynamic_dispatch`, with all rows in the experts' order before the first expert runs."""
    rows, weights, counts = by_expert(weights_NK, experts_NK, len(experts))
    output_NO = x_NM.new_zeros(len(x_NM), experts.outputs)
    if not len(rows):
        return output_NO
    outputs_XO = torch.cat(experts.run_each(x_NM[rows].split(counts)))
    return output_NO.index_add_(0, rows, outputs_XO * weights[:, None])


def by_expert(
    weights_NK: torch.Tensor, experts_NK: torch.Tensor, experts: int
) -> tuple[torch.Tensor, torch.Tensor, list[int]]:
    """Return (token, weight) of every selection in the experts' order, and the number of selections of each expert."""
    flat = experts_NK.flatten()
    order = flat.argsort(stable=True)
    empty, *counts = torch.bincount(flat + 1, minlength=experts + 1).tolist()
    order = order[empty:]  # empty slots sort first
    return order // experts_NK.shape[1], weights_NK.flatten()[order], counts
