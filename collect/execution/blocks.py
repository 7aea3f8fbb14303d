"""A model cut into the blocks that queues feed: each call runs one block on one batch of tokens.

The state of every token of a run lies in buffers on the device, one row per token: the residual stream, the normed
input of the layer it is in, and the gate weights of that layer. Expert batches add their share to the residual
stream in whatever order the queues produce, so results equal the plain forward pass up to float rounding.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import nn

from moe_replay.collect.gates.gate_result import recorded_weights
from moe_replay.traces.errors import InputError

Source = Callable[[int, int, torch.Tensor], torch.Tensor]  # (layer, expert, inputs [N, M]) -> outputs [N, O]


class Blocks:
    """Blocks of a trained model over the tokens of one run; a subclass knows what lies between the experts.

    `experts_TLK`: the recorded selections to replay, -1 marks an empty slot. The gate runs for real on every token and
    gives the weights; *which* experts run is read from the trace, because the last bits of a matrix product depend on
    the batch it is in, and one choice that flips on a near-tie would send execution and simulation down different
    paths. `disagreements` counts such flips. `renormalised`: the weights of a token's experts sum to one. `outputs`:
    the classes, or the bytes that may come next. `source` runs an expert: the model's own weights, until someone sets
    another. `dtype`: that of the experts' weights and inputs; the residual stream and the gate are float32.
    `counts_disagreements` False: the gate is not the one that the trace was recorded from.
    """

    def __init__(
        self, model: nn.Module, outputs: int, experts_TLK: np.ndarray, renormalised: bool, device: torch.device,
        dtype: torch.dtype = torch.float32,
    ) -> None:  # fmt: skip
        tokens, layers, _ = experts_TLK.shape
        config = model.config
        if layers != config.layers:
            raise InputError(f"execute: the trace has {layers} layers, the model {config.layers}")
        self.model, self.device, self.renormalised = model.eval(), device, renormalised
        self.experts_LTK = torch.from_numpy(experts_TLK.astype(np.int64)).to(device).transpose(0, 1).contiguous()
        runners_LE = [experts.runners() for experts in model.experts]  # a look-up takes as long as a launch
        self.source: Source = lambda layer, expert, x_NM: runners_LE[layer][expert](x_NM)
        self.whole = bool((experts_TLK >= 0).all())  # no empty slots
        # Written once here, so that no page of the buffers is touched for the first time inside a measured batch.
        self.residual_TM = torch.full((tokens, config.width), torch.nan, device=device)
        self.normed_TM = torch.full((tokens, config.width), torch.nan, dtype=dtype, device=device)
        self.weights_TE = torch.zeros((tokens, config.experts + 1), device=device)  # last column: empty slots
        self.logits_TC = torch.full((tokens, outputs), torch.nan, device=device)
        self.differing = torch.zeros((), dtype=torch.int64, device=device)
        self.masked, self.counts_disagreements = False, True
        self.on_gpu = device.type == "cuda"
        self.stream = torch.cuda.current_stream(device) if self.on_gpu else None
        if self.on_gpu:  # pinned, so that an index is on its way while kernels are launched
            self.staged_N = torch.empty(tokens, dtype=torch.int64, pin_memory=True)
            self.staged, self.index_N = self.staged_N.numpy(), torch.empty(tokens, dtype=torch.int64, device=device)
        self.ran_TLK = np.full(experts_TLK.shape, -1, np.int16)

    def dense(self, layer: int, tokens: list[int], rows_N: torch.Tensor) -> torch.Tensor:
        """Bring the residual stream of tokens up to a layer's experts; return their normed inputs [N, M]."""
        raise NotImplementedError

    def finish(self, tokens: list[int], rows_N: torch.Tensor) -> torch.Tensor:
        """Return the outputs [N, C] of tokens that have passed all layers."""
        raise NotImplementedError

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
    def run(self, layer: int, block: int, tokens: list[int], routed: Sequence[Sequence[int]] = ()) -> None:
        """Run a block on a batch of tokens and wait until the device is done."""
        self.launch(layer, block, tokens, routed)
        self.wait()

    def launch(self, layer: int, block: int, tokens: list[int], routed: Sequence[Sequence[int]] = ()) -> None:
        """Give the device block `block` of `layer` for a batch of tokens: on a CPU it is done then, on a GPU it runs.

        The batch before has to be done. Call it in inference mode. `routed`, under masked gating: all experts that each
        token of an expert's batch runs in this layer.
        """
        rows_N = self.rows(tokens)
        if block > 0:
            self.run_expert(layer, block - 1, rows_N, self.share(layer, tokens, rows_N, routed) if routed else None)
        elif layer < self.model.config.layers:
            self.run_gate(layer, tokens, rows_N)
        else:
            self.logits_TC.index_copy_(0, rows_N, self.finish(tokens, rows_N))

    def rows(self, tokens: list[int]) -> torch.Tensor:
        """Return a batch's tokens as an index on the device."""
        if not self.on_gpu:
            return torch.from_numpy(np.array(tokens, np.int64))
        count = len(tokens)
        self.staged[:count] = tokens
        return self.index_N[:count].copy_(self.staged_N[:count], non_blocking=True)

    def wait(self) -> None:
        """Wait until the device is done with what was launched, not with copies that other streams carry."""
        if self.on_gpu:
            self.stream.synchronize()

    def run_gate(self, layer: int, tokens: list[int], rows_N: torch.Tensor) -> None:
        """Run what lies before a layer's experts, and weigh the recorded ones; under masked gating, all of them."""
        normed_NM = self.dense(layer, tokens, rows_N)
        self.normed_TM.index_copy_(0, rows_N, normed_NM)
        logits_NE = self.model.gates[layer].logits(normed_NM)
        recorded_NK = self.experts_LTK[layer].index_select(0, rows_N)
        if self.masked:
            self.weights_TE[rows_N, :-1] = logits_NE.softmax(1)
        else:
            if self.whole and self.renormalised:  # as below, in fewer kernels
                weights_NK = logits_NE.gather(1, recorded_NK).softmax(1)
            else:
                weights_NK = recorded_weights(logits_NE, recorded_NK, self.renormalised)
            weights_NE = logits_NE.new_zeros(len(rows_N), self.weights_TE.shape[1])
            weights_NE.scatter_(1, recorded_NK % weights_NE.shape[1], weights_NK)
            self.weights_TE.index_copy_(0, rows_N, weights_NE)
        if self.counts_disagreements:
            self.differing += (outside_the_best(logits_NE, recorded_NK)).sum()

    def share(
        self, layer: int, tokens: list[int], rows_N: torch.Tensor, routed: Sequence[Sequence[int]]
    ) -> torch.Tensor | None:
        """Note what tokens run under masked gating; return the gate mass [N] of that, by which weights are divided."""
        width = self.ran_TLK.shape[2]
        ran_NK = np.array([[*experts, *[-1] * (width - len(experts))] for experts in routed])
        self.ran_TLK[tokens, layer] = ran_NK
        if not self.renormalised:
            return None
        return (
            self.weights_TE[rows_N]
            .gather(1, torch.from_numpy(ran_NK % self.weights_TE.shape[1]).to(self.device))
            .sum(1)
        )

    def run_expert(self, layer: int, expert: int, rows_N: torch.Tensor, mass_N: torch.Tensor | None) -> None:
        """Add one expert's weighted output to the residual stream of its tokens."""
        output_NM = self.source(layer, expert, self.normed_TM.index_select(0, rows_N))
        weights_N = self.weights_TE.select(1, expert).index_select(0, rows_N)
        weights_N1 = (weights_N if mass_N is None else weights_N / mass_N).unsqueeze(1)
        self.residual_TM.index_add_(0, rows_N, output_NM * weights_N1)  # float32, whatever the experts' type


def outside_the_best(logits_NE: torch.Tensor, recorded_NK: torch.Tensor) -> torch.Tensor:
    """Return a flag per slot [N, K]: the recorded expert is not among the row's best, as many as were recorded."""
    filled_NK = recorded_NK >= 0
    ranked_NK = logits_NE.topk(recorded_NK.shape[1], dim=1).indices
    best_NK = torch.where(filled_NK, ranked_NK, -1)
    found_NK = (recorded_NK[:, :, None] == best_NK[:, None, :]).any(2)
    return filled_NK & ~found_NK
