"""What callers in Python give: settings in SI units, costs, traces; brought into the forms that commands use."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypedDict

import numpy as np

from moe_replay.simulate.config.costs import CostModel, read_costs, table_for
from moe_replay.simulate.config.memory_config import MemoryConfig
from moe_replay.simulate.policies.halves import ALL
from moe_replay.simulate.policies.memory.expert_worth import check_sizes
from moe_replay.simulate.policies.memory.knowledge_source import NONE, Lesson, learns, lesson_of, other
from moe_replay.simulate.sweeps.axes import FIELDS, typed
from moe_replay.traces.command_line.number_limits import whole_ns
from moe_replay.traces.errors import InputError, unknown_name
from moe_replay.traces.file.trace_file import load_trace
from moe_replay.traces.selections import Trace
from moe_replay.traces.shipped import found_by_name, shipped_costs

TIMES = {"timeout_s": "timeout_ns", "link_latency_s": "link_latency_ns"}  # seconds in Python, whole ns in a run


class Settings(TypedDict, total=False):
    """What a run may be told; what is left out has the default of `python -m simulate sweep`.

    scheduler, queue_size (members of an expert's batch, B), dense_queue_size, timeout_s (a queue's head waits at most
    so long), max_step (lockstep: most passes in a step); arrivals, in_flight (closed loop: sequences), rate_per_s
    (Poisson: sequences per second) or load (its share of the capacity at the largest queue_size), speed (recorded
    arrivals: so many times as fast); k (experts per token), sequences (how many to serve),
    dense (with dense blocks), devices, placement.

    Any of these brings an expert memory along: cache (a policy), slots (per layer, or a tuple with one number for
    each), scope, miss, prefetch, look_ahead, filled, period (passes), link, link_latency_s, link_bytes_per_s,
    expert_bytes, host_factor, asks.

    links (a machine's name or a file) links devices, in lockstep unless scheduler says queues: nodes, micro_batches
    (lockstep), mode, unit, split, homes, dispatch_bytes, combine_bytes, shared_experts (that run beside messages).
    `moe_replay.simulate.config` says what the values mean.
    """

    scheduler: str
    queue_size: int
    dense_queue_size: int | None
    timeout_s: float | None
    max_step: int | None
    arrivals: str
    in_flight: int | None
    rate_per_s: float | None
    load: float | None
    speed: float
    k: int | None
    sequences: int | None
    dense: bool
    devices: int
    placement: str
    cache: str
    slots: int | tuple[int, ...]
    scope: str
    miss: str
    prefetch: str
    look_ahead: int
    filled: bool
    period: int | None
    link: str
    link_latency_s: float
    link_bytes_per_s: float
    expert_bytes: int
    host_factor: float
    asks: str
    links: str | None
    nodes: int
    micro_batches: int
    shared_experts: int
    mode: str
    unit: str
    split: str
    homes: str
    dispatch_bytes: int
    combine_bytes: int


def axes_of(settings: dict[str, list]) -> dict[str, list]:
    """Return {axis: values} as a sweep has them; InputError for an unknown setting or a value of another type."""
    known = Settings.__annotations__
    axes = {}
    for name, values in settings.items():
        if name not in known:
            raise unknown_name("setting", name, known)
        if not values:
            raise InputError(f"{name} has no values; allowed: one or more")
        axes[TIMES.get(name, name)] = [axis_value(name, value) for value in values]
    return axes


def axis_value(name: str, value: object) -> object:
    """Return a setting's value in the type of its axis, seconds as whole ns."""
    value = value.item() if isinstance(value, np.generic) else value
    axis = TIMES.get(name)
    if axis is not None and value is not None:
        if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
            raise InputError(f"{name} is {value!r}, allowed: seconds >= 0")
        return whole_ns(name, value, 1e9)
    if value is None and "None" in FIELDS[axis or name]:
        return None
    if isinstance(value, tuple):
        value = list(value)
    elif isinstance(value, str) != FIELDS[name].startswith("str"):
        raise InputError(f"{name} is {value!r}, allowed: {FIELDS[name]}")
    return typed(name, value)


def several(values: object) -> list:
    """Return the values of an argument that takes one or several; a tuple is one value, slots of several layers."""
    if isinstance(values, list | range | np.ndarray):
        return list(values)
    return [values]


def opened(trace: Trace | Path | str) -> Trace:
    """Return a trace, read where it is given as a file."""
    return trace if isinstance(trace, Trace) else load_trace(trace)


@dataclasses.dataclass(frozen=True)
class Costs:
    """Where costs come from: a table (or a folder of them) at `path`, or `affine`: `A,B` in ns, as in commands."""

    path: Path | None
    affine: str | None
    resample: bool

    def model(self, memory: MemoryConfig | None) -> CostModel:
        """Return the costs of runs that keep their experts so; InputError where there are none."""
        return read_costs(table_for(self.path, memory), self.affine, self.resample)


def costs_of(costs: Path | str | tuple[float, float], resample: bool) -> Costs:
    """Return where costs come from: a file, a folder or a name that is shipped, or (s per batch, s per token)."""
    if isinstance(costs, str | Path):
        return Costs(found_by_name(Path(costs), "cost table", shipped_costs()), None, resample)
    numbers = isinstance(costs, tuple | list) and all(isinstance(each, int | float) for each in costs)
    if not numbers or len(costs) != 2 or not all(each >= 0 for each in costs):
        raise InputError(f"costs is {costs!r:.60}, allowed: a file, a name, or (seconds per batch, seconds per token)")
    return Costs(None, ",".join(repr(round(each * 1e9, 6)) for each in costs), resample)  # 20e-6 s are 20000 ns


def learned_from(trace: Trace, known: Trace | Path | str | None, needs: Iterable[str]) -> Lesson:
    """Return where policies with these needs learn; `known` is a trace, its file, `hindsight`, or None: a first half.

    InputError for a trace of a model of another size.
    """
    needs = set(needs)
    if not isinstance(known, Trace):
        return lesson_of(trace, None if known is None else str(known), needs)
    if not learns(needs):
        return Lesson(trace, ALL, NONE)
    check_sizes(Path("known"), known, trace)
    return other(trace, known, "known")


def bytes_of_expert(trace: Trace, costs: Costs) -> Callable[[], int]:
    """Return what a sweep asks where no axis gives the bytes of an expert: the cost table's, or the trace's."""

    def found() -> int:
        table = costs.model(None).table if costs.path is not None and costs.path.is_file() else None
        size = (table and table.header.get("expert_bytes")) or trace.header.model.expert_bytes
        if size is None:
            raise InputError("the trace does not say how many bytes an expert has; allowed: expert_bytes")
        return size

    return found
