"""Workloads: the passes that a run serves, in order, cut out of a trace and cycled as often as needed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from moe_replay.simulate.policies.halves import ALL, SECOND_HALF, halves
from moe_replay.traces.command_line.memory_room import check_room
from moe_replay.traces.errors import InputError
from moe_replay.traces.routes import computed

GATE_MASS = ("softmax", "sigmoid", "selected")  # kinds of scores that are gate mass

if TYPE_CHECKING:
    from moe_replay.simulate.config.run_config import RunConfig
    from moe_replay.traces.selections import Trace


@dataclass(frozen=True)
class Workload:
    """The passes of a run, one sequence instance ("group") after another, the passes of a sequence in step order.

    `experts_TLK` are the selections of the trace's rows (-1 = empty slot), `experts` is E. Pass p is the rows
    `first_row_P[p]` .. `last_row_P[p]` (both included) of the trace; its tokens are numbered `token_offset_P[p]`,
    `token_offset_P[p] + 1`, ... so that token numbers ascend with the passes over the whole run. `sequence_P` and
    `step_P` are the trace's own numbers, `group_P` counts sequence instances and `round_P` how often the trace had
    been served before. `arrival_ns_G` is when each sequence arrived, None where the trace does not tell.
    `candidates_TLK` are all recorded candidates of the trace's rows in rank order, `scores_TLK` their gate mass and
    `norm_TL` the norms of their inputs: given where masked gating needs them, `norm_TL` only where the trace has it.
    `home_T` is the home device of the trace's rows: given where devices are linked. `phase_P` is 1 for passes that
    decode, 0 for those with a token of a prompt: given where the trace has rows that are decoded.
    """

    experts_TLK: np.ndarray
    experts: int
    first_row_P: np.ndarray
    tokens_P: np.ndarray
    sequence_P: np.ndarray
    step_P: np.ndarray
    group_P: np.ndarray
    round_P: np.ndarray
    arrival_ns_G: np.ndarray | None = None
    candidates_TLK: np.ndarray | None = None
    scores_TLK: np.ndarray | None = None
    norm_TL: np.ndarray | None = None
    home_T: np.ndarray | None = None
    phase_P: np.ndarray | None = None

    @property
    def layers(self) -> int:
        """The number L of MoE layers."""
        return self.experts_TLK.shape[1]

    @property
    def passes(self) -> int:
        """The number P of passes."""
        return len(self.first_row_P)

    @property
    def last_row_P(self) -> np.ndarray:
        """The last row of every pass, itself included."""
        return self.first_row_P + self.tokens_P - 1

    @property
    def of_passes(self) -> dict[str, np.ndarray]:
        """What the records say of every pass beside its times, by column."""
        found = {"pass_id": np.arange(self.passes), "sequence": self.sequence_P, "step": self.step_P}
        phase = {} if self.phase_P is None else {"phase": self.phase_P}
        return found | {"tokens": self.tokens_P} | phase

    @cached_property
    def token_offset_P(self) -> np.ndarray:
        """The number of the first token of every pass."""
        return np.cumsum(self.tokens_P) - self.tokens_P

    @cached_property
    def pass_N(self) -> np.ndarray:
        """The pass of every token of the run."""
        return np.repeat(np.arange(self.passes), self.tokens_P)

    @cached_property
    def row_N(self) -> np.ndarray:
        """The trace's row of every token of the run."""
        return np.arange(len(self.pass_N)) + (self.first_row_P - self.token_offset_P)[self.pass_N]

    @cached_property
    def first_pass_G(self) -> np.ndarray:
        """The first pass of every sequence instance."""
        return np.flatnonzero(np.diff(self.group_P, prepend=-1))

    @cached_property
    def selections_PL(self) -> np.ndarray:
        """The number of selections of every pass in every layer."""
        filled_TL = (self.experts_TLK >= 0).sum(axis=2)
        before_TL = np.concatenate([np.zeros((1, self.layers), np.int64), filled_TL.cumsum(axis=0)])
        return before_TL[self.last_row_P + 1] - before_TL[self.first_row_P]


def build_workload(
    experts_TLK: np.ndarray, sequence_T: np.ndarray, step_T: np.ndarray, experts: int,
    sequences: int | None = None, rng: np.random.Generator | None = None, served: str = ALL,
) -> Workload:  # fmt: skip
    """Return the workload of a trace's columns: `sequences` of its sequences (None: each once).

    `served` is the part of the trace that they are taken from, one of `simulate.policies.halves.SERVED`. `rng` permutes
    them, anew in every round where the trace is cycled; None keeps their order in the trace.
    Raises InputError for an empty trace or a pass whose rows are not together.
    """
    if len(sequence_T) == 0:
        raise InputError("the trace has no rows, so there is nothing to serve")
    first_row, tokens = find_passes(sequence_T, step_T)
    if served == SECOND_HALF:
        second = halves(sequence_T, step_T).second_T[first_row]
        first_row, tokens = first_row[second], tokens[second]
    rank, members = rank_sequences(sequence_T[first_row])
    in_order = np.lexsort((step_T[first_row], rank))
    if sequences is not None:
        shape_TLK = (int(tokens.sum()), *experts_TLK.shape[1:])
        check_room("the sequences to serve", sequences, served_bytes(len(first_row), shape_TLK, len(members)))
    served, round_G = serving_order(len(members), sequences, rng)
    chosen, group_P = expand(in_order, members, served)
    return Workload(
        experts_TLK=experts_TLK, experts=experts, first_row_P=first_row[chosen], tokens_P=tokens[chosen],
        sequence_P=sequence_T[first_row][chosen], step_P=step_T[first_row][chosen],
        group_P=group_P, round_P=round_G[group_P],
    )  # fmt: skip


def served_bytes(passes: int, shape_TLK: tuple[int, int, int], sequences: int) -> float:
    """Return about how much memory a run takes per sequence that it serves, over the arrays of either engine."""
    tokens, layers, k = shape_TLK
    return (400 * passes + (32 + 8 * k) * tokens + 50 * (tokens * k * layers / 8)) / sequences


def trace_workload(trace: Trace, config: RunConfig) -> Workload:
    """Return the workload that a configuration's `k`, `sequences` and `seed` cut out of a trace.

    Selections of experts without weights are left out: they join no queue and take no time.
    """
    model = trace.header.model
    at_k = trace.at_k(config.k if config.k is not None else model.used_k)
    rng = None if config.seed is None else config.generator("sequences")
    experts_TLK = computed(at_k.experts_TLK, model)
    workload = build_workload(experts_TLK, at_k.sequence_T, at_k.step_T, trace.E, config.sequences, rng, config.served)
    if config.memory is not None and config.memory.is_masked:
        workload = replace(workload, **candidates(trace))
    if config.cluster is not None:
        workload = replace(workload, home_T=homes(trace, config.cluster.homes, config.devices))
    if (trace.phase_T > 0).any():
        workload = replace(workload, phase_P=phases(workload, trace.phase_T))
    if trace.arrival_ns_S is None:
        return workload
    sequence_G = workload.sequence_P[workload.first_pass_G]
    arrival_ns_G = trace.arrival_ns_S[np.searchsorted(trace.sequences_S, sequence_G)]
    if config.served == SECOND_HALF:  # time begins when its first sequence arrives
        arrival_ns_G = arrival_ns_G - arrival_ns_G.min()
    return replace(workload, arrival_ns_G=arrival_ns_G)


def phases(workload: Workload, phase_T: np.ndarray) -> np.ndarray:
    """Return 1 for every pass whose rows are all decoded, else 0 (int8): what a prompt needs ends with its last row."""
    prompts_before_T = np.concatenate([[0], np.cumsum(phase_T == 0)])
    return (prompts_before_T[workload.last_row_P + 1] == prompts_before_T[workload.first_row_P]).astype(np.int8)


def homes(trace: Trace, rule: str, devices: int) -> np.ndarray:
    """Return the home device of every row of a trace; as `home_devices`."""
    return home_devices(trace.sequence_T, trace.rank_T, rule, devices)


def homes_rule(rule: str, rank_T: np.ndarray | None) -> str:
    """Return the rule that is followed: a trace that tells no ranks has its homes by sequence."""
    return "sequence" if rule == "trace" and rank_T is None else rule


def home_devices(sequence_T: np.ndarray, rank_T: np.ndarray | None, rule: str, devices: int) -> np.ndarray:
    """Return the home device of every row, int64; `rule` as in `ClusterConfig`.

    InputError for a rank that is none of the devices.
    """
    rule = homes_rule(rule, rank_T)
    if rule == "row":
        return np.arange(len(sequence_T)) % devices
    if rule == "sequence":
        return sequence_T.astype(np.int64) % devices
    home_T = rank_T.astype(np.int64)
    outside = np.flatnonzero((home_T < 0) | (home_T >= devices))
    if len(outside):
        raise InputError(
            f"row {outside[0]} is on rank {home_T[outside[0]]}, allowed on {devices} devices: 0..{devices - 1} "
            f"({len(outside)} such rows); --homes sequence or row take another home"
        )
    return home_T


def candidates(trace: Trace) -> dict[str, np.ndarray | None]:
    """Return what masked gating looks at; InputError for a trace without ranked candidates that carry gate mass."""
    header = trace.header
    if header.model.zero_experts:
        raise InputError("masked gating is not modelled for a model in which some experts have no weights")
    if not header.ranked or header.score_kind not in GATE_MASS:
        raise InputError(
            f"masked gating needs ranked candidates with scores ({', '.join(GATE_MASS)}); the trace has"
            f" {header.score_kind or 'no'} scores, {'ranked' if header.ranked else 'not ranked'}"
        )
    return {"candidates_TLK": trace.experts_TLK, "scores_TLK": trace.scores_TLK, "norm_TL": trace.norm_TL}


def find_passes(sequence_T: np.ndarray, step_T: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (first row, number of rows) of every run of rows with equal sequence and step."""
    changes_T = (np.diff(sequence_T) != 0) | (np.diff(step_T) != 0)
    first_row = np.concatenate([[0], np.flatnonzero(changes_T) + 1])
    pair = (sequence_T[first_row].astype(np.int64) << 32) | step_T[first_row]
    pairs, count = np.unique(pair, return_counts=True)
    if (count > 1).any():
        sequence, step = divmod(int(pairs[count.argmax()]), 1 << 32)
        raise InputError(f"the rows of sequence {sequence} in step {step} are not together: not one pass")
    return first_row, np.diff(first_row, append=len(sequence_T))


def rank_sequences(sequence_P: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return every pass's sequence as a rank by first appearance, and the number of passes of each rank."""
    _, first, inverse, count = np.unique(sequence_P, return_index=True, return_inverse=True, return_counts=True)
    by_appearance = np.argsort(first)
    rank = np.empty(len(first), np.int64)
    rank[by_appearance] = np.arange(len(first))
    return rank[inverse], count[by_appearance]


def serving_order(available: int, sequences: int | None, rng: np.random.Generator | None) -> tuple:
    """Return (ranks of the sequences in the order they are served, the round of each)."""
    wanted = available if sequences is None else sequences
    rounds = -(-wanted // available)
    orders = [np.arange(available) if rng is None else rng.permutation(available) for _ in range(rounds)]
    return np.concatenate(orders)[:wanted], np.repeat(np.arange(rounds), available)[:wanted]


def expand(in_order: np.ndarray, members: np.ndarray, served: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (pass of the trace, group) of every pass: the served sequences' passes, one sequence after another.

    `in_order` lists the trace's passes sequence by sequence, `members` says how many each sequence has.
    """
    start = np.cumsum(members) - members
    count = members[served]
    group_P = np.repeat(np.arange(len(served)), count)
    within_P = np.arange(len(group_P)) - np.repeat(np.cumsum(count) - count, count)
    return in_order[start[served][group_P] + within_P], group_P
