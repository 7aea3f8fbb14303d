"""A language model cut into blocks: every byte is a token; attention continues the sequence's keys and values."""

from itertools import pairwise

import numpy as np
import torch
from torch.nn import functional

from moe_replay.collect.execution.blocks import Blocks
from moe_replay.collect.execution.executor import TraceOnWeights
from moe_replay.collect.gates.gate_result import recorded_selector
from moe_replay.collect.models.language_model import VOCABULARY, Cache, LanguageModel, Rows, rotary
from moe_replay.simulate.config.run_config import RunConfig
from moe_replay.simulate.config.workload import Workload, build_workload
from moe_replay.traces.errors import InputError
from moe_replay.traces.selections import Trace

CALIBRATION_SEQUENCES = 32  # whose keys and values lie in memory while costs are measured


class LanguageBlocks(Blocks):
    """Blocks of a trained language model over the bytes of one run.

    `bytes_T`, `position_T` and `group_T`: value, place and sequence instance of every token. A sequence has keys and
    values from its first byte in the first layer until its last byte has passed the head; `sequences` may have them at
    once. The tokens of a batch are in order of passes; tokens of one sequence that follow each other attend together.
    """

    def __init__(
        self, model: LanguageModel, bytes_T: np.ndarray, position_T: np.ndarray, group_T: np.ndarray, sequences: int,
        experts_TLK: np.ndarray, renormalised: bool = True,
    ) -> None:  # fmt: skip
        device = model.embedding.device
        super().__init__(model, VOCABULARY, experts_TLK, renormalised, device)
        self.bytes_T = torch.from_numpy(bytes_T.astype(np.int64)).to(device)
        self.position_T, self.group_T = position_T.tolist(), group_T.tolist()
        last = {group: token for token, group in enumerate(self.group_T)}
        self.ends_T = [last[group] == token for token, group in enumerate(self.group_T)]
        self.cache = Cache(model.config, sequences, device)
        self.free = list(range(sequences))[::-1]
        self.slot_of: dict[int, int] = {}

    def warm_up(self) -> None:
        """As in every model; the first sequence has no keys and values yet when the run begins."""
        super().warm_up()
        self.free += self.slot_of.values()
        self.slot_of.clear()

    def dense(self, layer: int, tokens: list[int], rows_N: torch.Tensor) -> torch.Tensor:
        """Embed (before the first layer), attend, and norm."""
        model = self.model
        x_NM = model.embedding[self.bytes_T[rows_N]] if layer == 0 else self.residual_TM[rows_N]
        rows = Rows(self.cache, self.spans(tokens))
        rotation = rotary(rows.position_N.to(self.device), model.config.width // model.config.heads)
        x_NM = x_NM + model.attentions[layer].continued(model.attention_norms[layer](x_NM), rotation, rows, layer)
        self.residual_TM[rows_N] = x_NM
        return model.expert_norms[layer](x_NM)

    def spans(self, tokens: list[int]) -> list[tuple[int, int, int]]:
        """Return (slot, first position, tokens) of every run of tokens that follow each other in a sequence."""
        found, before = [], None
        for token in tokens:
            group = self.group_T[token]
            if before is not None and token == before + 1 and group == self.group_T[before]:
                slot, first, count = found[-1]
                found[-1] = slot, first, count + 1
            else:
                if group not in self.slot_of:
                    self.slot_of[group] = self.free.pop()
                found.append((self.slot_of[group], self.position_T[token], 1))
            before = token
        return found

    def finish(self, tokens: list[int], rows_N: torch.Tensor) -> torch.Tensor:
        """Return the logits of the next byte; a sequence that ends leaves its keys and values."""
        for token in tokens:
            if self.ends_T[token]:
                self.free.append(self.slot_of.pop(self.group_T[token]))
        return self.model.head(self.model.norm(self.residual_TM[rows_N]))


class LanguageOnWeights(TraceOnWeights):
    """A trace of text with the language model it was recorded from; InputError where it does not tell the bytes."""

    def __init__(self, model: LanguageModel, trace: Trace) -> None:
        if trace.token_id_T is None or trace.position_T is None:
            raise InputError("execute: the trace does not tell bytes and positions; allowed: a language-route trace")
        super().__init__(model, trace)

    def new_blocks(self, workload: Workload, config: RunConfig) -> LanguageBlocks:
        """Return the blocks of one run; a closed loop has as many sequences at once as are in flight, others all."""
        row_N, group_N = workload.row_N, workload.group_P[workload.pass_N]
        at_once = config.in_flight if config.arrivals == "closed" else int(group_N[-1]) + 1
        return LanguageBlocks(
            self.model, self.trace.token_id_T[row_N], self.trace.position_T[row_N], group_N, at_once,
            workload.experts_TLK[row_N], self.renormalised,
        )  # fmt: skip

    def expected(self, workload: Workload, experts_TLK: np.ndarray) -> torch.Tensor:
        """Return the logits [T, 256] of the plain forward pass, sequence by sequence, under given selections."""
        bytes_T = self.trace.token_id_T[workload.row_N].astype(np.int64)
        ends = np.append(workload.token_offset_P[workload.first_pass_G], len(bytes_T)).tolist()
        return torch.cat([self.plain(bytes_T[first:end], experts_TLK[first:end]) for first, end in pairwise(ends)])

    @torch.inference_mode()
    def plain(self, bytes_N: np.ndarray, experts_NLK: np.ndarray) -> torch.Tensor:
        """Return the logits [N, 256] of one sequence under given selections."""
        device = self.model.embedding.device
        select = recorded_selector(
            self.model.gates, torch.from_numpy(experts_NLK.astype(np.int64)).to(device), self.renormalised
        )
        return self.model(torch.from_numpy(bytes_N).to(device), select=select)[0]

    def quality(self, workload: Workload, logits_TC: torch.Tensor) -> dict[str, float]:
        """Return the bits per byte of executed logits; the last byte of a sequence has no next one."""
        next_N = torch.from_numpy(self.trace.token_id_T[workload.row_N].astype(np.int64)[1:])
        group_N = workload.group_P[workload.pass_N]
        nats = functional.cross_entropy(logits_TC[:-1].cpu(), next_N, reduction="none").double().numpy()
        return {"bits_per_byte": float(nats[group_N[1:] == group_N[:-1]].mean() / np.log(2))}


class LanguageCalibration:
    """Builds the calibration runs of a language model: every pass is one byte at a random place of a sequence.

    A few sequences share their keys and values: what attention reads then is as long as in a run, not what a run saw.
    """

    def __init__(self, model: LanguageModel) -> None:
        self.model = model

    def __call__(self, experts_TLK: np.ndarray, draws: np.random.Generator) -> tuple[Workload, LanguageBlocks]:
        """Return the workload of these selections and its blocks."""
        tokens, config = len(experts_TLK), self.model.config
        blocks = LanguageBlocks(
            self.model, draws.integers(VOCABULARY, size=tokens), draws.integers(config.window, size=tokens),
            np.arange(tokens) % CALIBRATION_SEQUENCES, CALIBRATION_SEQUENCES, experts_TLK,
        )  # fmt: skip
        return build_workload(experts_TLK, np.arange(tokens), np.zeros(tokens, np.int64), config.experts), blocks
