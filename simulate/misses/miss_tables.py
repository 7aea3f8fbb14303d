"""Tables of misses against expert slots: every policy, every number of slots, summed over the caches or per layer."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from moe_replay.simulate.misses.access_streams import EMPTIED, flat_streams, group_stretches
from moe_replay.simulate.misses.compiled_replay import Accesses
from moe_replay.simulate.misses.flat_misses import flat_counts
from moe_replay.simulate.misses.group_misses import compiled_group_counts, group_counts, is_compiled
from moe_replay.simulate.policies.caches.cache import Counts
from moe_replay.simulate.policies.caches.cache_names import CACHES, filled_by, key_ranges, new_cache
from moe_replay.simulate.policies.memory.expert_worth import needs_of
from moe_replay.simulate.policies.memory.knowledge import Future, Knowledge
from moe_replay.simulate.policies.memory.knowledge_source import mark_of
from moe_replay.simulate.policies.prefetchers.prefetcher_names import PREFETCHERS, new_prefetcher
from moe_replay.traces.errors import InputError, unknown_name
from moe_replay.traces.selections import Trace

MODES = ("flat", "group")
Advance = Callable[[], None]


@dataclass(frozen=True)
class MissPlan:
    """What to count. `slots` empty: every number of them. `k` None: all recorded selections.

    Mode `group` is what an engine has, a layer's experts of a pass (or step) together; `flat` takes every selection for
    itself. Prefetchers and `grouping` (pass, step) have a meaning in group mode only. Caches are `emptied` never, or
    before every sequence. With `filled` slots begin full of the most popular (policy importance: most important)
    experts.
    Raises InputError for what cannot be.
    """

    policies: tuple[str, ...]
    slots: tuple[int, ...] = ()
    mode: str = "group"
    scope: str = "layer"
    prefetchers: tuple[str, ...] = ("none",)
    look_ahead: int = 1
    grouping: str = "pass"
    emptied: str = "never"
    filled: bool = False
    k: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for kind, name, known in (("mode", self.mode, MODES), ("emptied", self.emptied, EMPTIED)):
            if name not in known:
                raise unknown_name(kind, name, known)
        for rules, names in ((CACHES, self.policies), (PREFETCHERS, self.prefetchers)):
            for name in names:
                rules.check(name)
        if self.mode == "flat" and self.prefetchers != ("none",):
            raise InputError(f"prefetcher {self.prefetchers[0]!r} needs groups; allowed in mode 'group' only")

    def check(self, knowledge: Knowledge) -> tuple[int, ...]:
        """Return the numbers of slots; InputError if the model has fewer experts, or knowledge is missing."""
        keys = key_ranges(self.scope, knowledge.layers, knowledge.experts)[0]
        # The replay itself knows what comes, and draws: only what it is given beforehand can be missing.
        knowledge = replace(knowledge, future=Future(()), groups=(), rng=np.random.default_rng(self.seed))
        wanted = self.slots or tuple(range(1, len(keys) + 1))
        for policy in self.policies:
            for each in wanted:
                new_cache(policy, each, keys, knowledge)
        for prefetcher in self.prefetchers:
            new_prefetcher(prefetcher, knowledge)
        return wanted

    @property
    def own_rules(self) -> dict[str, str]:
        """A digest of the source of every rule of a user's own."""
        named = [(CACHES, name) for name in self.policies] + [(PREFETCHERS, name) for name in self.prefetchers]
        return {name: rules.digest(name) for rules, name in named if rules.is_own(name)}

    @property
    def columns(self) -> dict[str, str]:
        """What every row says of how it was counted."""
        return {
            "mode": self.mode, "grouping": self.grouping if self.mode == "group" else "selection", "scope": self.scope,
            "emptied": self.emptied, "filled": self.filled,
        }  # fmt: skip

    def needs(self) -> set[str]:
        """Return the fields of Knowledge that its policies, prefetchers and fillings ask for."""
        return {need for policy in self.policies for each in self.prefetchers for need in self.needs_of(policy, each)}

    def needs_of(self, policy: str, prefetcher: str) -> set[str]:
        """Return those that one row's ask for."""
        return needs_of((policy,), (prefetcher,)) | ({filled_by(policy)} if self.filled else set())


def miss_rows(trace: Trace, plan: MissPlan, knowledge: Knowledge, advance: Advance = lambda: None) -> list[dict]:
    """Return a row per policy, prefetcher and number of slots, and under each (scope `layer`) one per layer.

    `advance` is called `tasks` times. Raises InputError, before anything is counted, if the plan does not fit the
    trace or the knowledge.
    """
    knowledge = replace(knowledge, look_ahead=plan.look_ahead)
    wanted = plan.check(knowledge)
    count = flat_table if plan.mode == "flat" else group_table
    rows = []
    for (policy, prefetcher, each), per_cache in count(trace, plan, wanted, knowledge, advance):
        shared = {
            "policy": policy, "prefetcher": prefetcher, "slots": each, **plan.columns,
            "known": mark_of(plan.needs_of(policy, prefetcher), knowledge.learned),
        }  # fmt: skip
        rows.append({**shared, "layer": "all", **columns(sum(per_cache, Counts()))})
        if plan.scope == "layer":
            ids = trace.header.model.layer_ids
            rows += [{**shared, "layer": ids[i], **columns(counts)} for i, counts in enumerate(per_cache)]
    return rows


Keyed = Iterator[tuple[tuple[str, str, int], list[Counts]]]  # (policy, prefetcher, slots), counts of every cache


def tasks(plan: MissPlan, knowledge: Knowledge) -> int:
    """Return how many steps of about equal length there are, for a progress bar; InputError as `plan.check`."""
    wanted = plan.check(knowledge)
    if plan.mode == "flat":
        return len(plan.policies) * len(key_ranges(plan.scope, knowledge.layers, knowledge.experts))
    return len(plan.policies) * len(plan.prefetchers) * len(wanted)


def flat_table(trace: Trace, plan: MissPlan, wanted: tuple[int, ...], knowledge: Knowledge, advance: Advance) -> Keyed:
    """Yield the counts of flat mode; a curve gives all numbers of slots of one cache at once."""
    streams = flat_streams(trace, plan.k, plan.scope, plan.emptied)
    for policy in plan.policies:
        per_cache = []
        for i, stream in enumerate(streams):
            per_cache.append(flat_counts(stream, policy, wanted, knowledge, [plan.seed, i], plan.filled))
            advance()
        for at, each in enumerate(wanted):
            yield (policy, "none", each), [counts[at] for counts in per_cache]


def group_table(trace: Trace, plan: MissPlan, wanted: tuple[int, ...], knowledge: Knowledge, advance: Advance) -> Keyed:
    """Yield the counts of group mode; there every number of slots is a replay of its own.

    The compiled caches count where nothing is prefetched or filled and they have the policy, objects otherwise.
    """
    stretches = group_stretches(trace, plan.k, plan.grouping, plan.emptied)
    accesses = Accesses.of_groups(stretches, key_ranges(plan.scope, knowledge.layers, knowledge.experts))
    for policy in plan.policies:
        for prefetcher in plan.prefetchers:
            compiled = is_compiled(policy, prefetcher) and not plan.filled
            if compiled:
                counted = compiled_group_counts(accesses, policy, wanted, plan.scope, knowledge, plan.seed)
            for each in wanted:
                if compiled:
                    counts = next(counted)
                else:
                    how = (plan.scope, prefetcher, knowledge, plan.seed, plan.filled)
                    counts = group_counts(stretches, policy, each, *how)
                yield (policy, prefetcher, each), counts
                advance()


def columns(counts: Counts) -> dict:
    """Return the counted columns of a row. Every miss crosses the link; `declined` of them take no slot."""
    return {
        "accesses": counts.accesses, "hits": counts.hits, "misses": counts.misses,
        "miss_ratio": round(counts.misses / counts.accesses, 9) if counts.accesses else "",
        "loads": counts.loads, "declined": counts.declined, "prefetches": counts.prefetches,
        "prefetches_used": counts.prefetches_used, "prefetches_unused": counts.prefetches - counts.prefetches_used,
        "prefetches_dropped": counts.prefetches_dropped, "transfers": counts.transfers,
    }  # fmt: skip
