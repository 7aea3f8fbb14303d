"""The cache policies by name, and how one is built for a layer or for all layers."""

from collections.abc import Sequence
from dataclasses import replace

from moe_replay.simulate.policies.caches.cache import Cache
from moe_replay.simulate.policies.memory.knowledge import MEANING, Future, Knowledge
from moe_replay.simulate.policies.rule_names import Rules, classes_in
from moe_replay.traces.errors import InputError, unknown_name

# A new policy is one module here and one line in this table; where a module of the same name is in `compiled.caches`,
# the compiled engine has it too.
MODULES = {
    "none": "none:NoCache",
    "static": "static:Static",
    "fifo": "fifo:FIFO",
    "lru": "lru:LRU",
    "lfu": "lfu:LFU",
    "lifo": "lifo:LIFO",
    "lifo-use": "lifo:LIFOByUse",
    "sieve": "sieve:Sieve",
    "s3fifo": "s3fifo:S3FIFO",
    "lfru": "lfru:LFRU",
    "least-stale": "least_stale:LeastStale",
    "random": "random_victim:RandomVictim",
    "importance": "importance:Importance",
    "belady": "belady:Belady",
    "belady-bypass": "belady:BeladyBypass",
}
SHIPPED: dict[str, type[Cache]] = classes_in(__package__, MODULES)
CACHES: Rules[type[Cache]] = Rules("cache", "cache policy", Cache, SHIPPED, methods=("victim", "wants"))
SCOPES = ("layer", "global")


def needs_loading(policy: str) -> bool:
    """Say whether a policy means something only where misses are loaded: an optimum, or no slots at all.

    A user's own, which is not imported for this, is refused when it is built if it needs what is not known.
    """
    return policy == "none" or (policy in CACHES and "future" in CACHES[policy].needs)


def filled_by(policy: str) -> str:
    """Return the field of Knowledge that says which experts fill slots before a run."""
    return "importance" if policy == "importance" else "popularity"


def key_ranges(scope: str, layers: int, experts: int) -> list[range]:
    """Return the keys of every cache of a device: one cache per layer, or one for all; InputError for another scope."""
    if scope not in SCOPES:
        raise unknown_name("scope", scope, SCOPES)
    if scope == "global":
        return [range(layers * experts)]
    return [range(layer * experts, (layer + 1) * experts) for layer in range(layers)]


def new_cache(policy: str, slots: int, keys: range, knowledge: Knowledge) -> Cache:
    """Return an empty cache of a named policy for the experts `keys`.

    Raises InputError for an unknown name, slots that are none or more than the experts, or knowledge that is missing.
    """
    CACHES.check(policy)
    if isinstance(slots, bool) or not isinstance(slots, int) or not 1 <= slots <= len(keys):
        raise InputError(f"slots is {slots!r}, allowed 1..{len(keys)}, the experts that share them")
    check_knowledge(policy, CACHES, knowledge)
    return CACHES[policy](slots, keys, knowledge)


def new_caches(
    policy: str, slots_C: Sequence[int], scope: str, knowledge: Knowledge, futures: list[Future] | None = None
) -> list[Cache]:
    """Return the caches of a device, one per layer or one for all; `slots_C` and `futures` hold one entry for each."""
    ranges = key_ranges(scope, knowledge.layers, knowledge.experts)
    return [
        new_cache(policy, slots_C[i], keys, replace(knowledge, future=futures[i] if futures else None))
        for i, keys in enumerate(ranges)
    ]


def check_knowledge(name: str, table: Rules, knowledge: Knowledge) -> None:
    """Refuse a policy that needs what is not known, and name those that do without."""
    missing = [need for need in table[name].needs if getattr(knowledge, need) is None]
    if missing:
        others = ", ".join(sorted(each for each, policy in table.items() if missing[0] not in policy.needs))
        raise InputError(f"{table.kind} {name!r} needs {MEANING[missing[0]]}; allowed without: {others}")
