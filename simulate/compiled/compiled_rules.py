"""What is compiled, said once: every rule that the compiled engine has, with the number by which its code knows it.

A rule is known by itself, its class or function, wherever it stands in the tables of names: a subclass, or another
rule under its name, is not compiled. Placements do not stand here, because both engines are given the map that they
make beforehand. Numbers stand in `run_layout` and `memory_layout`, those of rules with a module of their own in
`rule_numbers`.
"""

from __future__ import annotations

from collections.abc import Mapping

from moe_replay.simulate.compiled import run_layout
from moe_replay.simulate.compiled.memory import memory_layout
from moe_replay.simulate.compiled.rule_numbers import CACHE_NUMBERS
from moe_replay.simulate.config.costs import Affine, MeanCosts
from moe_replay.simulate.config.run_config import RunConfig
from moe_replay.simulate.policies import arrivals
from moe_replay.simulate.policies.lockstep import Lockstep
from moe_replay.simulate.policies.placement import PLACEMENTS
from moe_replay.simulate.policies.prefetchers.co_activation import CoActivation
from moe_replay.simulate.policies.prefetchers.oracle import Oracle
from moe_replay.simulate.policies.prefetchers.popularity import Popularity
from moe_replay.simulate.policies.prefetchers.prefetcher import Prefetcher
from moe_replay.simulate.policies.prefetchers.previous_token import PreviousToken
from moe_replay.simulate.policies.queueing import QueueScheduler
from moe_replay.traces.errors import InputError

COMPILED: dict[str, Mapping[object, int]] = {
    "scheduler": {QueueScheduler: run_layout.QUEUES, Lockstep: run_layout.LOCKSTEP},
    "arrivals": {
        arrivals.all_at_once: run_layout.AT_TIMES,
        arrivals.poisson: run_layout.AT_TIMES,
        arrivals.recorded: run_layout.AT_TIMES,
        arrivals.closed: run_layout.CLOSED,
        arrivals.steps: run_layout.STEPS,
    },
    "cache policy": CACHE_NUMBERS,
    "prefetcher": {
        Prefetcher: memory_layout.NO_PREFETCH,
        PreviousToken: memory_layout.PREVIOUS_TOKEN,
        CoActivation: memory_layout.CO_ACTIVATION,
        Popularity: memory_layout.POPULARITY,
        Oracle: memory_layout.ORACLE,
    },
    "miss handling": {
        "load": memory_layout.LOAD,
        "block": memory_layout.BLOCK,
        "host": memory_layout.HOST,
        "redirect": memory_layout.REDIRECT,
        "skip": memory_layout.SKIP,
    },
    "link": {
        "fifo": memory_layout.ONE_AT_A_TIME,
        "wide": memory_layout.ALL_AT_ONCE,
        "free-prefetch": memory_layout.FREE_PREFETCH,
    },
    "scope": {"layer": memory_layout.PER_LAYER, "global": memory_layout.ONE_FOR_ALL},
}

# Equal batches of equal curves cost the same under these: an answer is kept. Any other cost is asked for every batch.
KEPT_COSTS = (Affine, MeanCosts)


def chosen(config: RunConfig) -> dict[str, tuple[str, object]]:
    """Return {kind: (name, rule)} of a configuration, with the kinds of `COMPILED`."""
    found = {rules.kind: (name, rules[name]) for rules, name in config.rules if rules is not PLACEMENTS}
    memory = config.memory
    if memory is None:
        return found
    words = {"miss handling": memory.miss, "link": memory.link, "scope": memory.scope}
    return found | {kind: (word, word) for kind, word in words.items()}


def not_compiled(config: RunConfig) -> str:
    """Return the first rule of a configuration that is not compiled, such as `scheduler 'mine'`; empty if all are."""
    lacking = (f"{kind} {name!r}" for kind, (name, rule) in chosen(config).items() if rule not in COMPILED[kind])
    return next(lacking, "")


def numbers_of(config: RunConfig) -> dict[str, int]:
    """Return {kind: number} of the rules of a configuration; InputError if one of them is not compiled."""
    if lacking := not_compiled(config):
        raise InputError(f"engine 'compiled' does not have {lacking}; allowed: --engine simpy or auto")
    return {kind: COMPILED[kind][rule] for kind, (_, rule) in chosen(config).items()}
