"""The one door to the engines: `simpy`, the readable reference, and `compiled`, equal to it to the nanosecond."""

from __future__ import annotations

from simulate.costs import Cost
from simulate.engine import simulate as simulate_by_simpy
from simulate.policies.arrivals import ARRIVALS
from simulate.policies.config import SCHEDULERS, RunConfig
from simulate.policies.memory.known import Known
from simulate.policies.memory.named import CACHES
from simulate.policies.memory.prefetch.named import PREFETCHERS
from simulate.policies.workload import Workload
from traces.errors import InputError, unknown_name
from traces.run_records import RunRecords

ENGINES = ("auto", "simpy", "compiled")
BUILT_IN = "simulate.policies."


def engine_for(engine: str, config: RunConfig) -> str:
    """Return which engine runs a configuration, `simpy` or `compiled`.

    `auto` takes the compiled one wherever it has all that the run asks for. InputError for an unknown engine, or where
    `compiled` is asked for what it does not have.
    """
    if engine not in ENGINES:
        raise unknown_name("engine", engine, ENGINES)
    lacking = not_compiled(config)
    if engine == "compiled" and lacking:
        raise InputError(f"engine 'compiled' does not have {lacking}; allowed: --engine simpy or auto")
    return "simpy" if engine == "simpy" or lacking else "compiled"


def not_compiled(config: RunConfig) -> str:
    """Return what a run asks for that the compiled engine does not have, empty where it has all: a user's own rules."""
    chosen = [("scheduler", SCHEDULERS[config.scheduler]), ("arrival process", ARRIVALS[config.arrivals])]
    if config.memory is not None:
        chosen += [("cache policy", CACHES[config.memory.cache]), ("prefetcher", PREFETCHERS[config.memory.prefetch])]
    own = [f"{kind} {each.__name__}" for kind, each in chosen if not each.__module__.startswith(BUILT_IN)]
    return own[0] if own else ""


def simulate(
    workload: Workload, config: RunConfig, cost: Cost, header: dict, known: Known | None = None,
    transfer_ns: int | None = None, engine: str = "auto",
) -> RunRecords:  # fmt: skip
    """Return the records of a workload served under a configuration; their header says which engine ran.

    Arguments as in `simulate.engine.simulate`; `engine` as in `engine_for`.
    """
    chosen = engine_for(engine, config)
    header = {**header, "engine": chosen}
    if chosen == "simpy":
        return simulate_by_simpy(workload, config, cost, header, known, transfer_ns)
    from simulate.compiled.run import simulate as simulate_compiled  # imports llvmlite, and numba where nothing is kept

    return simulate_compiled(workload, config, cost, header, known, transfer_ns)
