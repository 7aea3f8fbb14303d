"""The one door to the engines: `simpy`, the readable reference, and `compiled`, equal to it to the nanosecond."""

from __future__ import annotations

from moe_replay.simulate.compiled.compiled_rules import not_compiled, numbers_of
from moe_replay.simulate.compiled.machine_code import nothing_collected
from moe_replay.simulate.config.costs import Cost
from moe_replay.simulate.config.run_config import RunConfig
from moe_replay.simulate.config.workload import Workload
from moe_replay.simulate.engines.simpy_engine import simulate as simulate_by_simpy
from moe_replay.simulate.policies.memory.memory_setup import Known
from moe_replay.traces.errors import unknown_name
from moe_replay.traces.runs.run_records import RunRecords

ENGINES = ("auto", "simpy", "compiled")


def engine_for(engine: str, config: RunConfig) -> str:
    """Return which engine runs a configuration, `simpy` or `compiled`.

    `auto` takes the compiled one wherever it has all that the run asks for. InputError for an unknown engine, a rule of
    a user's own that is not there, or where `compiled` is asked for what it does not have.
    """
    if engine not in ENGINES:
        raise unknown_name("engine", engine, ENGINES)
    lacking = not_compiled(config)  # imports a user's own rules
    if engine == "compiled":
        numbers_of(config)  # refuses what is not compiled, by name
    return "simpy" if engine == "simpy" or lacking else "compiled"


def simulate(
    workload: Workload, config: RunConfig, cost: Cost, header: dict, known: Known | None = None,
    transfer_ns: int | None = None, engine: str = "auto",
) -> RunRecords:  # fmt: skip
    """Return the records of a workload served under a configuration; their header says which engine ran.

    Arguments as in `simulate.engines.simpy_engine.simulate`; `engine` as in `engine_for`.
    """
    chosen = engine_for(engine, config)
    header = {**header, "engine": chosen}
    if chosen == "simpy":
        return simulate_by_simpy(workload, config, cost, header, known, transfer_ns)
    # Loading numba makes very many objects that stay: looking for garbage among them would be time for nothing.
    with nothing_collected():
        from moe_replay.simulate.engines import compiled_cluster, compiled_engine, compiled_queues  # import numba
    linked = {"lockstep": compiled_cluster, "queues": compiled_queues}
    compiled = compiled_engine if config.cluster is None else linked[config.scheduler]
    return compiled.simulate(workload, config, cost, header, known, transfer_ns)
