"""What is compiled, said once: every rule that the compiled engine has, with the number by which its code knows it.

A rule is known by itself, its class or function, wherever the tables of names have it: a subclass, or another
rule under its name, is not compiled. Placements are not among them, because both engines are given the map that they
make beforehand. The numbers are in `rule_numbers`.
"""

from __future__ import annotations

from collections.abc import Mapping

from moe_replay.simulate.compiled import rule_numbers
from moe_replay.simulate.config.costs import Affine, MeanCosts
from moe_replay.simulate.config.run_config import RunConfig
from moe_replay.simulate.policies import arrivals
from moe_replay.simulate.policies.lockstep import Lockstep
from moe_replay.simulate.policies.placement import PLACEMENTS
from moe_replay.simulate.policies.queueing import QueueScheduler
from moe_replay.traces.errors import InputError

COMPILED: dict[str, Mapping[object, int]] = {
    "scheduler": {QueueScheduler: rule_numbers.QUEUES, Lockstep: rule_numbers.LOCKSTEP},
    "arrivals": {
        arrivals.all_at_once: rule_numbers.AT_TIMES,
        arrivals.poisson: rule_numbers.AT_TIMES,
        arrivals.recorded: rule_numbers.AT_TIMES,
        arrivals.closed: rule_numbers.CLOSED,
        arrivals.steps: rule_numbers.STEPS,
    },
    "cache policy": rule_numbers.CACHE_NUMBERS,
    "prefetcher": rule_numbers.PREFETCHER_NUMBERS,
    "miss handling": {
        "load": rule_numbers.LOAD,
        "block": rule_numbers.BLOCK,
        "host": rule_numbers.HOST,
        "redirect": rule_numbers.REDIRECT,
        "skip": rule_numbers.SKIP,
    },
    "link": {
        "fifo": rule_numbers.ONE_AT_A_TIME,
        "wide": rule_numbers.ALL_AT_ONCE,
        "free-prefetch": rule_numbers.FREE_PREFETCH,
    },
    "scope": {"layer": rule_numbers.PER_LAYER, "global": rule_numbers.ONE_FOR_ALL},
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
