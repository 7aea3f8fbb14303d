"""Records what the routers of a transformers model decide during generate(), one forward call after another.

Hooks on the routers keep the decisions of the running forward call; a hook on the model hands them, without padding
and without rows of sequences that have ended, to a TraceWriter. Memory holds one forward call and one unfinished part.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn

from moe_replay.collect.huggingface.prompts import Prompt
from moe_replay.collect.huggingface.routers import Choice, Router
from moe_replay.collect.huggingface.score_kinds import scores_of
from moe_replay.traces.errors import InputError
from moe_replay.traces.file.trace_writer import TraceWriter
from moe_replay.traces.header import Header
from moe_replay.traces.selections import Trace


@dataclass
class Batch:
    """The prompts that run together: their lengths, the side of their padding, what was computed, which have ended."""

    first: int
    prompts: Sequence[Prompt]
    lengths_B: np.ndarray
    padded_right: bool = False
    computed: int = 0
    ended_B: np.ndarray = field(default=None)

    def __post_init__(self) -> None:
        self.ended_B = np.zeros(len(self.prompts), bool)


class Recording:
    """Holds a model's hooks while it is used as a context; `start(batch)` before every generate().

    `watched` is the module whose calls are forward calls: the model, or its encoder or decoder. `ends` are the tokens
    after which a sequence has ended: such a token is input only because others of its batch still run. `candidates`:
    how many experts a row records; None for those that the router chose, in the order of their weights.
    """

    def __init__(
        self, watched: nn.Module, routers: list[Router], header: Header, writer: TraceWriter, ends: Sequence[int],
        candidates: int | None, decoder: bool = False,
    ) -> None:  # fmt: skip
        self.watched, self.routers, self.header, self.writer = watched, routers, header, writer
        self.ends, self.candidates, self.decoder = np.array(ends, np.int64), candidates, decoder
        self.step, self.batch, self.handles = 0, None, []
        self.seen: list[tuple[Choice, torch.Tensor]] = []
        self.input_BS: np.ndarray | None = None

    def __enter__(self) -> "Recording":
        self.handles = [self.watched.register_forward_pre_hook(self.begin, with_kwargs=True)]
        self.handles.append(self.watched.register_forward_hook(self.end))
        for router in self.routers:
            self.handles.append(router.module.register_forward_hook(self.keeper(router)))
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self.handles:
            handle.remove()

    def start(self, batch: Batch) -> None:
        """Say which prompts the next generate() computes."""
        self.batch = batch

    def begin(self, module: nn.Module, positional: tuple, named: dict) -> None:
        """Keep the tokens of a forward call that begins."""
        tokens = named.get("input_ids") if named.get("input_ids") is not None else (positional or (None,))[0]
        if tokens is None:
            raise InputError(f"{type(module).__name__} was called without token ids, allowed: with input_ids")
        self.input_BS, self.seen = tokens.cpu().numpy(), []

    def keeper(self, router: Router) -> object:
        """Return the hook of one router."""

        def keep(module: nn.Module, inputs: tuple, output: object) -> None:
            x = inputs[0]
            choice = router.choice(output)
            if len(choice.logits_NE) != self.input_BS.size:
                found = f"router {router.name} decided for {len(choice.logits_NE)} tokens"
                raise InputError(f"{found}, allowed: all {self.input_BS.size} of a forward call, padding too")
            self.seen.append((choice, torch.linalg.vector_norm(x.flatten(0, -2), dim=1).float()))

        return keep

    def end(self, module: nn.Module, inputs: tuple, output: object) -> None:
        """Append the rows of a forward call that has ended."""
        if len(self.seen) != len(self.routers):
            raise InputError(
                f"{len(self.seen)} routers ran in one forward call, allowed {len(self.routers)}: each once"
            )
        batch, (rows, columns) = self.batch, self.input_BS.shape
        decodes = self.decoder or batch.computed > 0
        if decodes and not (self.decoder and batch.computed == 0):
            batch.ended_B |= np.isin(self.input_BS[:, 0], self.ends)
        padding_B = np.zeros(rows, int) if decodes or batch.padded_right else columns - batch.lengths_B
        position_BS = batch.computed + np.arange(columns) - padding_B[:, None]
        if decodes and not self.decoder:
            position_BS = position_BS - (batch.lengths_B.max() - batch.lengths_B)[:, None]
        real_BS = (np.arange(columns) >= padding_B[:, None]) & ~batch.ended_B[:, None]
        if batch.padded_right and not decodes:
            real_BS &= np.arange(columns) < batch.lengths_B[:, None]
        batch.computed += columns
        if real_BS.any():
            self.writer.append(self.rows(real_BS, position_BS, decodes))
        self.step += 1
        self.seen = []

    def rows(self, real_BS: np.ndarray, position_BS: np.ndarray, decodes: bool) -> Trace:
        """Return the real rows of the forward call as a trace."""
        place_T = np.flatnonzero(real_BS)
        member_T = np.repeat(np.arange(len(real_BS)), real_BS.sum(1))
        members = np.unique(member_T)
        prompts = [self.batch.prompts[member] for member in members]
        fields = slots(self.seen, torch.from_numpy(place_T), self.header, self.candidates)
        return Trace(
            header=self.header, **fields,
            sequence_T=(self.batch.first + member_T).astype(np.int32),
            position_T=position_BS.flatten()[place_T].astype(np.int32),
            step_T=np.full(len(place_T), self.step, np.int32), phase_T=np.full(len(place_T), int(decodes), np.int8),
            token_id_T=self.input_BS.flatten()[place_T].astype(np.int32),
            domain_S=np.array([prompt.domain for prompt in prompts]),
            label_S=np.array([prompt.label for prompt in prompts], np.int32),
            prompt_len_S=self.batch.lengths_B[members].astype(np.int32),
        )  # fmt: skip


@torch.no_grad()
def slots(
    seen: list[tuple[Choice, torch.Tensor]], place_T: torch.Tensor, header: Header, candidates: int | None
) -> dict[str, np.ndarray]:
    """Return experts_TLK, scores_TLK and norm_TL of some rows of all layers.

    With candidates the chosen come first, then the others, best score first. Where the header says `ranked` the chosen
    are in that order too: InputError where one scores below one that was not chosen.
    """
    logits_TLE, experts_TLK = (rows_of([choice[part] for choice, _ in seen], place_T) for part in (0, 2))
    scores_TLE, order = scores_of(logits_TLE, header.score_kind), experts_TLK
    if candidates is None:
        found = scores_TLE.gather(2, order.clamp_min(0)).masked_fill(order < 0, 0)
    else:
        found, order = (ranked_by_score if header.ranked else chosen_then_others)(scores_TLE, experts_TLK)
        found, order = found[:, :, :candidates], order[:, :, :candidates]
    return {
        "experts_TLK": order.to(torch.int16).cpu().contiguous().numpy(),
        "scores_TLK": found.cpu().contiguous().numpy(),
        "norm_TL": rows_of([norm_N for _, norm_N in seen], place_T).cpu().numpy(),
    }


def rows_of(layers: list[torch.Tensor], place_T: torch.Tensor) -> torch.Tensor:
    """Return some rows of a tensor per layer, [T, L, ...]; nothing is picked where they are all rows."""
    values = torch.stack(layers, 1)
    return values if len(place_T) == len(values) else values[place_T.to(values.device)]


def ranked_by_score(scores_TLE: torch.Tensor, experts_TLK: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (scores, experts) [T, L, E], best first, the chosen experts in front also where scores tie."""
    ranked, order = scores_TLE.sort(dim=2, descending=True, stable=True)
    picked_TLE = torch.zeros_like(scores_TLE, dtype=torch.bool).scatter_(2, experts_TLK, True)
    if not picked_TLE.gather(2, order[:, :, : experts_TLK.shape[2]]).all():
        order = order.gather(2, picked_TLE.gather(2, order).int().sort(dim=2, descending=True, stable=True).indices)
        ranked = scores_TLE.gather(2, order)
        if (ranked.diff(dim=2) > 0).any():
            raise InputError("a router chose an expert below one it left, allowed: --candidates chosen for this model")
    return ranked, order


def chosen_then_others(scores_TLE: torch.Tensor, experts_TLK: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (scores, experts) [T, L, E], the chosen experts in their own order in front, the others best first."""
    lowest = torch.finfo(scores_TLE.dtype).min
    others = scores_TLE.scatter(2, experts_TLK, lowest).argsort(dim=2, descending=True, stable=True)
    is_chosen = torch.zeros_like(scores_TLE, dtype=torch.bool).scatter_(2, experts_TLK, True).gather(2, others)
    rest = others[~is_chosen].view(*scores_TLE.shape[:2], -1)  # as many in every row
    order = torch.cat([experts_TLK, rest], 2)
    return scores_TLE.gather(2, order), order
