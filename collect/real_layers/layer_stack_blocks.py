"""A layer stack of a published shape cut into blocks, driven by a recorded trace or by calibration runs."""

from __future__ import annotations

import numpy as np
import torch

from moe_replay.collect.execution.blocks import Blocks
from moe_replay.collect.execution.executor import TraceOnWeights
from moe_replay.collect.real_layers.layer_stack import INPUTS, OUTPUTS, LayerStack
from moe_replay.simulate.config.run_config import RunConfig
from moe_replay.simulate.config.workload import Workload, build_workload
from moe_replay.traces.errors import InputError
from moe_replay.traces.selections import Trace

AT_ONCE = 4096  # rows of the plain forward pass that outputs are compared with


class LayerStackBlocks(Blocks):
    """Blocks of a layer stack. `input_T`: the row of the embedding that every token of the run takes.

    The router's choice is nobody's: it never saw the trace, so `disagreements` say nothing and are not counted.
    """

    def __init__(
        self, model: LayerStack, input_T: np.ndarray, experts_TLK: np.ndarray, renormalised: bool = True
    ) -> None:
        device = model.embedding.device
        super().__init__(model, OUTPUTS, experts_TLK, renormalised, device, model.config.dtype)
        self.input_T = torch.from_numpy(input_T.astype(np.int64)).to(device)
        self.counts_disagreements = False

    def dense(self, layer: int, tokens: list[int], rows_N: torch.Tensor) -> torch.Tensor:
        """Embed (before the first layer) and norm."""
        if layer == 0:
            x_NM = self.model.embedding.index_select(0, self.input_T.index_select(0, rows_N))
            self.residual_TM.index_copy_(0, rows_N, x_NM)
        else:
            x_NM = self.residual_TM.index_select(0, rows_N)
        return self.model.normed(layer, x_NM)

    def finish(self, tokens: list[int], rows_N: torch.Tensor) -> torch.Tensor:
        """Return the outputs of the head."""
        return self.model.finish(self.residual_TM.index_select(0, rows_N))


class LayerStackOnWeights(TraceOnWeights):
    """Any trace with as many layers and experts as a layer stack: its selections run on weights of that shape.

    InputError where layers or experts differ.
    """

    tolerance = 2e-2  # of bfloat16 products, whose last bits depend on the batch

    def __init__(self, model: LayerStack, trace: Trace) -> None:
        found, allowed = (trace.L, trace.E), (model.config.layers, model.config.experts)
        if found != allowed:
            raise InputError(f"the trace has (layers, experts) {found}, allowed {allowed}, those of the layer shape")
        super().__init__(model, trace)
        source_T = trace.token_id_T if trace.token_id_T is not None else np.arange(trace.T)
        self.input_T = source_T.astype(np.int64) % INPUTS

    def new_blocks(self, workload: Workload, config: RunConfig) -> LayerStackBlocks:
        """Return the blocks of one run."""
        row_N = workload.row_N
        return LayerStackBlocks(self.model, self.input_T[row_N], workload.experts_TLK[row_N], self.renormalised)

    def expected(self, workload: Workload, experts_TLK: np.ndarray) -> torch.Tensor:
        """Return the outputs [T, C] of the plain forward pass of a run's tokens under given selections."""
        device = self.model.embedding.device
        input_T = torch.from_numpy(self.input_T[workload.row_N]).to(device)
        experts_TLK = torch.from_numpy(experts_TLK.astype(np.int64)).to(device)
        parts = zip(input_T.split(AT_ONCE), experts_TLK.split(AT_ONCE), strict=True)
        return torch.cat([self.model(*part, self.renormalised) for part in parts])

    def quality(self, workload: Workload, logits_TC: torch.Tensor) -> dict[str, float]:
        """Return nothing: random weights are good at nothing."""
        return {}


class LayerStackCalibration:
    """Builds the calibration runs of a layer stack: every pass is one token, its input drawn."""

    def __init__(self, model: LayerStack) -> None:
        self.model = model

    def __call__(self, experts_TLK: np.ndarray, draws: np.random.Generator) -> tuple[Workload, LayerStackBlocks]:
        """Return the workload of these selections and its blocks."""
        tokens = len(experts_TLK)
        blocks = LayerStackBlocks(self.model, draws.integers(INPUTS, size=tokens), experts_TLK)
        order, experts = np.arange(tokens), self.model.config.experts
        return build_workload(experts_TLK, order, np.zeros(tokens, np.int64), experts), blocks
