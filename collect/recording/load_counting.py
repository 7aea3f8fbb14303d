"""Counting how many tokens of a training step select each expert: a `LoadTrace` of load over training.

The counts go into the training's checkpoint, so that a training that was cut off loses none of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from moe_replay.collect.gates.gate_result import Selection
from moe_replay.traces.command_line.provenance import provenance
from moe_replay.traces.errors import InputError
from moe_replay.traces.header import ModelInfo
from moe_replay.traces.load_trace import LoadTrace


class LoadCounter:
    """Counts the selections of every expert in the first training step and every `every`-th after it.

    `watch` hooks the gates of the MoE layers; `before_step(step)` says which step (from 0) comes. Two passes of a step
    count together, evaluations between steps do not count. `load_SLE` are the counts so far (int64, S counted steps).
    """

    def __init__(self, every: int) -> None:
        self.every, self.steps, self.counts = every, [], []
        self.layers = self.experts = 0
        self.counting = False

    def watch(self, gates: Sequence[nn.Module]) -> None:
        """Count what these gates select, one of each MoE layer; a counter watches one model."""
        self.layers, self.experts = len(gates), gates[0].router.shape[1]
        for layer, gate in enumerate(gates):
            gate.register_forward_hook(lambda gate, _, chosen, layer=layer: self.count(gate, layer, chosen))

    def before_step(self, step: int) -> None:
        """Say that a step begins; steps ascend, and one that is not counted ends the counting of the last."""
        self.counting = step % self.every == 0
        if self.counting:
            self.steps.append(step)
            self.counts.append(torch.zeros(self.layers, self.experts, dtype=torch.int64))

    def count(self, gate: nn.Module, layer: int, chosen: Selection) -> None:
        """Add the experts that a gate selected in training; -1 marks an empty slot, which counts for nobody."""
        if self.counting and gate.training:
            counted_E = torch.bincount(chosen.experts_NK.flatten() + 1, minlength=self.experts + 1)[1:]
            self.counts[-1][layer] += counted_E.cpu()

    @property
    def load_SLE(self) -> np.ndarray:
        """The counts so far."""
        return torch.stack(self.counts).numpy()

    def state(self) -> dict:
        """Return what a checkpoint keeps of the counts."""
        return {"every": self.every, "steps": self.steps, "counts": torch.stack(self.counts)}

    def resume(self, state: dict | None, checkpoint: Path) -> None:
        """Take up the counts in a checkpoint; InputError where it has none, or of other steps."""
        if state is None:
            raise InputError(f"{checkpoint}: was begun without counting loads; allowed: a checkpoint that counts")
        if state["every"] != self.every:
            found = f"counts loads every {state['every']} steps, not every {self.every}"
            raise InputError(f"{checkpoint}: {found}; allowed: {state['every']}, or another checkpoint")
        self.steps, self.counts = list(state["steps"]), list(state["counts"])


def load_trace_of(counter: LoadCounter, model: ModelInfo, data: dict, notes: dict, seed: int) -> LoadTrace:
    """Return the counts as a load trace of one rank and microbatch; iterations are numbered from 1.

    `data` are name, digest and note of what was trained on; `notes` say which training it was.
    """
    return LoadTrace(
        model=model, data=data, load_SRMLE=counter.load_SLE[:, None, None],
        iteration_S=np.array(counter.steps, dtype=np.int64) + 1, rank_R=np.zeros(1, dtype=np.int32),
        provenance=provenance(seed), notes={"counted": f"every {counter.every} steps of training", **notes},
    )  # fmt: skip
