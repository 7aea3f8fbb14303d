"""Composition: one recorded set of sequences as the steps that a serving engine would run under a given load.

Every step of the engine: sequences that decode get one token each; then prompts that were begun go on, then waiting
sequences join in the order of their arrival, as long as tokens are left in the budget. A prompt is computed whole, or,
with chunked prefill, in chunks. How long a step takes (`step_clocks`) decides who has arrived when the next one is put
together (`pool`).
The composed trace is an ordinary one: `run --arrivals steps` replays its steps, `--arrivals recorded` its arrivals.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

import numpy as np

from moe_replay.simulate.config.workload import serving_order
from moe_replay.simulate.policies.arrivals import poisson_times_ns
from moe_replay.traces.command_line.memory_room import check_room
from moe_replay.traces.errors import InputError, unknown_name
from moe_replay.traces.request_arrivals import at_speed
from moe_replay.traces.selections import SEQUENCE_FIELDS, Trace

ARRIVALS = ("all", "poisson", "recorded")
Part = tuple[int, np.ndarray]  # a sequence, and the rows of it that a step computes


@dataclass(frozen=True)
class Engine:
    """The serving engine: tokens per step, sequences that run at once, tokens of a prompt per step (None: whole)."""

    token_budget: int = 256
    most_running: int = 16
    chunk: int | None = None

    def __post_init__(self) -> None:
        if self.token_budget < self.most_running:
            raise InputError(
                f"token budget {self.token_budget} for {self.most_running} running sequences, allowed: a token for each"
            )


@dataclass(frozen=True)
class Demand:
    """Who arrives when: all at once, `poisson` at `rate_per_s` sequences per second, or as `recorded`, `speed` times.

    `sequences` None serves each once, in the trace's order; else so many, the trace cycled. A seed permutes them (anew
    in every cycle) and draws the arrivals.
    """

    arrivals: str = "all"
    rate_per_s: float | None = None
    sequences: int | None = None
    seed: int | None = None
    speed: float = 1.0

    def __post_init__(self) -> None:
        if self.arrivals not in ARRIVALS:
            raise unknown_name("arrivals", self.arrivals, ARRIVALS)
        if (self.arrivals == "poisson") != (self.rate_per_s is not None):
            raise InputError("a rate is needed under arrivals 'poisson', and allowed only there")
        if self.arrivals == "recorded" and (self.sequences, self.seed) != (None, None):
            raise InputError("arrivals 'recorded': sequences are neither cycled nor permuted, allowed: each once")
        if self.arrivals != "recorded" and self.speed != 1:
            raise InputError(f"--speed has no meaning under arrivals {self.arrivals!r}, only under 'recorded'")

    def rate_of(self, arrival_ns_G: np.ndarray) -> float | None:
        """Return the requests per second that are asked for, of recorded arrivals their mean; None: all at once."""
        if self.arrivals != "recorded" or (took_ns := int(arrival_ns_G[-1] - arrival_ns_G[0])) == 0:
            return self.rate_per_s
        return (len(arrival_ns_G) - 1) * 1e9 / took_ns


@dataclass
class Sequence:
    """A sequence in the engine: its rows of the trace, prompt first, and how many were computed."""

    rows: np.ndarray
    prompt: int
    done: int = 0

    def next(self, budget: int, chunk: int | None) -> int:
        """Return how many rows it takes in a step with `budget` tokens left; 0 if it has to wait."""
        if self.done >= self.prompt:
            return min(1, budget)
        left = self.prompt - self.done
        if chunk is None:
            return left if left <= budget else 0
        return min(left, chunk, budget)


def arrivals(trace: Trace, demand: Demand) -> tuple[np.ndarray, np.ndarray]:
    """Return (index into `sequences_S`, arrival ns) of every sequence that is served, in the order of arrival.

    InputError where arrivals are asked for that were not recorded.
    """
    if demand.arrivals == "recorded":
        if trace.arrival_ns_S is None:
            raise InputError("arrivals 'recorded': the trace has none; allowed here: all, poisson")
        order_G = np.argsort(trace.arrival_ns_S, kind="stable")
        return order_G, at_speed(trace.arrival_ns_S[order_G], demand.speed)
    if demand.sequences is not None:
        check_room("--sequences", demand.sequences, 400 + 40 * trace.T * trace.L / trace.S)
    _, first = np.unique(trace.sequence_T, return_index=True)
    rng = None if demand.seed is None else np.random.default_rng([demand.seed, 0])
    served_G, _ = serving_order(trace.S, demand.sequences, rng)
    order_G = np.argsort(first)[served_G]
    if demand.arrivals == "all":
        return order_G, np.zeros(len(order_G), np.int64)
    draws = np.random.default_rng([demand.seed or 0, 1])
    return order_G, poisson_times_ns(len(order_G), demand.rate_per_s, draws)


def sequences_of(trace: Trace, order_G: np.ndarray, engine: Engine) -> list[Sequence]:
    """Return the sequences that are served; InputError where a prompt never fits into a step."""
    by_sequence = np.lexsort((trace.phase_T, trace.sequence_T))  # stable: prompts first, else in the trace's order
    first_S = np.searchsorted(trace.sequence_T[by_sequence], trace.sequences_S)
    rows_S = np.split(by_sequence, first_S[1:])
    prompt_S = [int((trace.phase_T[rows] == 0).sum()) for rows in rows_S]
    longest = max(prompt_S[each] for each in order_G)
    if engine.chunk is None and longest > engine.token_budget:
        raise InputError(
            f"a prompt has {longest} tokens, allowed the token budget, {engine.token_budget}; a chunk cuts prompts"
        )
    return [Sequence(rows_S[each], prompt_S[each]) for each in order_G]


def composed(
    trace: Trace, steps: list[list[Part]], order_G: np.ndarray, arrival_ns_G: np.ndarray, asked: dict
) -> Trace:
    """Return the steps as a trace.

    Sequences are numbered 0, 1, ... in the order of arrival; `notes.composition` holds what was `asked`, and the
    source's own numbers.
    """
    rows_T = np.concatenate([rows for step in steps for _, rows in step])
    count_M = [len(rows) for step in steps for _, rows in step]
    fields = {name: getattr(trace, name)[rows_T] for name in trace.present if name not in SEQUENCE_FIELDS}
    fields |= {name: getattr(trace, name)[order_G] for name in trace.present if name in SEQUENCE_FIELDS}
    fields["sequence_T"] = np.repeat([member for step in steps for member, _ in step], count_M).astype(np.int32)
    fields["step_T"] = np.repeat(np.arange(len(steps)), [sum(len(r) for _, r in step) for step in steps]).astype(
        np.int32
    )
    fields["arrival_ns_S"] = arrival_ns_G.astype(np.int64)
    sources = {"source_digest": trace.digest, "source_sequences": trace.sequences_S[order_G].tolist()}
    notes = {**trace.header.notes, "composition": {**asked, **sources}}
    return replace(trace, header=replace(trace.header, notes=notes), **fields)


def asked_of(engine: Engine, demand: Demand) -> dict:
    """Return what a composition is of, for its header; the speed where it is not the recorded one."""
    asked = {**asdict(engine), **asdict(demand)}
    return asked if demand.speed != 1 else {name: value for name, value in asked.items() if name != "speed"}
