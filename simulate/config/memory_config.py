"""How a run keeps its experts: which cache, what a miss does, and the link that brings experts to their slots."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from moe_replay.simulate.policies.caches.cache_names import CACHES, SCOPES, filled_by, needs_loading
from moe_replay.simulate.policies.prefetchers.prefetcher_names import PREFETCHERS
from moe_replay.traces.command_line.number_limits import LAST_NS, MOST_SLOTS, checked, whole_ns
from moe_replay.traces.errors import InputError, unknown_name

HANDLINGS = ("load", "block", "host", "redirect", "skip")
MASKED = ("redirect", "skip")  # change which experts run
ASKS = ("stage", "turn")
LINKS = ("fifo", "wide", "free-prefetch")
LOWEST = {"look_ahead": 1, "link_latency_ns": 0, "expert_bytes": 1, "period": 1}
POSITIVE = ("link_bytes_per_s", "host_factor")
TABLES = (CACHES, PREFETCHERS)


def looks_ahead(prefetcher: str) -> bool:
    """Say whether a prefetcher may ask how many groups it may see ahead: the oracle, and a user's own."""
    return prefetcher == "oracle" or PREFETCHERS.is_own(prefetcher)


@dataclass(frozen=True)
class MemoryConfig:
    """Expert slots of every device, and what happens when an expert is not in one.

    `cache` names the policy, `slots` counts experts per layer (a tuple: one number for each), under scope `global` of
    all layers together. `miss`: `load` (other queues run meanwhile), `block` (the device waits), `host` (computed
    there, at `host_factor` times the device's cost), `redirect` (to the best resident recorded candidate) or `skip`.
    `asks`: what is to be loaded is asked for when its queue becomes ready (`stage`), or, as in executions whose records
    do not tell, when the device comes to it (`turn`: when that is depends on how experts are numbered).
    `filled` starts with the slots full of the most popular experts (importance: the most important). `period` makes
    SwapMoE's online scheduler choose residents anew after so many passes. A transfer takes `link_latency_ns` and
    `expert_bytes` / `link_bytes_per_s`; `link`: one transfer at a time (`fifo`), or, to tell causes apart, all at once
    (`wide`), with prefetches that take neither time nor the link (`free-prefetch`).
    Raises InputError for an unknown name, a value out of range, or a field without meaning in this combination.
    """

    cache: str = "lru"
    slots: int | tuple[int, ...] = 1
    scope: str = "layer"
    miss: str = "load"
    prefetch: str = "none"
    look_ahead: int = 1
    filled: bool = False
    period: int | None = None
    link_latency_ns: int = 0
    link_bytes_per_s: float = 1e9
    expert_bytes: int = 1
    link: str = "fifo"
    host_factor: float = 1.0
    asks: str = "stage"

    def __post_init__(self) -> None:
        CACHES.check(self.cache)
        PREFETCHERS.check(self.prefetch)
        for kind, name, known in (
            ("scope", self.scope, SCOPES), ("link", self.link, LINKS), ("miss handling", self.miss, HANDLINGS),
            ("time of asking", self.asks, ASKS),
        ):  # fmt: skip
            if name not in known:
                raise unknown_name(kind, name, known)
        for value in self.slots if isinstance(self.slots, tuple) else (self.slots,):
            if type(value) is not int or value < 1:
                raise InputError(f"slots is {self.slots!r}, allowed: integers >= 1")
            if value > MOST_SLOTS:
                raise InputError(f"slots is {value}, allowed: integers 1..{MOST_SLOTS:,}")
        for name, low in LOWEST.items():
            value = getattr(self, name)
            if value is None and name == "period":
                continue
            if type(value) is not int or value < low:
                raise InputError(f"{name} is {value!r}, allowed: integers >= {low}")
            checked(name, value)
        for name in POSITIVE:
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
                raise InputError(f"{name} is {value!r}, allowed: numbers > 0")
            checked(
                f"{name} is {value!r}", value, infinite=name == "link_bytes_per_s"
            )  # then a transfer takes its latency only
        self._check_transfer()
        self._check_combination()

    def _check_transfer(self) -> None:
        whole_ns("link_latency_ns", self.link_latency_ns, 1)
        took_s = self.expert_bytes / self.link_bytes_per_s
        if not self.link_latency_ns + took_s * 1e9 < LAST_NS:
            raise InputError(
                f"a transfer of {self.expert_bytes:,} bytes at {self.link_bytes_per_s:g} bytes/s takes {took_s:g} s, "
                f"allowed with its latency: less than {LAST_NS:,} ns"
            )

    def _check_combination(self) -> None:
        if self.miss in ("host", *MASKED) and not self.filled and self.prefetch == "none":
            raise InputError(f"miss {self.miss!r} loads nothing by itself: it needs filled slots or a prefetcher")
        if self.miss in MASKED and not self.filled and self.period is None:
            raise InputError(
                f"miss {self.miss!r} needs filled slots or a period: a prefetcher sees what runs, and nothing does"
            )
        if self.period is not None and (self.miss not in MASKED or self.cache != "importance"):
            raise InputError(
                f"period needs miss redirect or skip and cache 'importance'; it is {self.miss!r} with {self.cache!r}"
            )
        if self.miss in MASKED and needs_loading(self.cache):
            raise InputError(f"cache {self.cache!r} has no meaning where misses are not loaded ({self.miss})")
        if self.host_factor != 1.0 and self.miss != "host":
            raise InputError(f"host_factor has no meaning under miss {self.miss!r}, only under 'host'")
        if self.asks != "stage" and self.miss != "load":
            raise InputError(f"asks has no meaning under miss {self.miss!r}, only under 'load'")
        if self.look_ahead != 1 and not looks_ahead(self.prefetch):
            raise InputError(f"look_ahead has no meaning under prefetch {self.prefetch!r}, only under 'oracle'")

    @classmethod
    def from_dict(cls, fields: dict) -> MemoryConfig:
        """Return the memory in a record header; InputError if it has a field this version does not know.

        A user's own rule need not be there to read what it led to, only to run it again.
        """
        known = [field.name for field in dataclasses.fields(cls)]
        unknown = sorted(fields.keys() - set(known))
        if unknown:
            raise unknown_name("field of a run's memory", unknown[0], known)
        if isinstance(fields.get("slots"), list):
            fields = {**fields, "slots": tuple(fields["slots"])}
        if fields.get("miss", "load") == "load":  # what records did before they told
            fields = {"asks": "turn", **fields}
        own = {rules.field: rules.recorded(fields[rules.field]) for rules in TABLES if rules.field in fields}
        return cls(**{**fields, **own})

    def slots_of(self, caches: int) -> list[int]:
        """Return the slots of each of a device's caches; InputError where there are not as many numbers as caches."""
        if not isinstance(self.slots, tuple):
            return [self.slots] * caches
        if len(self.slots) != caches:
            raise InputError(f"slots has {len(self.slots)} numbers, allowed {caches}, one per cache (or one for all)")
        return list(self.slots)

    @property
    def transfer_ns(self) -> int:
        """How long one transfer takes, rounded once."""
        return self.link_latency_ns + round(self.expert_bytes / self.link_bytes_per_s * 1e9)

    @property
    def link_fields(self) -> dict:
        """What a transfer's time depends on: a cost table that measured transfers says over which link."""
        return {"latency_ns": self.link_latency_ns, "bytes_per_s": self.link_bytes_per_s, "bytes": self.expert_bytes}

    @property
    def hands_out(self) -> bool:
        """Whether an expert is accessed as soon as its queue becomes ready: misses have a server of their own."""
        return self.miss == "host" or (self.miss == "load" and self.asks == "stage")

    @property
    def is_masked(self) -> bool:
        """Whether it changes which experts run."""
        return self.miss in MASKED

    @property
    def plain(self) -> MemoryConfig:
        """The same with LRU, no prefetches and empty slots: what a run's order of accesses is taken from."""
        return dataclasses.replace(
            self, cache="lru", miss="block" if self.miss == "block" else "load", prefetch="none", look_ahead=1,
            filled=False, period=None, link="fifo", host_factor=1.0,
        )  # fmt: skip

    @property
    def needs(self) -> set[str]:
        """The fields of `knowledge.Knowledge` that its cache, its prefetcher and its filling ask for."""
        filled = {filled_by(self.cache)} if self.filled else set()
        return filled.union(CACHES[self.cache].needs, PREFETCHERS[self.prefetch].needs)

    @property
    def needs_order(self) -> bool:
        """Whether it asks for the accesses to come: an optimum or an oracle."""
        return "future" in CACHES[self.cache].needs or self.needs_groups

    @property
    def needs_groups(self) -> bool:
        """Whether it asks for the groups to come: an oracle."""
        return "groups" in PREFETCHERS[self.prefetch].needs

    @property
    def name(self) -> str:
        """The memory's part of a run's file name, equal for equal configurations only: `lru-C08-load-x2000000ns`."""
        numbers = self.slots if isinstance(self.slots, tuple) else (self.slots,)
        parts = [
            CACHES.file_part(self.cache),
            "C" + ".".join(f"{each:02d}" for each in numbers) + ("all" if self.scope == "global" else ""),
            self.miss,
        ]
        if self.prefetch != "none":
            mark = "+" if PREFETCHERS.is_own(self.prefetch) else ""  # parts it from a name that ends in a digit
            ahead = f"{mark}{self.look_ahead}" if self.look_ahead > 1 else ""
            parts.append(PREFETCHERS.file_part(self.prefetch) + ahead)
        parts += ["turn"] * (self.asks == "turn") + ["filled"] * self.filled
        parts += [f"p{self.period}"] * (self.period is not None)
        if self.host_factor != 1.0:
            parts.append(f"h{self.host_factor!r}")
        if self.link != "fifo":
            parts.append(self.link)
        return "-".join([*parts, f"x{self.link_latency_ns}ns+{self.expert_bytes}by{self.link_bytes_per_s:g}"])
