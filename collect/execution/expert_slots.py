"""Expert slots on the device: the only weights of experts that an execution with expert memory computes with."""

from __future__ import annotations

from itertools import accumulate

import torch

from moe_replay.collect.execution.slow_tier import Copier, Pace, packed_once
from moe_replay.collect.models.experts import Experts
from moe_replay.simulate.policies.memory.expert_memory import ExpertMemory
from moe_replay.simulate.policies.memory.host_link import Transfer


class ExpertSlots:
    """C slots, and one more for experts that the policy declines, of every cache; `copier` fills them.

    Every slot is one row of floats with views of an expert's four tensors. `where` maps the key of an expert that is
    whole in a slot to its row: to run one that is not is an error, never a computation with what lies there.
    """

    def __init__(self, experts_L: list[Experts], memory: ExpertMemory, device: torch.device, pace: Pace | None) -> None:
        self.experts, self.compute = len(experts_L[0]), experts_L[0].compute
        on_gpu = device.type == "cuda"
        self.source_KF = packed_once(experts_L, pinned=on_gpu)
        sizes_C = [cache.slots + 1 for cache in memory.caches_DC[0]]
        self.first_row_C = [0, *accumulate(sizes_C)][:-1]
        self.rows_SF = torch.full(
            (sum(sizes_C), self.source_KF.shape[1]),
            torch.nan,
            dtype=self.source_KF.dtype,
            device=device,
        )
        shapes = [stack.shape[1:] for stack in experts_L[0].stacks]
        self.views_S = [views(row, shapes) for row in self.rows_SF]
        self.where: dict[int, int] = {}
        self.copier = Copier(self.source_KF, self.rows_SF, None if on_gpu else pace)
        self.fill(memory)

    @property
    def expert_bytes(self) -> int:
        """Bytes of one expert."""
        return self.source_KF.shape[1] * self.source_KF.element_size()

    @property
    def device_bytes(self) -> int:
        """Bytes of all slots on the device."""
        return self.rows_SF.nbytes

    def fill(self, memory: ExpertMemory) -> None:
        """Copy what the caches hold before the run."""
        for index, cache in enumerate(memory.caches_DC[0]):
            for key, slot in cache.slot_of.items():
                row = self.first_row_C[index] + slot
                self.rows_SF[row].copy_(self.source_KF[key])
                self.where[key] = row

    def begin(self, transfer: Transfer) -> None:
        """Let a copy begin as soon as those before it are done; what was in its slot may not run from now on."""
        row = self.row_of(transfer)
        for key in [key for key, held in self.where.items() if held == row]:
            del self.where[key]
        self.copier.copy(transfer, row)

    def arrived(self, transfer: Transfer) -> None:
        """Note that an expert is whole."""
        self.where[transfer.key] = self.row_of(transfer)

    def row_of(self, transfer: Transfer) -> int:
        """Return the row of a transfer's slot: caches follow one another."""
        index = transfer.key // self.experts % len(self.first_row_C)
        return self.first_row_C[index] + transfer.slot

    def run(self, layer: int, expert: int, x_NM: torch.Tensor) -> torch.Tensor:
        """Return the outputs [N, O] of one expert, from its slot; RuntimeError where it is in none."""
        row = self.where.get(layer * self.experts + expert)
        if row is None:
            raise RuntimeError(f"expert {expert} of layer {layer} was to run and is in no slot")
        return self.compute(x_NM, *self.views_S[row])


def views(row_F: torch.Tensor, shapes: list[torch.Size]) -> list[torch.Tensor]:
    """Return an expert's tensors as views of a slot."""
    parts = row_F.split([shape.numel() for shape in shapes])
    return [part.view(shape) for part, shape in zip(parts, shapes, strict=True)]
