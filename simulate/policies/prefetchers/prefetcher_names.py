"""The prefetchers by name."""

from simulate.policies.memory.knowledge import Knowledge
from simulate.policies.memory.named import check_knowledge
from simulate.policies.memory.prefetch.co_activation import CoActivation
from simulate.policies.memory.prefetch.oracle import Oracle
from simulate.policies.memory.prefetch.popularity import Popularity
from simulate.policies.memory.prefetch.prefetcher import Prefetcher
from simulate.policies.memory.prefetch.previous_token import PreviousToken
from simulate.policies.rules import Rules
from traces.errors import InputError

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
