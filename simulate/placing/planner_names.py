"""The table of planners: a new one is one new module in `planners` and one entry here."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from functools import partial

import numpy as np

from moe_replay.simulate.placing.cluster_shape import ClusterShape
from moe_replay.simulate.placing.load_profile import LoadProfile
from moe_replay.simulate.placing.planners import (
    anti_correlation,
    balanced,
    contiguous,
    device_co_activation,
    eplb,
    exact,
    greedy,
    lpt,
    node_co_activation,
    round_robin,
    smartmoe,
)
from moe_replay.simulate.policies.rule_names import Rules
from moe_replay.traces.errors import InputError
from moe_replay.traces.placements.even_split import EMPTY

Planner = Callable[[LoadProfile, ClusterShape], np.ndarray]
PLANNERS: Rules[Planner] = Rules(
    "planner", "planner", None,
    {
        "contiguous": contiguous.plan, "round-robin": round_robin.plan, "lpt": lpt.plan, "greedy": greedy.plan,
        "anti-correlation": anti_correlation.plan, "smartmoe": smartmoe.plan, "eplb": eplb.plan, "exact": exact.plan,
        "co-activation": device_co_activation.plan, "node-co-activation": node_co_activation.plan,
        "balanced": balanced.plan,
    },
    arguments=("known", "shape"),
)  # fmt: skip
REPLICATING = ("eplb", "balanced")  # of the shipped ones; the others hold every expert once
BLIND = ("contiguous", "round-robin")  # look at no loads


def replicates(method: str) -> bool:
    """Say whether a planner makes something of redundant slots; a user's own may."""
    return method.partition("=")[0] in REPLICATING or PLANNERS.is_own(method.partition("=")[0])


def planner(method: str) -> Planner:
    """Return the planner of a method: a name, `MODULE:NAME` of a user's own, or `NAME=NUMBER` with its parameter.

    The parameter is a planner's third argument. InputError for an unknown name, and a number where there is none.
    """
    name, equals, text = method.partition("=")
    plan = PLANNERS[name]
    if not equals:
        return plan
    parameter = parameter_of(name)
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not (math.isfinite(number) and number >= 0):
        raise InputError(f"planner {method!r}: allowed: {name}=NUMBER, a number >= 0")
    return partial(plan, **{parameter: number})


def parameter_of(name: str) -> str:
    """Return the name of a planner's own parameter; InputError where it has none."""
    names = list(inspect.signature(PLANNERS[name]).parameters)
    if len(names) < 3:
        raise InputError(f"planner {name!r} takes no number; allowed: the name alone")
    return names[2]


def planned(method: str, known: LoadProfile, shape: ClusterShape) -> np.ndarray:
    """Return expert_LP int16 [L, P] of a method, -1 in empty slots; InputError if it is no placement.

    An expert twice on one device is let through: EPLB does that, and `useless_replicas` counts it.
    """
    made = np.asarray(planner(method)(known, shape))
    expected = (known.layers, shape.slots)
    if made.shape != expected or made.dtype.kind not in "iu":
        raise InputError(
            f"planner {method!r} gives {made.dtype} of shape {made.shape}, allowed: integers of shape {expected}"
        )
    if made.min() < EMPTY or made.max() >= known.experts:
        worst = made.min() if made.min() < EMPTY else made.max()
        raise InputError(
            f"planner {method!r} gives expert {worst}, allowed 0..{known.experts - 1}, -1 for an empty slot"
        )
    for layer, row in enumerate(made):
        absent = np.setdiff1d(np.arange(known.experts), row)
        if len(absent):
            raise InputError(f"planner {method!r} leaves expert {absent[0]} of layer {layer} without a slot")
    return made.astype(np.int16)
