"""What the page's processes are asked; each opens the files itself and keeps them open."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from moe_replay.analysis.estimates.routing_maps import DriftMap, LoadMap, drift_map, load_map
from moe_replay.simulate.answers.device_answer import DeviceAnswer, placed_loads
from moe_replay.simulate.answers.miss_answer import MissAnswer, counted
from moe_replay.simulate.answers.run_answer import Axes, RunAnswer, answered
from moe_replay.simulate.answers.time_answer import TimeAnswer, explained
from moe_replay.simulate.answers.trace_facts import TraceFacts, facts_of
from moe_replay.simulate.answers.trace_part import QUICK
from moe_replay.simulate.sweeps.shared_inputs import Study, open_trace, stamped

__all__ = ["QUICK", "about", "devices", "misses", "routing", "run", "time"]
SEED = 0  # of controls that are drawn


@dataclass(frozen=True)
class RoutingAnswer:
    """The load of every expert of one trace beside its control, and a layer's over time; the layers' own numbers."""

    layer_ids: tuple[int, ...]
    loads: LoadMap
    drift: DriftMap
    layer: int


def about(study: Study, expert_bytes: int | None) -> TraceFacts:
    """Return what the page's sliders need to know."""
    return facts_of(study, expert_bytes)


def run(study: Study, axes: Axes, seed: int, most: int | None) -> RunAnswer:
    """Return one seed of one configuration, of at most `most` selections (None: the whole trace)."""
    return answered(study, axes, seed, most)


def misses(study: Study, policies: tuple[str, ...], k: int, grouping: str, most: int | None) -> MissAnswer:
    """Return miss curves of at most `most` selections (None: the whole trace)."""
    return counted(study, policies, k, grouping, most)


def time(study: Study, axes: Axes, most: int | None) -> TimeAnswer:
    """Return where the time of a pass goes."""
    return explained(study, axes, SEED, most)


def devices(study: Study, count: int, redundant: int) -> DeviceAnswer:
    """Return the load of so many devices under each placement."""
    return placed_loads(study, count, redundant)


def routing(path: Path, layer: int) -> RoutingAnswer:
    """Return the maps of a trace; layers beyond its last are its last."""
    trace = open_trace(*stamped(path), False).trace
    layer = min(layer, trace.L - 1)
    rng = np.random.default_rng(SEED)
    return RoutingAnswer(tuple(trace.header.model.layer_ids), load_map(trace, rng), drift_map(trace, layer, rng), layer)
