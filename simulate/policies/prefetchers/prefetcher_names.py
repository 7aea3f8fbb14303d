"""The prefetchers by name."""

from moe_replay.simulate.policies.caches.cache_names import check_knowledge
from moe_replay.simulate.policies.memory.knowledge import Knowledge
from moe_replay.simulate.policies.prefetchers.co_activation import CoActivation
from moe_replay.simulate.policies.prefetchers.oracle import Oracle
from moe_replay.simulate.policies.prefetchers.popularity import Popularity
from moe_replay.simulate.policies.prefetchers.prefetcher import Prefetcher
from moe_replay.simulate.policies.prefetchers.previous_token import PreviousToken
from moe_replay.simulate.policies.rule_names import Rules
from moe_replay.traces.errors import InputError

PREFETCHERS: Rules[type[Prefetcher]] = Rules("prefetch", "prefetcher", Prefetcher, {
    "none": Prefetcher, "previous-token": PreviousToken, "co-activation": CoActivation, "popularity": Popularity,
    "oracle": Oracle,
}, methods=("propose",))  # fmt: skip


def new_prefetcher(name: str, knowledge: Knowledge) -> Prefetcher:
    """Return a prefetcher that has seen nothing; InputError for an unknown name or knowledge that is missing."""
    PREFETCHERS.check(name)
    if knowledge.look_ahead < 1:
        raise InputError(f"look_ahead is {knowledge.look_ahead}, allowed >= 1")
    check_knowledge(name, PREFETCHERS, knowledge)
    return PREFETCHERS[name](knowledge)
