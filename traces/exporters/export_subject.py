"""What an exporter is given: the recorded selections or counts, and a placement where one is wanted."""

from dataclasses import dataclass

import numpy as np

from moe_replay.traces.command_line.memory_room import check_room
from moe_replay.traces.describe import load_LE
from moe_replay.traces.errors import InputError
from moe_replay.traces.header import ModelInfo
from moe_replay.traces.load_trace import LoadTrace
from moe_replay.traces.placements.expert_placement import ExpertPlacement
from moe_replay.traces.selections import Trace

TOKENS = "tokens, their order and scores"
ITERATIONS, RANKS, MICROBATCHES = "iterations", "ranks", "microbatches"
RANK_NUMBERS = "the ranks' own numbers"
ZERO = "selections of experts without weights"
HEADER = "the header (--model)"
LAYERS = "the layers' own numbers (--layers)"
K = "experts per token (--k)"
DEVICES, NODES = "how many devices (--devices)", "how many nodes (--nodes)"


@dataclass(frozen=True)
class Subject:
    """A trace or a load trace, and the placement to export in its stead; they must be of the same layers and experts.

    `hidden_layers` is the number of all layers of the model, dense ones too; None: the last MoE layer is the last.
    """

    recorded: Trace | LoadTrace
    placement: ExpertPlacement | None = None
    hidden_layers: int | None = None

    def __post_init__(self) -> None:
        lowest = self.model.layer_ids[-1] + 1
        if self.hidden_layers is not None and self.hidden_layers < lowest:
            raise InputError(f"--hidden-layers {self.hidden_layers}: allowed {lowest} and more, MoE layers included")
        check_room("--hidden-layers", self.all_layers, 16 * self.model.experts)
        placed = self.placement
        if placed is not None and (placed.layer_ids, placed.experts) != (self.model.layer_ids, self.model.real_experts):
            raise InputError(
                f"the placement is of {placed.experts} experts in layers {list(placed.layer_ids)}, "
                f"the trace of {self.model.real_experts} in {list(self.model.layer_ids)}: allowed equal ones"
            )
        if placed is not None and placed.empty_slots:
            raise InputError(f"the placement has {placed.empty_slots} empty slots, allowed none in other programs")

    @property
    def model(self) -> ModelInfo:
        """The recorded model."""
        return self.recorded.model if isinstance(self.recorded, LoadTrace) else self.recorded.header.model

    @property
    def all_layers(self) -> int:
        """The number of layers, dense ones too."""
        return self.hidden_layers or self.model.layer_ids[-1] + 1

    @property
    def load_RSLE(self) -> np.ndarray:
        """Selections per rank, iteration, layer and expert with weights; a trace of tokens is one rank and iteration.

        Of a trace only the experts that the model uses count, not the candidates recorded behind them.
        """
        if isinstance(self.recorded, LoadTrace):
            return self.recorded.load_SRMLE.sum(2).transpose(1, 0, 2, 3)[..., : self.model.real_experts]
        return load_LE(self.recorded, min(self.model.used_k, self.recorded.K))[None, None]

    @property
    def load_LE(self) -> np.ndarray:
        """Selections per layer and expert in all."""
        return self.load_RSLE.sum((0, 1))

    @property
    def iterations(self) -> list[int]:
        """The source's numbers of the iterations."""
        return self.recorded.iteration_S.tolist() if isinstance(self.recorded, LoadTrace) else [0]

    @property
    def facts(self) -> list[str]:
        """What there is to lose, in the words that are printed: each kind keeps some of it."""
        if (placed := self.placement) is not None:
            return [HEADER, LAYERS, DEVICES, *([NODES] if placed.nodes > 1 else [])]
        found = [HEADER, LAYERS, K]
        if isinstance(self.recorded, Trace):
            return [TOKENS, *found, *([ZERO] if self.model.zero_experts else [])]
        loads = self.recorded
        iterations, ranks, microbatches = loads.load_SRMLE.shape[:3]
        held = {
            ITERATIONS: iterations > 1 or loads.iteration_S[0] != 0, RANKS: ranks > 1, MICROBATCHES: microbatches > 1,
            RANK_NUMBERS: not np.array_equal(loads.rank_R, np.arange(ranks)), ZERO: self.model.zero_experts > 0,
        }  # fmt: skip
        return [word for word, there in held.items() if there] + found

    def in_all_layers(self, values_LX: np.ndarray, dense_X: np.ndarray | int) -> np.ndarray:
        """Return the MoE layers' rows at their own numbers among all layers, `dense_X` in the dense ones."""
        table = np.empty((self.all_layers, values_LX.shape[1]), values_LX.dtype)
        table[:] = dense_X
        table[list(self.model.layer_ids)] = values_LX
        return table
