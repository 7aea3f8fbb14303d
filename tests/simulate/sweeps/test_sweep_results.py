"""What a sweep's table says: the same as the records of the same runs, failures among them, whoever carried it out."""

import dataclasses
import json
import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
from sweep_worlds import PROVENANCE, closed_loops, named, swept, toy_study, toy_trace

from moe_replay.simulate.config.costs import read_costs
from moe_replay.simulate.config.memory_config import MemoryConfig
from moe_replay.simulate.config.run_config import RunConfig
from moe_replay.simulate.policies.memory.expert_worth import known_of
from moe_replay.simulate.sweeps import backends, workers
from moe_replay.simulate.sweeps.points import simulated
from moe_replay.simulate.sweeps.run_folder import Runs
from moe_replay.simulate.sweeps.sweep import grid_of
from moe_replay.traces.errors import InputError
from moe_replay.traces.file.trace_file import load_trace, save_trace
from moe_replay.traces.runs.cost_table import CostTable
from moe_replay.traces.runs.run_statistics import run_statistics
from moe_replay.traces.runs.sweep_table import GROUPS, TEXTS, column_name, load_sweep, measured_point


def equal(one, other):
    """Whether two results are the same to the bit; NaN is NaN."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def mixed_configs():
    """Runs of every kind: both schedulers, three arrival processes, with and without memories, of two lengths."""
    masked = MemoryConfig(cache="importance", slots=2, miss="skip", filled=True, period=8)
    return named(
        RunConfig(queue_size=4, arrivals="closed", in_flight=16, seed=1), RunConfig(scheduler="lockstep", seed=0),
        RunConfig(queue_size=2, arrivals="poisson", rate_per_s=2000.0, seed=2, sequences=400),
        RunConfig(queue_size=2, arrivals="poisson", rate_per_s=1e9, seed=2),
        RunConfig(queue_size=4, arrivals="closed", in_flight=16, seed=1, k=1, memory=MemoryConfig(slots=(2, 4))),
        RunConfig(queue_size=4, arrivals="closed", in_flight=16, memory=MemoryConfig("belady", 3, prefetch="oracle")),
        RunConfig(queue_size=4, arrivals="closed", in_flight=16, memory=masked),
    )  # fmt: skip


def with_norms(trace):
    return dataclasses.replace(trace, norm_TL=np.ones((trace.T, trace.L), np.float32))


def test_statistics_rebuilt_from_rows_are_those_of_the_records(tmp_path):
    save_trace(with_norms(toy_trace(scores=True)), tmp_path / "toy.trace.parquet")
    study, configs = toy_study(tmp_path), mixed_configs()
    swept(study, configs, tmp_path / "sweep.parquet")
    points, _ = load_sweep(tmp_path / "sweep.parquet")
    assert [point.run for point in points] == list(configs)
    trace, costs = load_trace(study.trace), read_costs(None, study.affine, False)
    for point, config in zip(points, configs.values(), strict=True):
        known = None if config.memory is None else known_of(trace, config.k or 2, [config.memory])
        records = Runs(trace, trace.digest, costs, tmp_path, {}, known).simulate(config)
        found, wanted = point.statistics, run_statistics(records)
        assert (found.status, found.reason) == (wanted.status, wanted.reason)
        assert found.config == wanted.config == config.as_dict()
        assert RunConfig.from_dict(found.config) == config
        assert equal(found.values, measured_point("", records).values)
        assert list(found.values) == list(wanted.values)
        np.testing.assert_array_equal(list(found.values.values()), list(wanted.values.values()))
        assert (found.values_of, list(found.whole)) == (wanted.values_of, list(wanted.whole))
        np.testing.assert_array_equal(list(found.whole.values()), list(wanted.whole.values()))
        assert list(found.parts) == list(wanted.parts)
        for name, part in wanted.parts.items():
            np.testing.assert_array_equal(found.parts[name], part)
        transfers = {} if records.transfers is None else {"transfers": len(records.transfers["link"])}
        assert point.counts == {**records.header.get("memory", {}), **transfers}
        assert point.whole["passes"] == len(records.passes["end_ns"])
        assert point.whole["makespan_ns"] == records.passes["end_ns"].max() - records.passes["arrival_ns"].min()
    assert {point.status for point in points} >= {"ok", "unstable"}


def test_empty_batch_means_are_not_absent_ones(tmp_path):
    """Far overload ends in a few instants: throughput has no parts (an empty list), latency none at all."""
    points = swept(toy_study(tmp_path), mixed_configs_unstable(), tmp_path / "sweep.parquet")
    again, _ = load_sweep(tmp_path / "sweep.parquet")
    assert [point.parts for point in again] == [point.parts for point in points]
    assert points[0].status == "unstable"
    assert "latency_mean_ms" not in points[0].parts
    assert len(points[1].parts["latency_mean_ms"]) == 10


def mixed_configs_unstable():
    return named(
        RunConfig(queue_size=1, arrivals="poisson", rate_per_s=1e9, seed=0),
        RunConfig(queue_size=1, arrivals="poisson", rate_per_s=500.0, seed=0),
    )


def test_other_programs_read_the_table(tmp_path):
    swept(toy_study(tmp_path), named(*closed_loops().values(), RunConfig(memory=MemoryConfig(slots=2), seed=0)),
          tmp_path / "sweep.parquet")  # fmt: skip
    table = pd.read_parquet(tmp_path / "sweep.parquet")
    assert table["run"].is_unique
    assert list(table["queue_size"]) == [size for size in (1, 4, 16) for _ in range(4)] + [1]
    assert table["max_step"].isna().all()
    assert list(table["slots"].isna()) == [True] * 12 + [False]
    assert (table.loc[table["status"] == "ok", "throughput_per_s"] > 0).all()
    mean = table["latency_mean_ms_parts"].map(lambda part: np.nan if part is None else np.mean(part))
    short = table["status"] != "ok"
    assert np.allclose(mean[~short], table.loc[~short, "latency_mean_ms"], rtol=0.01)


def test_columns_have_names_of_their_own(tmp_path):
    study = toy_study(tmp_path)
    swept(study, named(RunConfig(seed=0), RunConfig(seed=0, memory=MemoryConfig())), tmp_path / "sweep.parquet")
    columns = load_sweep(tmp_path / "sweep.parquet")[1]["columns"]
    names = [column_name(group, key) for group in GROUPS for key in columns[group]]
    assert len(names) == len(set(names))
    assert len(pd.read_parquet(tmp_path / "sweep.parquet").columns) == len(names) + len(TEXTS)


def short_costs():
    """Batches of up to four tokens were measured, no more."""
    rows = [
        (layer, block, n, 1000 * n)
        for layer in range(3)
        for block in (0, 1)
        for n in (1, 2, 4)
        if layer < 2 or not block
    ]
    layer, block, tokens, service = (np.array(column) for column in zip(*rows, strict=True))
    columns = {
        "layer": layer.astype(np.int16), "block": block.astype(np.int16), "tokens": tokens.astype(np.int32),
        "repetition": np.zeros(len(rows), np.int32), "service_ns": service.astype(np.int64),
    }  # fmt: skip
    return CostTable(columns, {"device": "a toy"})


def test_a_failed_point_is_a_marked_row_and_the_others_finish(tmp_path):
    short_costs().save(tmp_path / "costs.parquet")
    study = dataclasses.replace(toy_study(tmp_path), affine=None, costs=tmp_path / "costs.parquet")
    points = swept(study, closed_loops(sizes=(1, 16, 4), seeds=(0,)), tmp_path / "sweep.parquet")
    again, _ = load_sweep(tmp_path / "sweep.parquet")
    assert [point.status for point in again] == [point.status for point in points] == ["ok", "failed", "ok"]
    failed = again[1]
    assert "tokens in dense block 0 was not measured; allowed: 1..4" in failed.reason
    assert (failed.engine, failed.values, failed.whole, failed.parts) == (None, {}, {}, {})
    with pytest.raises(InputError, match="was not measured"):
        failed.statistics  # noqa: B018  a property that refuses
    assert equal(again[2].values, points[2].values)
    table = pd.read_parquet(tmp_path / "sweep.parquet")
    assert math.isnan(table["throughput_per_s"][1])
    assert table["status"][1] == "failed"


def test_a_run_too_short_for_a_window_is_given_as_a_whole(make_run):
    run = make_run(([0, 1], [0, 1], [1, 2]), [(0, 1, 1, 0, 0, 1)], header={"engine": "simpy", "memory": {"hits": 3}})
    point = measured_point("short", run)
    assert (point.status, point.engine, point.values_of) == ("short", "simpy", "whole run")
    assert "too short" in point.reason
    assert point.values["throughput_per_s"] == point.whole_values["throughput_per_s"] == 1000
    assert point.whole == {"passes": 2, "makespan_ns": 2_000_000, "sojourn_mean_ms": 1.0}
    assert point.counts == {"hits": 3}


def test_all_configurations_of_a_seed_meet_the_same_draws(tmp_path):
    """Common random numbers: sequences and arrivals are a matter of the seed alone."""
    study = toy_study(tmp_path)
    loads = [
        RunConfig(queue_size=size, arrivals="poisson", rate_per_s=1000.0, seed=seed, timeout_ns=10**7)
        for size in (1, 8) for seed in (0, 1)
    ]  # fmt: skip
    runs = {(config.queue_size, config.seed): simulated(study.sealed(loads), config).passes for config in loads}
    for seed in (0, 1):
        assert np.array_equal(runs[1, seed]["sequence"], runs[8, seed]["sequence"])
        assert np.array_equal(runs[1, seed]["arrival_ns"], runs[8, seed]["arrival_ns"])
        assert not np.array_equal(runs[1, seed]["end_ns"], runs[8, seed]["end_ns"])
    assert not np.array_equal(runs[1, 0]["sequence"], runs[1, 1]["sequence"])
    assert not np.array_equal(runs[1, 0]["arrival_ns"], runs[1, 1]["arrival_ns"])


def test_differences_between_configurations_vary_less_than_between_independent_runs(tmp_path):
    configs = {
        (size, seed): RunConfig(queue_size=1, dense_queue_size=size, arrivals="poisson", rate_per_s=40_000.0, seed=seed)
        for size in (1, 2) for seed in range(20)
    }  # fmt: skip
    points = swept(toy_study(tmp_path), {f"{key}": config for key, config in configs.items()}, tmp_path / "s.parquet")
    sojourn = np.array([point.whole["sojourn_mean_ms"] for point in points]).reshape(2, 20)
    paired, independent = np.var(sojourn[1] - sojourn[0]), np.var(sojourn[1] - np.roll(sojourn[0], 1))
    assert paired < 0.5 * independent


@pytest.fixture
def half_compiled(monkeypatch):
    """Every other queue size counts as one of the compiled engine; return the backends that were asked for."""
    used = []
    whole = workers.joblib.Parallel

    def watched(jobs, **how):
        used.append((how["backend"], jobs))
        return whole(jobs, **how)

    monkeypatch.setattr(
        backends, "engine_for", lambda engine, config: "compiled" if config.queue_size == 4 else "simpy"
    )
    monkeypatch.setattr(workers.joblib, "Parallel", watched)
    return used


def test_a_mixed_grid_runs_in_threads_and_in_processes_and_gives_the_same_bytes(tmp_path, half_compiled):
    study, configs = toy_study(tmp_path), closed_loops()
    swept(study, configs, tmp_path / "mixed.parquet", jobs=2)
    assert half_compiled == [("threading", 2), ("loky", 2)]
    backends.engine_for = lambda engine, config: "simpy"
    swept(study, configs, tmp_path / "plain.parquet")
    assert (tmp_path / "mixed.parquet").read_bytes() == (tmp_path / "plain.parquet").read_bytes()


def test_an_engine_that_lacks_something_is_refused_before_the_first_run(tmp_path, monkeypatch):
    def refuse(engine, config):
        raise InputError("engine 'compiled' has no such thing")

    monkeypatch.setattr(backends, "engine_for", refuse)
    with pytest.raises(InputError, match="has no such thing"):
        swept(toy_study(tmp_path, engine="compiled"), closed_loops(), tmp_path / "sweep.parquet")
    assert not (tmp_path / "sweep.parts").exists()
    with pytest.raises(InputError, match="unknown engine 'fast'"):
        swept(toy_study(tmp_path, engine="fast"), closed_loops(), tmp_path / "sweep.parquet")
    with pytest.raises(InputError, match="the grid is empty"):
        swept(toy_study(tmp_path), {}, tmp_path / "sweep.parquet")


def test_a_file_that_changes_under_a_sweep_is_refused(tmp_path):
    study = toy_study(tmp_path)
    sealed = study.sealed(closed_loops().values())
    other = load_trace(study.trace).rows(0, 100)
    study.trace.unlink()
    save_trace(other, study.trace)
    with pytest.raises(InputError, match=r"toy.trace.parquet: is .*, allowed .*, with which the sweep began"):
        sealed.opened("trace")
    assert study.sealed(closed_loops().values()).digests != sealed.digests


def test_a_folder_of_cost_tables_gives_every_memory_its_own(tmp_path):
    folder = tmp_path / "costs"
    for name in ("resident", "load"):
        short_costs().save(folder / f"{name}.parquet")
    study = dataclasses.replace(toy_study(tmp_path), affine=None, costs=folder)
    configs = named(*(RunConfig(seed=0, memory=memory) for memory in (None, MemoryConfig(slots=2))))
    assert set(study.sealed(configs.values()).digests) == {"trace", "resident.parquet", "load.parquet"}
    assert [point.status for point in swept(study, configs, tmp_path / "sweep.parquet")] != ["failed", "failed"]
    _, header = load_sweep(tmp_path / "sweep.parquet")
    assert header["load.parquet_digest"] == read_costs(folder / "load.parquet", None, False).digest
    masked = named(RunConfig(seed=0, memory=MemoryConfig(slots=2, miss="skip", filled=True)))
    with pytest.raises(InputError, match=r"masked.parquet: no such file"):
        swept(study, masked, tmp_path / "other.parquet")


def test_threads_share_a_workload_and_its_costs(tmp_path):
    study = toy_study(tmp_path).sealed(closed_loops().values())
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(study.workload, [RunConfig(queue_size=size, seed=3) for size in (1, 2, 4, 8)]))
    assert study.workload(RunConfig(seed=3)) is study.workload(RunConfig(queue_size=64, seed=3))
    assert all(np.array_equal(each.first_row_P, found[0].first_row_P) for each in found)
    assert study.workload(RunConfig(seed=4)) is not study.workload(RunConfig(seed=3))
    assert study.costs_of(RunConfig())[1] is study.costs_of(RunConfig(queue_size=2))[1]


def test_a_known_trace_of_another_size_is_refused(tmp_path):
    save_trace(toy_trace(layers=3), tmp_path / "known.trace.parquet")
    study = toy_study(tmp_path, known=tmp_path / "known.trace.parquet")
    with pytest.raises(InputError, match="3 layers of 6 experts, allowed 2 of 6"):
        swept(study, closed_loops(), tmp_path / "sweep.parquet")


def test_the_grid_is_what_results_depend_on(tmp_path):
    study, configs = toy_study(tmp_path), closed_loops()
    one = grid_of(study.sealed(configs.values()), configs, PROVENANCE)
    assert one.digest == grid_of(study.sealed(configs.values()), configs, {**PROVENANCE, "command": "x"}).digest
    others = [
        grid_of(study.sealed(configs.values()), dict(reversed(configs.items())), PROVENANCE),
        grid_of(study.sealed(configs.values()), closed_loops(in_flight=8), PROVENANCE),
        *(
            grid_of(dataclasses.replace(study, **change).sealed(configs.values()), configs, PROVENANCE)
            for change in ({"affine": "1,2"}, {"engine": "simpy"}, {"known": study.trace})
        ),
    ]
    assert len({each.digest for each in (one, *others)}) == 1 + len(others)
