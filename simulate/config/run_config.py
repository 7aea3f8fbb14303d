"""The configuration of one run, executed or simulated: all that decides the order of its batches, but the costs."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from moe_replay.simulate.config.cluster_config import ClusterConfig
from moe_replay.simulate.config.memory_config import MemoryConfig
from moe_replay.simulate.policies.caches.cache_names import CACHES
from moe_replay.simulate.policies.halves import ALL, SERVED
from moe_replay.simulate.policies.placement import PLACEMENTS
from moe_replay.simulate.policies.prefetchers.prefetcher_names import PREFETCHERS
from moe_replay.simulate.policies.rule_names import Rules
from moe_replay.traces.command_line.number_limits import LARGEST, MOST, MOST_DEVICES, checked
from moe_replay.traces.errors import InputError, unknown_name

# Names alone: the rules themselves know the configuration.
SCHEDULERS = Rules.named(
    "scheduler", "scheduler", ("queues", "lockstep"), "moe_replay.simulate.policies.scheduler_names"
)
ARRIVALS = Rules.named(
    "arrivals", "arrivals", ("all", "closed", "poisson", "recorded", "steps"), "moe_replay.simulate.policies.arrivals"
)
TABLES = {rules.field: rules for rules in (SCHEDULERS, ARRIVALS, PLACEMENTS)}
STREAMS = {"sequences": 0, "arrivals": 1, "service": 2, "memory": 3}  # numbers that seeds are mixed with

ALLOWED = {
    "queue_size": (1, MOST), "dense_queue_size": (1, MOST), "timeout_ns": (0, LARGEST), "max_step": (1, MOST),
    "in_flight": (1, MOST), "k": (1, MOST), "sequences": (1, MOST), "seed": (0, LARGEST), "devices": (1, MOST_DEVICES),
}  # fmt: skip
SILENT = ("memory", "served", "cluster", "speed")
# A field that means nothing under a scheduler or an arrival process keeps its default there: equal runs, equal names.
# A user's own may ask for any of them.
ONLY_UNDER = {
    "queue_size": ("scheduler", "queues"), "dense_queue_size": ("scheduler", "queues"),
    "timeout_ns": ("scheduler", "queues"), "max_step": ("scheduler", "lockstep"),
    "in_flight": ("arrivals", "closed"), "rate_per_s": ("arrivals", "poisson"), "load": ("arrivals", "poisson"),
    "speed": ("arrivals", "recorded"),
}  # fmt: skip


@dataclass(frozen=True)
class RunConfig:
    """One run. The header of the run's records holds `as_dict` of it; `name` is their file name.

    `queue_size` is B of the expert queues, `dense_queue_size` that of dense queues (None: the same B), `max_step` the
    most passes in a step of lockstep (None: all that wait). Arrivals: `in_flight` sequences under `closed`,
    `rate_per_s` sequences per second under `poisson`; `load` only remembers which share of the capacity that rate was;
    `recorded` ones come `speed` times as fast.
    `k` None takes the model's own; `sequences` None serves the trace once; `seed` permutes the sequences and draws
    the arrivals, None keeps the trace's order. `served` is the part of the trace that is served: `all`, or the
    `second-half` where policies learned from the first (`simulate.policies.halves`). `dense` False leaves the dense
    blocks out.
    `memory` None: all experts are resident. `cluster` None: communication between devices is not modelled.
    Raises InputError for an unknown name, a value out of range, or a field without meaning in this combination.
    """

    scheduler: str = "queues"
    queue_size: int = 1
    dense_queue_size: int | None = None
    timeout_ns: int | None = None
    max_step: int | None = None
    arrivals: str = "all"
    in_flight: int | None = None
    rate_per_s: float | None = None
    load: float | None = None
    speed: float = 1.0
    k: int | None = None
    sequences: int | None = None
    seed: int | None = None
    dense: bool = True
    devices: int = 1
    placement: str = "contiguous"
    memory: MemoryConfig | None = None
    served: str = ALL
    cluster: ClusterConfig | None = None

    def __post_init__(self) -> None:
        for field, rules in TABLES.items():
            rules.check(getattr(self, field))
        if self.served not in SERVED:
            raise unknown_name("served", self.served, SERVED)
        if self.memory is not None and not isinstance(self.memory, MemoryConfig):
            raise InputError(f"memory is {self.memory!r}, allowed: a MemoryConfig, or None")
        for name, (low, high) in ALLOWED.items():
            self._check_integer(name, low, high)
        for name in ("rate_per_s", "load", "speed"):
            self._check_positive(name)
        if not isinstance(self.dense, bool):
            raise InputError(f"dense is {self.dense!r}, allowed: true, false")
        self._check_combination()
        self._check_cluster()

    def _check_integer(self, name: str, low: int, high: int) -> None:
        value, default = getattr(self, name), DEFAULTS[name]
        if value is None and default is None:
            return
        if isinstance(value, bool) or not isinstance(value, int) or value < low:
            raise InputError(f"{name} is {value!r}, allowed: integers >= {low}")
        if value > high:
            raise InputError(f"{name} is {value}, allowed: integers {low}..{high:,}")

    def _check_positive(self, name: str) -> None:
        value = getattr(self, name)
        if value is None and DEFAULTS[name] is None:
            return
        if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
            raise InputError(f"{name} is {value!r}, allowed: numbers > 0")
        checked(f"{name} is {value!r}", value)

    def _check_combination(self) -> None:
        for name, (kind, needed) in ONLY_UNDER.items():
            if not has_meaning(name, getattr(self, kind)) and getattr(self, name) != DEFAULTS[name]:
                raise InputError(f"{name} has no meaning under {kind} {getattr(self, kind)!r}, only under {needed!r}")
        if self.arrivals == "closed" and self.in_flight is None:
            raise InputError("arrivals 'closed' needs in_flight, the number of sequences in flight")
        if self.arrivals == "poisson" and (self.rate_per_s is None or self.seed is None):
            raise InputError("arrivals 'poisson' needs rate_per_s (sequences per second) and a seed to draw them")
        if self.arrivals == "recorded" and (self.sequences, self.seed) != (None, None):
            raise InputError(
                "arrivals 'recorded' serves each sequence once in its order, allowed: no sequences, no seed"
            )

    def _check_cluster(self) -> None:
        if self.cluster is None:
            return
        if not isinstance(self.cluster, ClusterConfig):
            raise InputError(f"cluster is {self.cluster!r}, allowed: a ClusterConfig, or None")
        self.cluster.check_devices(self.devices)
        if self.scheduler not in ("lockstep", "queues"):
            raise InputError(f"links are not modelled under scheduler {self.scheduler!r}, allowed: lockstep, queues")
        if self.scheduler == "queues":
            self.cluster.check_queues()
        if self.memory is not None:
            raise InputError("links and expert memory together are not modelled, allowed: one of them")

    @classmethod
    def from_dict(cls, fields: dict) -> RunConfig:
        """Return the configuration in a record header; InputError if it has a field this version does not know.

        A user's own rule need not be there to read what it led to, only to run it again.
        """
        unknown = sorted(fields.keys() - DEFAULTS.keys())
        if unknown:
            raise unknown_name("field of a run's configuration", unknown[0], DEFAULTS)
        memory = fields.get("memory")
        own = {field: rules.recorded(fields[field]) for field, rules in TABLES.items() if field in fields}
        cluster = fields.get("cluster")
        parts = {
            "memory": memory and MemoryConfig.from_dict(memory), "cluster": cluster and ClusterConfig.from_dict(cluster)
        }  # fmt: skip
        return cls(**{**fields, **own, **parts})

    def as_dict(self) -> dict:
        """Return the fields; those of SILENT only where they say something: headers were written without them."""
        silent = [name for name in SILENT if getattr(self, name) == DEFAULTS[name]]
        fields = {name: value for name, value in dataclasses.asdict(self).items() if name not in silent}
        if self.memory is None:
            return fields
        if isinstance(self.memory.slots, tuple):
            fields["memory"]["slots"] = list(self.memory.slots)  # as it comes back from a header
        return fields

    @property
    def rules(self) -> list[tuple[Rules, str]]:
        """The rules that it names: (table, name) of each."""
        of_memory = [(CACHES, self.memory.cache), (PREFETCHERS, self.memory.prefetch)] if self.memory else []
        return [(rules, getattr(self, field)) for field, rules in TABLES.items()] + of_memory

    @property
    def own_rules(self) -> dict[str, str]:
        """A digest of the source of every rule of a user's own; InputError for one that is not there."""
        return {name: rules.digest(name) for rules, name in self.rules if rules.is_own(name)}

    @property
    def runs_in_order(self) -> bool:
        """Whether the experts of a layer run one after another, ascending, each when its own weights are there."""
        return SCHEDULERS[self.scheduler].in_order

    def generator(self, stream: str) -> np.random.Generator:
        """Return the generator of one of the independent streams `STREAMS` of this seed.

        Streams do not touch each other: another arrival rate or queue size meets the same draws (common random
        numbers), so that differences between configurations are not differences between draws.
        """
        return np.random.default_rng([self.seed or 0, STREAMS[stream]])

    @property
    def name(self) -> str:
        """The run's file name, equal for equal configurations only, such as `queues-B008-closed512-k4-n3000-s0`."""
        parts = [*self._scheduler_parts(), self._arrival_part()]
        for letter, value in (("k", self.k), ("n", self.sequences), ("s", self.seed)):
            if value is not None:
                parts.append(f"{letter}{value}")
        if self.served != ALL:
            parts.append(self.served)
        if not self.dense:
            parts.append("nodense")
        if self.devices > 1 or self.placement != DEFAULTS["placement"]:
            parts.append(f"D{self.devices}{PLACEMENTS.file_part(self.placement)}")
        if self.memory is not None:
            parts.append(self.memory.name)
        if self.cluster is not None:
            parts.append(self.cluster.name)
        return "-".join(parts)

    def _scheduler_parts(self) -> list[str]:
        if self.scheduler == "lockstep":
            return ["lockstep", "Sall" if self.max_step is None else f"S{self.max_step}"]
        parts = [SCHEDULERS.file_part(self.scheduler), f"B{self.queue_size:03d}"]
        if self.dense_queue_size is not None:
            parts.append(f"dense{self.dense_queue_size:03d}")
        if self.timeout_ns is not None:
            parts.append(f"timeout{self.timeout_ns}ns")
        if self.max_step is not None:
            parts.append(f"S{self.max_step}")
        return parts

    def _arrival_part(self) -> str:
        if self.arrivals == "closed":
            return f"closed{self.in_flight}"
        if self.arrivals == "poisson":
            return f"poisson{two_decimals(self.load)}" if self.load is not None else f"poisson{self.rate_per_s!r}ps"
        speed = None if self.speed == DEFAULTS["speed"] else self.speed
        # Under recorded arrivals the last one; a user's own process may ask for any of them.
        fields = {"N": self.in_flight, "R": self.rate_per_s, "L": self.load, "x": speed}
        asked = [f"{letter}{value!r}" for letter, value in fields.items() if value is not None]
        return "-".join([ARRIVALS.file_part(self.arrivals), *asked])


DEFAULTS = {field.name: field.default for field in dataclasses.fields(RunConfig)}


def has_meaning(field: str, rule: str) -> bool:
    """Say whether a field of `ONLY_UNDER` means something under a scheduler or an arrival process."""
    kind, needed = ONLY_UNDER[field]
    return rule == needed or TABLES[kind].is_own(rule)


def two_decimals(value: float) -> str:
    """Return a number with two decimals, or with all of them where two would lose something."""
    return f"{value:.2f}" if float(f"{value:.2f}") == value else repr(value)
