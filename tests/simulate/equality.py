"""Both engines side by side, the compiled one in its usual and in its checked form."""

import numpy as np
import pytest

from moe_replay.simulate.compiled.bounds import VARIABLE
from moe_replay.simulate.engines import compiled_cluster, compiled_engine, compiled_queues
from moe_replay.simulate.engines.simpy_engine import simulate as simulate_by_simpy


def simulate_compiled(workload, config, *others):
    """Return the records of the compiled engine."""
    linked = {"lockstep": compiled_cluster, "queues": compiled_queues}
    engine = compiled_engine if config.cluster is None else linked[config.scheduler]
    return engine.simulate(workload, config, *others)


def simulate_checked(*arguments):
    """Return the records of the compiled engine in its checked form, whose every access is held to its bounds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, "1")
        return simulate_compiled(*arguments)


def assert_equal(workload, config, cost, known=None, transfer_ns=None):
    """Run all; every column of passes, batches and transfers, and the header, must be equal."""
    arguments = (workload, config, cost, {"config": {}}, known, transfer_ns)
    expected = simulate_by_simpy(*arguments)
    for engine in (simulate_checked, simulate_compiled):
        assert_equal_records(engine(*arguments), expected, config.name)


def assert_equal_records(found, expected, name):
    """Check that two runs, of a configuration of this name, left equal records."""
    for kind in ("passes", "batches", "transfers", "messages"):
        columns, others = getattr(expected, kind), getattr(found, kind)
        assert (columns is None) == (others is None)
        for column in columns or ():
            np.testing.assert_array_equal(others[column], columns[column], err_msg=f"{name}: {kind}.{column}")
    assert found.header == expected.header
