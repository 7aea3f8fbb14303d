"""Small worlds: a workload from nested lists, a run at given arrival times, the log of its batches."""

import numpy as np

from moe_replay.simulate.config.run_config import RunConfig
from moe_replay.simulate.config.workload import build_workload
from moe_replay.simulate.engines.simpy_engine import Engine
from moe_replay.simulate.policies.arrivals import Arrivals


def world(experts, E, sequence=None, step=None, sequences=None, rng=None):
    """Return a workload. `experts[t][l]` lists the experts of token t in layer l; rows are filled up with -1."""
    most = max(1, max(len(row) for token in experts for row in token))
    experts_TLK = np.array([[list(row) + [-1] * (most - len(row)) for row in token] for token in experts], np.int16)
    sequence = range(len(experts)) if sequence is None else sequence
    step = [0] * len(experts) if step is None else step
    sequence_T, step_T = np.array(list(sequence), np.int32), np.array(list(step), np.int32)
    return build_workload(experts_TLK, sequence_T, step_T, E, sequences, rng)


def config(**fields):
    """Return a configuration without a dense part, unless asked otherwise."""
    return RunConfig(**{"dense": False, **fields})


def run(workload, settings, cost, arrival_ns=None):
    """Return the replay of a finished run; `arrival_ns` overrides when the sequences arrive."""
    engine = Engine(workload, settings, cost)
    if arrival_ns is not None:
        engine.replay.arrivals = Arrivals(workload, np.array(arrival_ns))
    engine.run()
    return engine.replay


def records(workload, settings, cost, arrival_ns=None):
    """Return the record tables of a finished run."""
    return run(workload, settings, cost, arrival_ns).recording.records({"config": {}})


def log(workload, settings, cost, arrival_ns=None):
    """Return the batches as text: `start-end device layer.block members`, then `ready` and `forced` if they apply."""
    return [line(batch) for batch in run(workload, settings, cost, arrival_ns).recording.batches]


def line(batch):
    """Return one line of a log."""
    text = f"{batch.start_ns}-{batch.end_ns} d{batch.device} {batch.layer}.{batch.block} {batch.members}"
    if batch.ready_ns != batch.start_ns:
        text += f" ready {batch.ready_ns}"
    return text + (" forced" if batch.forced else "")


def fixed(service_ns):
    """Return a cost that is the same for every batch."""
    return lambda layer, block, tokens: service_ns
