"""Steps of equally many tokens, cut from what was recorded: the first of them planners know, the others are judged.

Letters: S steps, N tokens of a step, L layers, E experts, K experts of a token.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from moe_replay.simulate.placing.recorded_batches import counted_batches
from moe_replay.simulate.rebalancing.load_points import PHASES, LoadPoints, points_of_rows
from moe_replay.traces.errors import InputError, unknown_name
from moe_replay.traces.load_trace import LoadTrace
from moe_replay.traces.selections import Trace

EVERY = ("all", *PHASES)


@dataclass(frozen=True, eq=False)
class JudgedSteps:
    """Steps with their tokens in `points`; those from `first` on are judged, those before are what planners know."""

    points: LoadPoints
    first: int

    @property
    def steps(self) -> int:
        """Steps that are judged."""
        return len(self.points.load_SLE) - self.first

    @property
    def tokens(self) -> int:
        """Tokens of a step, N."""
        return self.points.experts_SNLK.shape[1]

    @property
    def experts(self) -> int:
        """Experts of a layer, E."""
        return self.points.load_SLE.shape[2]

    @property
    def layers(self) -> int:
        """MoE layers, L."""
        return self.points.load_SLE.shape[1]

    @property
    def judged_SLE(self) -> np.ndarray:
        """Selections of the judged steps."""
        return self.points.load_SLE[self.first :]

    @property
    def said(self) -> str:
        """What is judged, in words."""
        return f"{self.steps} steps of {self.tokens:,} tokens, planned from the {self.first} before"


def judged_steps(recorded: Trace | LoadTrace, name: str, phase: str, most: int, judged: int | None) -> JudgedSteps:
    """Return the steps of a trace's tokens in their order, or of a load trace whose tokens have one expert each.

    A step has `most` tokens, but at most half of all (of a phase, or `all`); the rest is dropped. `judged` is how many
    of the last steps are judged, None: half of them. InputError where there are fewer than two steps, for an unknown
    phase, and for counts that do not tell which experts a token has.
    """
    if phase not in EVERY:
        raise unknown_name("phase", phase, EVERY)
    if isinstance(recorded, LoadTrace):
        if phase != EVERY[0]:
            raise InputError(f"{name}: counts have no phase, allowed: --phase all")
        points = points_of_counts(recorded, name, most)
    else:
        wanted_T = np.ones(recorded.T, bool) if phase == EVERY[0] else recorded.phase_T == PHASES.index(phase)
        step = min(most, int(wanted_T.sum()) // 2)
        if step < 1:
            raise InputError(f"{name}: {wanted_T.sum()} tokens ({phase}), allowed: at least two steps")
        points = points_of_rows(recorded, name, phase, wanted_T, step)
    steps = len(points.load_SLE)
    first = steps // 2 if judged is None else steps - judged
    if not 1 <= first < steps:
        raise InputError(
            f"--judged is {judged}, allowed 1..{steps - 1} of {steps} steps: planners need one before them"
        )
    return JudgedSteps(points, first)


def points_of_counts(loads: LoadTrace, name: str, most: int) -> LoadPoints:
    """Return steps of whole iterations of a load trace: as many as have at most `most` tokens, one at least.

    With one expert a token the counts of a layer are its tokens. Which token goes where in the next layer is not
    recorded, nor on which device a token is at home: tokens are shuffled in every layer (seed 0), so that every home
    has its share of each expert. Where a layer counted fewer tokens than another some have no expert there.
    """
    if loads.model.used_k != 1:
        raise InputError(
            f"{name}: counts of a model with {loads.model.used_k} experts a token do not tell which ones a token has; "
            f"allowed: a trace of tokens, or loads of a model with one"
        )
    load_SLE = counted_batches(loads).profile.load_BLE
    if len(load_SLE) < 2:
        raise InputError(f"{name}: {len(load_SLE)} iterations with selections, allowed: at least two")
    together = min(max(1, most // int(load_SLE.sum(2).max())), len(load_SLE) // 2)
    load_SLE = summed(load_SLE, together)
    number_S = loads.iteration_S[loads.used_S][: len(load_SLE) * together : together]
    return LoadPoints(
        name=name, phase=EVERY[0], load_SLE=load_SLE, number_S=number_S, layer_ids=loads.model.layer_ids,
        expert_bytes=loads.model.expert_bytes, experts_SNLK=shuffled_tokens(load_SLE)[..., None],
    )  # fmt: skip


def widest_step(loads: LoadTrace, most: int, largest: int) -> int | None:
    """Return the tokens of the widest step of whole iterations, at most `most`, in which no expert has over `largest`.

    None where an iteration alone is wider than that.
    """
    load_SLE = counted_batches(loads).profile.load_BLE
    of_one = int(load_SLE.sum(2).max(initial=0))
    for together in range(min(most // of_one if of_one else 0, len(load_SLE) // 2), 0, -1):
        if summed(load_SLE, together).max() <= largest:
            return together * of_one
    return None


def summed(load_SLE: np.ndarray, together: int) -> np.ndarray:
    """Return the loads of steps of so many iterations each; what is left at the end is dropped."""
    steps = len(load_SLE) // together
    return load_SLE[: steps * together].reshape(steps, together, *load_SLE.shape[1:]).sum(1)


def shuffled_tokens(load_SLE: np.ndarray) -> np.ndarray:
    """Return experts_SNL int16 of tokens with these counts, in random order, -1 where a layer has fewer than others."""
    steps, layers, experts = load_SLE.shape
    expert_SNL = np.full((steps, int(load_SLE.sum(2).max()), layers), -1, np.int16)
    rng = np.random.default_rng(0)
    for step in range(steps):
        for layer in range(layers):
            counted = np.repeat(np.arange(experts, dtype=np.int16), load_SLE[step, layer])
            expert_SNL[step, : len(counted), layer] = counted
    return rng.permuted(expert_SNL, axis=1)
