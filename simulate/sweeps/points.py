"""One point of a sweep: a configuration simulated, and what its records come to."""

from __future__ import annotations

from moe_replay.simulate.config.costs import table_for
from moe_replay.simulate.config.run_config import RunConfig
from moe_replay.simulate.engines.engine_choice import simulate
from moe_replay.simulate.policies.memory.knowledge_source import mark_of
from moe_replay.simulate.policies.run_log import run_header
from moe_replay.simulate.sweeps.shared_inputs import Study
from moe_replay.traces.errors import InputError
from moe_replay.traces.runs.run_records import RunRecords
from moe_replay.traces.runs.sweep_table import SweepPoint, measured_point

Work = list[tuple[int, RunConfig]]  # points: the place in the grid, and the configuration


def carry_out(study: Study, config: RunConfig) -> dict:
    """Return the result of one point, as `SweepPoint.result` gives it; bad input to the point makes it a failed one.

    InputError only where a file cannot be opened or is not the one that the sweep began with.
    """
    study.opened("trace")
    study.cost_model(table_for(study.costs, config.memory))
    study.check_own(config)
    try:
        return measured_point("", simulated(study, config)).result()
    except InputError as error:
        return SweepPoint("", {}, reason=str(error)).result()
    except Exception as error:
        error.add_note(f"in the sweep's point {config.name}")
        raise


def simulated(study: Study, config: RunConfig) -> RunRecords:
    """Return the records of one point."""
    model, cost = study.costs_of(config)
    workload = study.workload(config)
    if config.dense:
        model.check_dense(workload.layers)
    header = run_header("simulated", config, model.device, study.opened("trace").digest, model.digest, {})
    known, transfer_ns = study.known_to(config), model.transfer_ns(config.memory)
    if config.memory is not None:
        header["known"] = mark_of(config.memory.needs, known.learned)
    return simulate(workload, config, cost, header, known, transfer_ns, study.engine)


def carry_out_all(study: Study, work: Work) -> list[tuple[int, dict]]:
    """Return (place in the grid, result) of several points, one after another."""
    return [(place, carry_out(study, config)) for place, config in work]
