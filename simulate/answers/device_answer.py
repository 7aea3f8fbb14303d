"""Load of devices under several placements, as an answer: fitted on the first half of a trace, scored on the second."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from moe_replay.simulate.placing.fitted_parts import parts_of
from moe_replay.simulate.placing.part_scores import over_layers
from moe_replay.simulate.placing.placing_plan import PlacingPlan, placed
from moe_replay.simulate.placing.planner_names import replicates
from moe_replay.simulate.rebalancing.device_loads import device_loads, over_mean
from moe_replay.simulate.sweeps.shared_inputs import Study

PLANNERS_SHOWN = ("contiguous", "round-robin", "greedy", "lpt", "anti-correlation", "eplb")
ROWS = 256  # tokens of a batch, as `simulate place` takes them unasked


@dataclass(frozen=True)
class DeviceAnswer:
    """Loads over the mean load of a device [L, D], and the mean over layers of the heaviest's, by planner.

    `said` is what planners saw and what is scored.
    """

    over_mean_LD: dict[str, np.ndarray]
    heaviest: dict[str, float]
    said: str


def placed_loads(study: Study, devices: int, redundant: int) -> DeviceAnswer:
    """Return the load of every device under each of PLANNERS_SHOWN; numbers are those of `simulate place`.

    `redundant` slots hold replicas under planners that make any, and these share their expert's load equally.
    InputError as there.
    """
    trace = study.opened("trace").trace
    parts = parts_of(trace, "first-half", [], ROWS)
    plan = PlacingPlan(PLANNERS_SHOWN, devices, redundant=(redundant,), repair=True)
    made = placed(plan, parts)
    load_LE = parts.scored.profile.load_LE
    loads, heaviest = {}, {}
    for (name, extra), expert_LP in made.expert_LP.items():
        load_LD = device_loads(load_LE, expert_LP, devices)
        title = f"{name} + {extra}" if extra and replicates(name) else name
        loads[title] = load_LD / load_LD.mean(1, keepdims=True)
        heaviest[title] = over_layers(over_mean(load_LD))
    return DeviceAnswer(loads, heaviest, parts.said)
