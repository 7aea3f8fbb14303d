"""The prefetchers by name."""

from moe_replay.simulate.policies.caches.cache_names import check_knowledge
from moe_replay.simulate.policies.memory.knowledge import Knowledge
from moe_replay.simulate.policies.prefetchers.prefetcher import Prefetcher
from moe_replay.simulate.policies.rule_names import Rules, classes_in
from moe_replay.traces.errors import InputError

# A new prefetcher is one module here and one line in this table; where a module of the same name is in
# `compiled.prefetchers`, the compiled engine has it too.
MODULES = {
    "none": "prefetcher:Prefetcher",
    "previous-token": "previous_token:PreviousToken",
    "co-activation": "co_activation:CoActivation",
    "popularity": "popularity:Popularity",
    "oracle": "oracle:Oracle",
}
SHIPPED: dict[str, type[Prefetcher]] = classes_in(__package__, MODULES)
PREFETCHERS: Rules[type[Prefetcher]] = Rules("prefetch", "prefetcher", Prefetcher, SHIPPED, methods=("propose",))


def new_prefetcher(name: str, knowledge: Knowledge) -> Prefetcher:
    """Return a prefetcher that has seen nothing; InputError for an unknown name or knowledge that is missing."""
    PREFETCHERS.check(name)
    if knowledge.look_ahead < 1:
        raise InputError(f"look_ahead is {knowledge.look_ahead}, allowed >= 1")
    check_knowledge(name, PREFETCHERS, knowledge)
    return PREFETCHERS[name](knowledge)
