"""Lockstep under open arrivals: never idle at loads that it bears with ease, and overloaded when its backlog grows."""

import dataclasses

import numpy as np
import pytest
from worlds import config

from moe_replay.simulate.config.costs import affine
from moe_replay.simulate.config.workload import build_workload
from moe_replay.simulate.engines.compiled_engine import simulate
from moe_replay.traces.runs.run_statistics import run_statistics

SEQUENCES, PASSES = 400, 10


def judged(load, seed):
    """Return the statistics of passes of one token over 4 experts, which no step serves at less than 100 ns each."""
    experts_TLK = np.random.default_rng(0).integers(0, 4, (SEQUENCES * PASSES, 1, 1))
    rows = np.arange(SEQUENCES * PASSES)
    workload = build_workload(experts_TLK, rows // PASSES, rows, 4)
    run = config(scheduler="lockstep", arrivals="poisson", rate_per_s=load * 1e7 / PASSES, seed=seed)
    return run_statistics(simulate(workload, run, affine(1000, 100), {"config": dataclasses.asdict(run)}))


@pytest.mark.parametrize("load", [0.3, 0.5])
def test_a_machine_that_is_never_idle_and_bears_its_load_is_not_called_overloaded(load):
    found = [judged(load, seed) for seed in range(8)]
    assert [each.status for each in found] == ["ok"] * 8


def test_a_backlog_that_grows_is_found():
    found = [judged(1.3, seed) for seed in range(8)]
    assert [each.status for each in found] == ["unstable"] * 8
