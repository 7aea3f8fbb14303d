"""A captured iteration: its training graph, the program that runs it, and the state that it follows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from moe_replay.collect.graphs.eager_step import EagerRun, run_eager, warmed_state
from moe_replay.collect.graphs.graph_lowering import Lowering, Program, phases
from moe_replay.collect.graphs.ordered_execution import OrderedRun, run_in_order
from moe_replay.collect.graphs.step_optimizers import optimizer_rule
from moe_replay.collect.graphs.step_state import StepState, same_bits
from moe_replay.collect.graphs.step_subjects import Subject
from moe_replay.collect.graphs.step_tracing import trace_step
from moe_replay.simulate.ordering.order_result import peak_of
from moe_replay.traces.training_graphs.training_graph import TrainingGraph, training_graph


@dataclass(frozen=True)
class CapturedStep:
    """An iteration as a graph, and as torch ran it by itself."""

    graph: TrainingGraph
    program: Program
    state: StepState
    eager: EagerRun

    def measure(self, order_N: Sequence[int] | np.ndarray) -> dict[str, object]:
        """Run an order and return predicted, counted and allocated peak in bytes, and `differs`.

        `differs` names the first tensor that is not bit by bit eager's, None if all are. InputError for an order that
        breaks an edge.
        """
        predicted = peak_of(self.graph, order_N)
        ran = run_in_order(self.program, self.state, [int(place) for place in order_N])
        return {
            "predicted": predicted, "counted": ran.counted(self.graph.work_N), "allocated": ran.allocated,
            "differs": self.differs(ran), "seconds": ran.seconds,
        }  # fmt: skip

    def differs(self, ran: OrderedRun) -> str | None:
        """Return what a run has other than eager: a tensor of the state, the loss or a gradient; None if nothing."""
        if differs := self.eager.state.differs_from(ran.state):
            return differs
        expected = (self.eager.loss, *self.eager.gradients)
        pairs = zip(expected, ran.outputs, strict=True)
        return next((f"output {place}" for place, pair in enumerate(pairs) if not same_bits(*pair)), None)


def capture(subject: Subject, optimizer: str, device: torch.device, seed: int, name: str, notes: dict) -> CapturedStep:
    """Return the second iteration of a training as a graph; the first one is taken as it is, to warm up.

    InputError for an unknown optimizer, and for a model that no graph can hold.
    """
    rule = optimizer_rule(optimizer)
    subject.model.to(device)
    state = warmed_state(subject, rule, device, seed)
    traced = trace_step(subject, rule, state)
    with state.seeded():
        program = Lowering(traced, state).lower()
    needs = run_in_order(program, state, range(len(program.operations))).needs
    graph = graph_of(program, needs, name, notes)
    return CapturedStep(graph, program, state, run_eager(subject, rule, state))


def graph_of(program: Program, needs: dict[int, int], name: str, notes: dict) -> TrainingGraph:
    """Return a program's graph. `needs`: bytes allocated while each operation ran, of which its results are a part."""
    made = [0] * len(program.operations)
    for storage in program.storages:
        made[storage.producer] += storage.size
    works = [max(needs[place] - own, 0) for place, own in enumerate(made)]
    rows = zip(program.operations, phases(program), works, strict=True)
    return training_graph(
        name,
        [(node.name, str(node.target), phase, work) for node, phase, work in rows],
        [(each.size, each.producer, each.kept, each.users) for each in program.storages],
        list(program.edges),
        notes,
    )  # fmt: skip
