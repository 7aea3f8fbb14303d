"""Operating points on real weights: dynamic K runs the simulator's batches, the same arrivals meet every point."""

import numpy as np
import pytest
import torch

from moe_replay.collect.execution.calibration import CalibrationPlan, measure_costs
from moe_replay.collect.execution.classifier_blocks import ClassifierCalibration, ClassifierOnWeights
from moe_replay.collect.recording.classifier_recording import record_trace
from moe_replay.collect.studies.delta_k_serving_study import ServingExperiment, serve
from moe_replay.simulate.config.run_config import RunConfig
from moe_replay.simulate.config.workload import trace_workload
from moe_replay.simulate.engines.simpy_engine import simulate
from moe_replay.traces.k_rules import KRule
from moe_replay.traces.runs.run_records import load_run, run_names

COLUMNS = ("layer", "block", "size", "tokens", "forced", "members_crc")


@pytest.fixture(scope="module")
def by_rule(trained, blobs, tmp_path_factory):
    """A model with the traces it gives under delta and under a fixed k = 3."""
    model, description, wide_open = trained
    third_to_best = np.median(wide_open.scores_TLK[:, :, 2] / wide_open.scores_TLK[:, :, 0])  # half the rows get three
    folder, cpu = tmp_path_factory.mktemp("rules"), torch.device("cpu")
    ways = {"delta": KRule("delta", float(third_to_best), 4), "k3": 3}
    recorded = {
        name: record_trace(model, description, blobs, k, 64, cpu, folder / f"{name}.trace.parquet")
        for name, k in ways.items()
    }
    return model, {
        name: ClassifierOnWeights(model, trace, torch.from_numpy(blobs.test_NF), blobs.test_label_N)
        for name, trace in recorded.items()
    }


def test_dynamic_k_runs_what_was_recorded_and_what_the_simulator_predicts(by_rule):
    _, points = by_rule
    real = points["delta"]
    counts_TL = (real.trace.experts_TLK >= 0).sum(2)
    assert counts_TL.min() < 3 <= counts_TL.max() <= 4  # the rule did choose
    config = RunConfig(queue_size=4, arrivals="closed", in_flight=40, sequences=200, seed=3)
    executed = real.execute(config, {"source": "executed"})
    simulated = simulate(trace_workload(real.trace, config), config, lambda *_: 1000, {})
    for column in COLUMNS:
        assert np.array_equal(executed.batches[column], simulated.batches[column]), column
    assert executed.header["largest_output_difference"] < 1e-4
    assert executed.header["gate_disagreements"] == 0


def test_every_point_meets_the_same_arrivals_and_a_second_call_runs_nothing_anew(by_rule, blobs, tmp_path):
    model, points = by_rule
    plan = CalibrationPlan(sizes=(1, 4, 8), repetitions=1)
    costs = measure_costs(
        ClassifierCalibration(model, torch.from_numpy(blobs.train_NF)),
        2,
        plan,
        {"device": "test", "header_digest": "d"},
    )
    experiment = ServingExperiment(queue_size=4, in_flight=(16,), load=0.2, replications=1, batches_per_queue=3)
    ran = list(serve(points, experiment, costs, model.config.k, "test", tmp_path))
    assert len(ran) == 4
    first = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.parquet")}
    list(serve(points, experiment, costs, model.config.k, "test", tmp_path))
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.parquet")} == first
    rates = set()
    for name in points:
        for run in run_names(tmp_path / name):
            header = load_run(tmp_path / name, run).header
            assert header["trace_digest"] == points[name].trace.digest
            rates.add(header["config"]["rate_per_s"])
    assert rates == {None, 0.2 * costs.capacity_per_s(2, 2, 4)}
