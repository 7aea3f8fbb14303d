"""What batches of a published shape cost inside the executor's own loop: one layer, as in the middle of a model.

A table of one layer serves models of any number of layers: its dense block is any layer's (norm and router, the
residual stream read from its rows), and experts of all layers are alike.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch

from moe_replay.collect.devices import device_name
from moe_replay.collect.execution.calibration import CalibrationPlan, measure_costs
from moe_replay.collect.real_layers.layer_stack import INPUTS, LayerStack
from moe_replay.collect.real_layers.layer_stack_blocks import LayerStackBlocks, LayerStackCalibration
from moe_replay.simulate.config.workload import Workload, build_workload
from moe_replay.traces.runs.cost_table import ANY_LAYER, CostTable

SIZES = tuple(2**power for power in range(13))  # 1 .. 4,096 tokens
LOOP = "in the executor's loop, wall clock"  # what headers say of how costs were measured
LARGE = 512  # larger sizes are visited once: a visit times every expert twice, and most of it is the queues' own time


class MiddleLayerBlocks(LayerStackBlocks):
    """Blocks of a stack whose first layer does what every later one does: tokens have a residual stream already."""

    def __init__(self, model: LayerStack, input_T: np.ndarray, experts_TLK: np.ndarray) -> None:
        super().__init__(model, input_T, experts_TLK)
        torch.index_select(model.embedding, 0, self.input_T, out=self.residual_TM)

    def dense(self, layer: int, tokens: list[int], rows_N: torch.Tensor) -> torch.Tensor:
        """Norm the residual stream."""
        return self.model.normed(layer, self.residual_TM[rows_N])


class MiddleLayerCalibration(LayerStackCalibration):
    """Builds the calibration runs of a layer in the middle of a model."""

    def __call__(self, experts_TLK: np.ndarray, draws: np.random.Generator) -> tuple[Workload, MiddleLayerBlocks]:
        """Return the workload of these selections and its blocks."""
        tokens, experts = len(experts_TLK), self.model.config.experts
        blocks = MiddleLayerBlocks(self.model, draws.integers(INPUTS, size=tokens), experts_TLK)
        return build_workload(experts_TLK, np.arange(tokens), np.zeros(tokens, np.int64), experts), blocks


def measure_loop(
    model: LayerStack, device: torch.device, plan: CalibrationPlan, seconds: float, about: dict,
    say: Callable[[int], object] = lambda _: None,
) -> CostTable:  # fmt: skip
    """Return the cost table of a stack of one layer; `about` extends its header. `say(size)` is called per visit.

    The first repetition visits all sizes, the others those up to `LARGE`; none begins after so many `seconds`.
    """
    calibration, k, parts = MiddleLayerCalibration(model), model.config.k, []
    deadline = time.monotonic() + seconds
    sizes = plan.sizes
    for repetition in range(plan.repetitions):
        if not sizes or (parts and time.monotonic() > deadline):
            break
        part = measure_costs(calibration, k, CalibrationPlan(sizes, 1, plan.seed + repetition), {}, say=say).columns
        part["repetition"][:] = repetition
        parts.append(part)
        sizes = tuple(size for size in plan.sizes if size <= LARGE)
    header = {"device": device_name(device), "model": model.config.about(), "data": "drawn", **about}
    return CostTable(any_layer({name: np.concatenate([part[name] for part in parts]) for name in parts[0]}), header)


def any_layer(columns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the rows of a stack of one layer as those of any layer; its head, block 0 behind it, is left out.

    What a transfer took (layer -1) stays.
    """
    kept = (columns["layer"] <= 0) | (columns["block"] > 0)
    columns = {name: values[kept] for name, values in columns.items()}
    dense = columns["block"] == 0
    columns["layer"][dense] = ANY_LAYER[0]
    return columns
