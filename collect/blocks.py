"""A classifier cut into the blocks that queues feed: each call runs one block on one batch of tokens.

The state of every token of a run lies in buffers on the device, one row per token: the residual stream, the normed
input of the layer it is in, and the gate weights of that layer. Expert batches add their share to the residual
stream in whatever order the queues produce, so results equal the plain forward pass up to float rounding.
"""

import numpy as np
import torch

from collect.classifier import Classifier
from collect.devices import synchronise
from collect.dispatch.dynamic import dynamic_dispatch
from collect.gates.selection import recorded_weights
from traces.errors import InputError


class ClassifierBlocks:
    """Blocks of a trained classifier over the tokens of one run.

    `images_TF`: uint8 [T, F] on the device, the input of each token. `experts_TLK`: the recorded selections to replay.
    The gate runs for real on every token and gives the weights; *which* experts run is read from the trace, because
    the last bits of a matrix product depend on the batch it stands in, and one choice that flips on a near-tie would
    send execution and simulation down different paths. `disagreements` counts such flips. -1 marks an empty slot;
    `renormalised`: the weights of a token's experts sum to one.
    """

    def __init__(
        self, model: Classifier, images_TF: torch.Tensor, experts_TLK: np.ndarray, renormalised: bool = True
    ) -> None:
        if model.config.width is None:
            raise InputError("execute: needs a residual model (base, wide); the one-layer configuration has no blocks")
        tokens, layers, _ = experts_TLK.shape
        if layers != model.config.layers:
            raise InputError(f"execute: the trace has {layers} layers, the model {model.config.layers}")
        device = images_TF.device
        self.model, self.device, self.images_TF, self.renormalised = model.eval(), device, images_TF, renormalised
        self.experts_LTK = torch.from_numpy(experts_TLK.astype(np.int64)).to(device).transpose(0, 1).contiguous()
        width = model.config.width
        # Written once here, so that no page of the buffers is touched for the first time inside a measured batch.
        self.residual_TM = torch.full((tokens, width), torch.nan, device=device)
        self.normed_TM = torch.full((tokens, width), torch.nan, device=device)
        self.weights_TE = torch.zeros((tokens, model.config.experts + 1), device=device)  # last column: empty slots
        self.logits_TC = torch.full((tokens, model.classes), torch.nan, device=device)
        self.differing = torch.zeros((), dtype=torch.int64, device=device)

    @property
    def disagreements(self) -> int:
        """Selections in which the live gate would have chosen otherwise than the trace."""
        return int(self.differing)

    def warm_up(self) -> None:
        """Run every block once on the first token: libraries load their kernels now. The run overwrites its state."""
        config = self.model.config
        for layer in range(config.layers + 1):
            for block in range(config.experts + 1 if layer < config.layers else 1):
                self.run(layer, block, [0])
        self.logits_TC.fill_(torch.nan)
        self.differing.zero_()

    @torch.inference_mode()
    def run(self, layer: int, block: int, tokens: list[int]) -> None:
        """Run block `block` of `layer` on a batch of tokens and wait until the device is done."""
        rows = torch.tensor(tokens, device=self.device)
        if block > 0:
            self.run_expert(layer, block - 1, rows)
        elif layer < self.model.config.layers:
            self.run_gate(layer, rows)
        else:
            self.logits_TC[rows] = self.model.finish(self.residual_TM[rows])
        synchronise(self.device)

    def run_gate(self, layer: int, rows_N: torch.Tensor) -> None:
        """Embed (before the first layer), norm, and weigh the recorded experts."""
        if layer == 0:
            x_NM = self.model.embed(self.images_TF[rows_N])
            self.residual_TM[rows_N] = x_NM
        else:
            x_NM = self.residual_TM[rows_N]
        normed_NM = self.model.norms[layer](x_NM)
        self.normed_TM[rows_N] = normed_NM
        logits_NE = self.model.gates[layer].logits(normed_NM)
        recorded_NK = self.experts_LTK[layer][rows_N]
        weights_NK = recorded_weights(logits_NE, recorded_NK, self.renormalised)
        weights_NE = logits_NE.new_zeros(len(rows_N), self.weights_TE.shape[1])
        self.weights_TE[rows_N] = weights_NE.scatter_(1, recorded_NK % weights_NE.shape[1], weights_NK)
        self.differing += (outside_the_best(logits_NE, recorded_NK)).sum()

    def run_expert(self, layer: int, expert: int, rows_N: torch.Tensor) -> None:
        """Add one expert's weighted output to the residual stream of its tokens."""
        output_NM = self.model.experts[layer].run(expert, self.normed_TM.index_select(0, rows_N))
        output_NM *= self.weights_TE[rows_N, expert].unsqueeze(1)
        self.residual_TM.index_add_(0, rows_N, output_NM)


def outside_the_best(logits_NE: torch.Tensor, recorded_NK: torch.Tensor) -> torch.Tensor:
    """Return a flag per slot [N, K]: the recorded expert is not among the row's best, as many as were recorded."""
    filled_NK = recorded_NK >= 0
    ranked_NK = logits_NE.topk(recorded_NK.shape[1], dim=1).indices
    best_NK = torch.where(filled_NK, ranked_NK, -1)
    found_NK = (recorded_NK[:, :, None] == best_NK[:, None, :]).any(2)
    return filled_NK & ~found_NK


@torch.inference_mode()
def plain_forward(
    model: Classifier, images_TF: torch.Tensor, experts_TLK: np.ndarray, renormalised: bool = True, batch: int = 500
) -> torch.Tensor:
    """Return the class logits [T, classes] of the plain forward pass under recorded selections, batch by batch."""
    experts_TLK = torch.from_numpy(experts_TLK.astype(np.int64)).to(images_TF.device)
    logits = []
    for images_NF, experts_NLK in zip(images_TF.split(batch), experts_TLK.split(batch), strict=True):
        x_NM = model.embed(images_NF)
        for layer, (norm, gate, experts) in enumerate(zip(model.norms, model.gates, model.experts, strict=True)):
            h_NM, chosen_NK = norm(x_NM), experts_NLK[:, layer]
            weights_NK = recorded_weights(gate.logits(h_NM), chosen_NK, renormalised)
            x_NM = model.combine(x_NM, dynamic_dispatch(h_NM, weights_NK, chosen_NK, experts))
        logits.append(model.finish(x_NM))
    return torch.cat(logits)
