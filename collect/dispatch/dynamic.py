"""Dynamic dispatch: rows sorted by expert, every expert runs on exactly the rows it got (Huang et al. 2023, section 4).

No capacity, so nothing is padded and nothing dropped: argsort, bincount, index.
"""

import torch

from collect.experts import Experts


def dynamic_dispatch(
    x_NM: torch.Tensor, weights_NK: torch.Tensor, experts_NK: torch.Tensor, experts: Experts
) -> torch.Tensor:
    """Return the weighted sum over each row's experts [N, O]; an expert id of -1 is an empty slot."""
    flat = experts_NK.flatten()
    order = flat.argsort(stable=True)
    counts = torch.bincount(flat + 1, minlength=len(experts) + 1).tolist()
    if counts[0]:
        order = order[counts[0] :]  # empty slots sort first
    rows, weights = order // experts_NK.shape[1], weights_NK.flatten()[order]
    parts = experts.run_each(x_NM[rows].split(counts[1:]))
    zeros = x_NM.new_zeros(len(x_NM), experts.outputs)
    return zeros.index_add(0, rows, torch.cat(parts) * weights[:, None]) if parts else zeros
