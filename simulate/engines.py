"""The one door to the engines: `simpy`, the readable reference, and `compiled`, equal to it to the nanosecond."""

from __future__ import annotations

from simulate.costs import Cost
from simulate.engine import simulate as simulate_by_simpy
from simulate.policies.config import RunConfig
from simulate.policies.memory.known import Known
from simulate.policies.workload import Workload
from traces.errors import InputError, unknown_name
from traces.run_records import RunRecords

ENGINES = ("auto", "simpy", "compiled")


def engine_for(engine: str, config: RunConfig, cost: Cost) -> str:
    """Return which engine runs a configuration, `simpy` or `compiled`.

    `auto` takes the compiled one wherever it has all that the run asks for. InputError for an unknown engine, or where
    `compiled` is asked for what it does not have.
    """
    if engine not in ENGINES:
        raise unknown_name("engine", engine, ENGINES)
    lacking = not_compiled(config, cost)
    if engine == "compiled" and lacking:
        raise InputError(f"engine 'compiled' has no {lacking}; allowed: --engine simpy or auto")
    return "simpy" if engine == "simpy" or lacking else "compiled"


def not_compiled(config: RunConfig, cost: Cost) -> str:
    """Return what a run asks for that the compiled engine does not have, empty where it has all."""
    return "queues yet"


def simulate(
    workload: Workload, config: RunConfig, cost: Cost, header: dict, known: Known | None = None,
    transfer_ns: int | None = None, engine: str = "auto",
) -> RunRecords:  # fmt: skip
    """Return the records of a workload served under a configuration; their header says which engine ran.

    Arguments as in `simulate.engine.simulate`; `engine` as in `engine_for`.
    """
    chosen = engine_for(engine, config, cost)
    return simulate_by_simpy(workload, config, cost, {**header, "engine": chosen}, known, transfer_ns)
