"""The stall rule: whose head waited longest is found without looking at every queue, and is the same queue."""

import numpy as np
import pytest

from moe_replay.simulate.config import run_config
from moe_replay.simulate.config.run_config import RunConfig
from moe_replay.simulate.config.workload import trace_workload
from moe_replay.simulate.engines.simpy_engine import simulate
from moe_replay.simulate.policies.queueing import QueueScheduler
from moe_replay.traces.synthetic import SyntheticSpec, synthetic_trace


class Scanning(QueueScheduler):
    """The same rules; a subclass looks at every queue."""


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("devices", "timeout_ns"), [(1, None), (2, None), (1, 700)])
def test_the_oldest_head_is_that_of_all_queues(monkeypatch, seed, devices, timeout_ns):
    draws = np.random.default_rng(seed)
    spec = SyntheticSpec(layers=3, experts=5, k=2, sequences=14, prompt=(1, 4), decode=(1, 6))
    trace = synthetic_trace(spec, draws).trace
    run = RunConfig(
        queue_size=int(draws.integers(2, 7)), arrivals="closed", in_flight=int(draws.integers(3, 9)), sequences=40,
        seed=seed, devices=devices, timeout_ns=timeout_ns,
    )  # fmt: skip

    def batches(rules):
        monkeypatch.setitem(run_config.SCHEDULERS, "queues", rules)
        durations = np.random.default_rng(seed)
        return simulate(trace_workload(trace, run), run, lambda *_: int(durations.integers(1, 400)), {}).batches

    found, scanned = batches(QueueScheduler), batches(Scanning)
    assert found["forced"].any() == (timeout_ns is None)
    for column, values in found.items():
        np.testing.assert_array_equal(values, scanned[column], column)
