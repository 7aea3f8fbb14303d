"""Composition: one recorded set of sequences as the steps that a serving engine would run under a given load.

Every step of the engine: sequences that decode get one token each; then prompts that were begun go on, then waiting
sequences join in the order of their arrival, as long as tokens are left in the budget. A prompt is computed whole, or,
with chunked prefill, in chunks. How long a step takes decides who has arrived when the next one is put together: it
is the lockstep cost of the step's own selections (every block with tokens runs once, one after another).
The composed trace is an ordinary one: `run --arrivals steps` replays its steps, `--arrivals recorded` its arrivals.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

import numpy as np

from moe_replay.simulate.config.costs import Cost
from moe_replay.simulate.config.workload import serving_order
from moe_replay.simulate.policies.arrivals import poisson_times_ns
from moe_replay.traces.command_line.memory_room import check_room
from moe_replay.traces.command_line.number_limits import LAST_NS
from moe_replay.traces.errors import InputError, unknown_name
from moe_replay.traces.routes import marked
from moe_replay.traces.selections import SEQUENCE_FIELDS, Trace

ARRIVALS = ("all", "poisson", "recorded")


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
    """Who arrives when: all at once, `poisson` at `rate_per_s` sequences per second, or as `recorded`.

    `sequences` None serves each once, in the trace's order; else so many, the trace cycled. A seed permutes them (anew
    in every cycle) and draws the arrivals.
    """

    arrivals: str = "all"
    rate_per_s: float | None = None
    sequences: int | None = None
    seed: int | None = None

    def __post_init__(self) -> None:
        if self.arrivals not in ARRIVALS:
            raise unknown_name("arrivals", self.arrivals, ARRIVALS)
        if (self.arrivals == "poisson") != (self.rate_per_s is not None):
            raise InputError("a rate is needed under arrivals 'poisson', and allowed only there")
        if self.arrivals == "recorded" and (self.sequences, self.seed) != (None, None):
            raise InputError("arrivals 'recorded': sequences are neither cycled nor permuted, allowed: each once")


@dataclass
class Served:
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


def compose(
    trace: Trace, engine: Engine, demand: Demand, cost: Cost, dense: bool = True,
    advance: Callable[[int], object] = lambda rows: None,
) -> tuple[Trace, int]:  # fmt: skip
    """Return the composed trace and the time at which its last step ends, ns.

    Sequences are numbered 0, 1, ... in the order of arrival; `notes.composition` names the source's own numbers.
    `cost(layer, block, tokens)` in ns, `dense` whether dense blocks take time; `advance(rows)` is called after every
    step. InputError where a prompt never fits into a step, or arrivals are asked for that were not recorded.
    """
    order_G, arrival_ns_G = arrivals(trace, demand)
    sequences = [served(trace, int(sequence)) for sequence in trace.sequences_S[order_G]]
    check_prompts(sequences, engine)
    steps, end_ns = run(sequences, arrival_ns_G, engine, step_cost(trace, cost, dense), advance)
    return composed(trace, steps, order_G, arrival_ns_G, engine, demand), end_ns


def arrivals(trace: Trace, demand: Demand) -> tuple[np.ndarray, np.ndarray]:
    """Return (index into `sequences_S`, arrival ns) of every sequence that is served, in the order of arrival."""
    if demand.arrivals == "recorded":
        if trace.arrival_ns_S is None:
            raise InputError("arrivals 'recorded': the trace has none; allowed here: all, poisson")
        order_G = np.argsort(trace.arrival_ns_S, kind="stable")
        return order_G, trace.arrival_ns_S[order_G]
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


def served(trace: Trace, sequence: int) -> Served:
    """Return a sequence of the trace: rows of its prompt, then those it decoded."""
    rows = np.flatnonzero(trace.sequence_T == sequence)
    prompt = int((trace.phase_T[rows] == 0).sum())
    return Served(rows[np.argsort(trace.phase_T[rows], kind="stable")], prompt)


def check_prompts(sequences: list[Served], engine: Engine) -> None:
    """Refuse prompts that never fit into a step."""
    longest = max(each.prompt for each in sequences)
    if engine.chunk is None and longest > engine.token_budget:
        raise InputError(
            f"a prompt has {longest} tokens, allowed the token budget, {engine.token_budget}; a chunk cuts prompts"
        )


def step_cost(trace: Trace, cost: Cost, dense: bool) -> Callable[[np.ndarray], int]:
    """Return a function rows -> ns of a step in lockstep: dense blocks on all its tokens, active experts on theirs."""
    experts_TLK = marked(trace.experts_TLK[:, :, : trace.header.model.used_k], trace.header.model)

    def step_ns(rows: np.ndarray) -> int:
        total = sum(cost(layer, 0, len(rows)) for layer in range(trace.L + 1)) if dense else 0
        for layer in range(trace.L):
            chosen = experts_TLK[rows, layer]
            counts_E = np.bincount(chosen[chosen >= 0], minlength=trace.E)
            total += sum(cost(layer, 1 + expert, int(counts_E[expert])) for expert in np.flatnonzero(counts_E).tolist())
        return total

    return step_ns


def run(
    sequences: list[Served], arrival_ns_G: np.ndarray, engine: Engine, step_ns: Callable[[np.ndarray], int],
    advance: Callable[[int], object],
) -> tuple[list[list[tuple[int, np.ndarray]]], int]:  # fmt: skip
    """Return (steps, end): each step lists (sequence, rows) in the order in which the sequences joined."""
    waiting, running, steps, now = deque(range(len(sequences))), [], [], 0
    while waiting or running:
        if not running and arrival_ns_G[waiting[0]] > now:
            now = int(arrival_ns_G[waiting[0]])
        taken, budget = take_running(sequences, running, engine)
        while waiting and arrival_ns_G[waiting[0]] <= now and len(running) < engine.most_running:
            count = sequences[waiting[0]].next(budget, engine.chunk)
            if not count:
                break
            running.append(waiting.popleft())
            taken[running[-1]] = count
            budget -= count
        step = []
        for member in running:
            if count := taken.get(member):
                each = sequences[member]
                step.append((member, each.rows[each.done : each.done + count]))
                each.done += count
        rows = np.concatenate([rows for _, rows in step])
        now += step_ns(rows)
        if now >= LAST_NS:
            raise InputError(f"the clock would pass {LAST_NS:,} ns in step {len(steps)}; allowed: shorter steps")
        steps.append(step)
        running = [member for member in running if sequences[member].done < len(sequences[member].rows)]
        advance(len(rows))
    return steps, now


def take_running(sequences: list[Served], running: list[int], engine: Engine) -> tuple[dict[int, int], int]:
    """Return ({sequence: rows it takes}, budget left): those that decode first, then prompts that were begun."""
    taken, budget = {}, engine.token_budget
    decodes = [member for member in running if sequences[member].done >= sequences[member].prompt]
    for member in (*decodes, *(each for each in running if each not in decodes)):
        taken[member] = sequences[member].next(budget, engine.chunk)
        budget -= taken[member]
    return taken, budget


def composed(
    trace: Trace, steps: list, order_G: np.ndarray, arrival_ns_G: np.ndarray, engine: Engine, demand: Demand
) -> Trace:
    """Return the steps as a trace."""
    rows_T = np.concatenate([rows for step in steps for _, rows in step])
    count_M = [len(rows) for step in steps for _, rows in step]
    fields = {name: getattr(trace, name)[rows_T] for name in trace.present if name not in SEQUENCE_FIELDS}
    fields |= {name: getattr(trace, name)[order_G] for name in trace.present if name in SEQUENCE_FIELDS}
    fields["sequence_T"] = np.repeat([member for step in steps for member, _ in step], count_M).astype(np.int32)
    fields["step_T"] = np.repeat(np.arange(len(steps)), [sum(len(r) for _, r in step) for step in steps]).astype(
        np.int32
    )
    fields["arrival_ns_S"] = arrival_ns_G.astype(np.int64)
    notes = {
        **trace.header.notes,
        "composition": {
            **asdict(engine), **asdict(demand), "source_digest": trace.digest,
            "source_sequences": trace.sequences_S[order_G].tolist(),
        },
    }  # fmt: skip
    return replace(trace, header=replace(trace.header, notes=notes), **fields)
