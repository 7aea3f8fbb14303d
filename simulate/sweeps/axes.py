"""Axes: what is swept over, from options or a TOML file, made into every configuration that means something.

An axis is a field of RunConfig, of MemoryConfig or of ClusterConfig; with an axis of the second kind there is an expert
memory, with one of the third devices are linked. Seeds are
no axis: every configuration meets the same ones (common random numbers).
"""

from __future__ import annotations

import dataclasses
import math
import tomllib
from collections.abc import Callable
from itertools import product
from pathlib import Path

from moe_replay.simulate.config.memory_config import MemoryConfig
from moe_replay.simulate.config.memory_grid import MemoryGrid
from moe_replay.simulate.config.run_config import DEFAULTS as RUN_DEFAULTS
from moe_replay.simulate.config.run_config import ONLY_UNDER, RunConfig, has_meaning
from moe_replay.simulate.policies.rule_names import TABLES
from moe_replay.simulate.sweeps.cluster_axes import CLUSTER_FIELDS, LINKS, clusters_of
from moe_replay.traces.command_line.memory_room import CONFIGURATION, check_room
from moe_replay.traces.command_line.units import BANDWIDTH, SHARE, SIZE, Quantity, time_in
from moe_replay.traces.errors import InputError, unknown_name

# Axes by the ends of their names; a bare number is in the unit that the name bears.
UNITS = {"_bytes_per_s": dataclasses.replace(BANDWIDTH, bare=1), "_bytes": SIZE, "_ns": time_in("ns")}
# A memory and a cluster have axes of their own, the others follow from options.
NO_AXES = ("memory", "seed", "served", "cluster")
RUN_FIELDS = {each.name: each.type for each in dataclasses.fields(RunConfig) if each.name not in NO_AXES}
MEMORY_FIELDS = {each.name: each.type for each in dataclasses.fields(MemoryConfig)}
FIELDS = {**RUN_FIELDS, **MEMORY_FIELDS, **CLUSTER_FIELDS}
RESIDENT = "resident"  # as a cache: no expert memory at all
# What MemoryGrid combines, with its defaults.
MEMORY_DEFAULTS = {"cache": ["lru"], "slots": [1], "miss": ["load"], "prefetch": ["none"], "period": [None]}
# As in `simulate memory`: a link of 16 GB/s and 10 us, a host ten times as slow.
MEMORY_FIXED = {"link_bytes_per_s": [16e9], "link_latency_ns": [10_000], "host_factor": [10.0]}
MEMORY_ONLY_UNDER = {"look_ahead": ("prefetch", "oracle"), "host_factor": ("miss", "host"), "asks": ("miss", "load")}

Capacity = Callable[[int | None, int, bool, int, str], float]  # (k, B, dense, devices, placement) -> sequences per s


def read_axes(options: list[str], grid: Path | None) -> dict[str, list]:
    """Return {axis: values} of options `NAME=V1,V2` and of a TOML file of lists or single values.

    InputError for a name that is no axis or is given twice, for a value of another type, and where nothing is swept.
    """
    found: dict[str, list] = {}
    if grid is not None:
        for name, values in read_toml(grid).items():
            several = values if isinstance(values, list) else [values]
            found[name] = [typed(known_axis(name), value) for value in several]
    for option in options:
        name, equals, text = option.partition("=")
        if not equals:
            raise InputError(f"--axis: {option!r} is not allowed; allowed: NAME=V1,V2,...")
        if known_axis(name) in found:
            raise InputError(f"axis {name} is given twice; allowed: all its values in one place")
        found[name] = [typed(name, word) for word in text.split(",") if word]
    empty = [name for name, values in found.items() if not values]
    if empty or not found:
        raise InputError(f"axis {empty[0]} has no values" if empty else "nothing to sweep; allowed: --axis or --grid")
    return found


def read_toml(path: Path) -> dict:
    """Return what a TOML file holds."""
    try:
        return tomllib.loads(path.read_text())
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: no TOML file ({str(error)[:80]})") from None


def known_axis(name: str) -> str:
    """Return a name that is an axis; InputError otherwise."""
    if name == "seed":
        raise InputError("seed is no axis: --replications N gives every configuration the seeds 0..N-1")
    if name not in FIELDS:
        raise unknown_name("axis", name, FIELDS)
    return name


def typed(name: str, value: object) -> object:
    """Return a value of an axis in the type of its field, from text or as TOML gave it; `none` is None.

    Slots that differ between layers are `4.8.8`, in TOML a list.
    """
    kind = FIELDS[name]
    base = kind.split(" ")[0]
    if "None" in kind and value == "none":
        return None
    if "tuple" in kind and (isinstance(value, list) or "." in str(value)):
        return tuple(typed(name, each) for each in (value if isinstance(value, list) else value.split(".")))
    try:
        if isinstance(value, str) and (unit := unit_of(name)):
            return unit.parsed(value)
        if base == "bool":
            return {"true": True, "false": False}[str(value).lower()]
        if isinstance(value, bool) or (base == "int" and isinstance(value, float)):
            raise ValueError
        return {"int": int, "float": float, "str": str}[base](value)
    except (ValueError, TypeError, KeyError):
        allowed = unit_of(name).allowed() if unit_of(name) else kind
        raise InputError(f"axis {name}: {value!r} is not allowed; allowed: {allowed}") from None


def unit_of(name: str) -> Quantity | None:
    """Return in which units an axis takes values besides the one that its name bears; None: in no other."""
    if name == "load":
        return SHARE
    return next((unit for ending, unit in UNITS.items() if name.endswith(ending)), None)


def configs_of(
    axes: dict[str, list], seeds: list[int | None], capacity: Capacity, expert_bytes: Callable[[], int]
) -> dict[str, RunConfig]:
    """Return {name: configuration} of every combination that means something, for every seed.

    Fields that mean nothing in a combination are left at their defaults there, and combinations that are then the same
    are one. `capacity` turns a `load` into a rate, at the largest queue size; `expert_bytes()` is asked where a memory
    needs it and no axis gives it. InputError for an axis that means nothing in any of them.
    """
    runs = {name: values for name, values in axes.items() if name in RUN_FIELDS}
    runs |= brought_along(runs)
    if LINKS in axes and "scheduler" not in runs:
        runs["scheduler"] = ["lockstep"]
    check_used(runs, ONLY_UNDER)
    if "load" in runs and "rate_per_s" in runs:
        raise InputError("axes load and rate_per_s: a load is a rate; allowed: one of them")
    largest = max(runs.get("queue_size", [RUN_DEFAULTS["queue_size"]]))
    memories = memories_of({name: values for name, values in axes.items() if name in MEMORY_FIELDS}, expert_bytes)
    clusters = clusters_of({name: values for name, values in axes.items() if name in CLUSTER_FIELDS})
    check_room("the grid: points", math.prod(map(len, [*runs.values(), memories, clusters, seeds])), CONFIGURATION)
    found: dict[str, RunConfig] = {}
    for values in product(*runs.values()):
        fields = with_meaning(dict(zip(runs, values, strict=True)))
        if fields.get("load") is not None and clusters != [None]:
            raise InputError("load is a share of a capacity that is not known of linked devices, allowed: rate_per_s")
        if fields.get("load") is not None:
            settings = {**RUN_DEFAULTS, **fields}
            where = settings["devices"], settings["placement"]
            per_s = capacity(settings["k"], largest, settings["dense"], *where)
            fields["rate_per_s"] = fields["load"] * per_s
        for memory, cluster, seed in product(memories, clusters, seeds):
            seed = None if fields.get("arrivals") == "recorded" else seed
            if cluster is not None and "lockstep" in runs["scheduler"]:
                cluster = cluster.under(fields["scheduler"])  # two that only differ there are one run
            config = RunConfig(**fields, memory=memory, cluster=cluster, seed=seed)
            if found.setdefault(config.name, config) != config:
                raise InputError(f"two configurations would be called {config.name}; allowed: values that differ more")
    return found


def brought_along(axes: dict[str, list]) -> dict[str, list]:
    """Return the schedulers and arrival processes that other axes bring along where these are no axes themselves."""
    found = {}
    for kind in ("scheduler", "arrivals"):
        wanted = [ONLY_UNDER[name][1] for name in axes if ONLY_UNDER.get(name, ("",))[0] == kind]
        if kind not in axes and wanted:
            found[kind] = list(dict.fromkeys(wanted))
    return found


def check_used(axes: dict[str, list], only_under: dict[str, tuple[str, str]]) -> None:
    """Refuse an axis that no combination uses."""
    for name, (kind, needed) in only_under.items():
        if name in axes and not any(each == needed or is_own(kind, each) for each in axes.get(kind, ())):
            there = ", ".join(map(str, axes.get(kind, []))) or "the default"
            raise InputError(f"axis {name} has no meaning under {kind} {there}, only under {needed!r}")


def is_own(kind: str, name: str) -> bool:
    """Say whether the value of an axis is a user's own rule, which may ask for any field of its kind."""
    return kind in TABLES and TABLES[kind].is_own(name)


def with_meaning(fields: dict) -> dict:
    """Return the fields of one combination without those that mean nothing in it."""
    kinds = {**RUN_DEFAULTS, **fields}
    dropped = {name for name, (kind, _) in ONLY_UNDER.items() if not has_meaning(name, kinds[kind])}
    if kinds["arrivals"] == "recorded":
        dropped.add("sequences")
    return {name: value for name, value in fields.items() if name not in dropped}


def memories_of(axes: dict[str, list], expert_bytes: Callable[[], int]) -> list[MemoryConfig | None]:
    """Return the memories of every combination that means something; all experts resident where there is no axis."""
    if not axes:
        return [None]
    caches = axes.get("cache", MEMORY_DEFAULTS["cache"])
    found: list[MemoryConfig | None] = [None] if RESIDENT in caches else []
    rest = [cache for cache in caches if cache != RESIDENT]
    if not rest:
        if len(axes) > 1:
            raise InputError(f"axis {next(name for name in axes if name != 'cache')} has no meaning without a cache")
        return found
    check_used(axes, MEMORY_ONLY_UNDER)
    lists = {**MEMORY_DEFAULTS, **{name: axes[name] for name in MEMORY_DEFAULTS if name in axes}, "cache": rest}
    fixed = {**MEMORY_FIXED, **{name: values for name, values in axes.items() if name not in MEMORY_DEFAULTS}}
    if "expert_bytes" not in fixed:
        fixed["expert_bytes"] = [expert_bytes()]
    check_room("the grid: memories", math.prod(map(len, [*fixed.values(), *lists.values()])), CONFIGURATION)
    for values in product(*fixed.values()):
        grid = MemoryGrid(
            caches=lists["cache"], slots=lists["slots"], misses=lists["miss"], prefetchers=lists["prefetch"],
            periods=lists["period"], fixed=dict(zip(fixed, values, strict=True)),
        )  # fmt: skip
        found += [memory for memory in grid.memories() if memory not in found]
    return found
