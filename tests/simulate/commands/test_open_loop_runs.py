"""`python -m simulate open-loop`: both traces of a rule meet the same arrivals, and a wrong partner is refused."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from moe_replay.simulate.config.run_config import RunConfig
from moe_replay.simulate.sweeps.points import simulated
from moe_replay.simulate.sweeps.shared_inputs import Study
from moe_replay.traces.file.trace_file import load_trace, save_trace
from moe_replay.traces.header import Header, ModelInfo
from moe_replay.traces.k_rules import KRule
from moe_replay.traces.regating import OPEN_LOOP, regate
from moe_replay.traces.runs.cost_table import CostTable
from moe_replay.traces.runs.sweep_table import load_sweep, measured_point
from moe_replay.traces.selections import Trace

ROOT = Path(__file__).resolve().parents[3]


def source_trace():
    """Eighty sequences of one token; two layers, six experts, all recorded with softmax scores, four of them used."""
    scores_TLE = np.random.default_rng(0).dirichlet(np.ones(6), (80, 2)).astype(np.float32)
    experts_TLK = np.argsort(-scores_TLE, axis=2)
    header = Header(
        model=ModelInfo(name="toy", experts=6, used_k=4, layer_ids=(0, 1)), gate_rule="top-k", score_kind="softmax",
        ranked=True, device="none", data={"name": None, "digest": None, "note": None},
    )  # fmt: skip
    ids, zeros = np.arange(80, dtype=np.int32), np.zeros(80, np.int32)
    return Trace(
        header=header, experts_TLK=experts_TLK.astype(np.int16), sequence_T=ids, position_T=zeros, step_T=ids // 8,
        phase_T=np.zeros(80, np.int8), scores_TLK=np.take_along_axis(scores_TLE, experts_TLK, axis=2),
    )  # fmt: skip


def recorded_trace(source, rule):
    """A run under the rule that lost the second expert of every other token in the last layer."""
    made = regate(source, rule)
    experts_TLK = made.experts_TLK.copy()
    experts_TLK[::2, 1, 1:] = -1
    notes = {name: value for name, value in made.header.notes.items() if name != OPEN_LOOP}
    header = replace(made.header, notes=notes, score_kind=None)
    return replace(made, header=header, experts_TLK=experts_TLK, scores_TLK=None)


@pytest.fixture
def folder(tmp_path):
    source = source_trace()
    save_trace(source, tmp_path / "wide.trace.parquet")
    save_trace(recorded_trace(source, KRule("delta", 0.4)), tmp_path / "rules" / "wide-delta-0.4.trace.parquet")
    save_trace(recorded_trace(source, KRule("gap", 0.1)), tmp_path / "rules" / "base-gap-0.1.trace.parquet")
    return tmp_path


def words(folder, *costs):
    places = (folder / "wide.trace.parquet", folder / "rules")
    costs = costs or ("--affine", "1000,100")
    return ("open-loop", *places, *costs, "--queue-size", 4, "--in-flight", 16, "--jobs", 1, "--out", folder / "out")


def written(folder):
    """When every file of the output was written."""
    return {path: path.stat().st_mtime_ns for path in (folder / "out").rglob("*") if path.is_file()}


def test_the_tables_are_sweeps_of_the_three_traces(simulate, folder):
    status, printed, _ = simulate(*words(folder), "--replications", 2)
    assert status == 0
    assert printed.endswith(f"1 rules in {folder / 'out'}\n")
    names = ("source", "wide-delta-0.4/regated.trace", "wide-delta-0.4/regated", "wide-delta-0.4/recorded")
    assert written(folder).keys() == {folder / "out" / f"{name}.parquet" for name in names}
    source = load_trace(folder / "wide.trace.parquet")
    traces = {
        "source": source, "wide-delta-0.4/regated": regate(source, KRule("delta", 0.4)),
        "wide-delta-0.4/recorded": load_trace(folder / "rules" / "wide-delta-0.4.trace.parquet"),
    }  # fmt: skip
    for place, trace in traces.items():
        points, header = load_sweep(folder / "out" / f"{place}.parquet")
        assert header["trace_digest"] == trace.digest
        arrivals = [(point.config["arrivals"], point.config["seed"]) for point in points]
        closed, poisson = ([(kind, seed) for seed in (0, 1)] for kind in ("closed", "poisson"))
        assert arrivals == (closed if place == "source" else closed + poisson)
        assert {point.status for point in points} <= {"ok", "short", "unstable"}
    regated = load_trace(folder / "out" / "wide-delta-0.4" / "regated.trace.parquet")
    assert regated.digest == traces["wide-delta-0.4/regated"].digest
    assert regated.header.notes[OPEN_LOOP]["source_digest"] == source.digest
    assert " open-loop " in regated.header.provenance["command"]


def test_both_traces_meet_the_same_configurations_and_arrivals(simulate, folder):
    assert simulate(*words(folder), "--replications", 2)[0] == 0
    out = folder / "out" / "wide-delta-0.4"
    regated = Study(out / "regated.trace.parquet", affine="1000,100")
    recorded = Study(folder / "rules" / "wide-delta-0.4.trace.parquet", affine="1000,100")
    pairs = zip(*(load_sweep(out / f"{kind}.parquet")[0] for kind in ("regated", "recorded")), strict=True)
    arrivals = {}
    for one, other in pairs:
        assert (one.run, one.config) == (other.run, other.config)
        config = RunConfig.from_dict(one.config)
        here, there = simulated(regated, config), simulated(recorded, config)
        assert measured_point(one.run, here).values == pytest.approx(one.values, nan_ok=True)
        assert measured_point(one.run, there).values == pytest.approx(other.values, nan_ok=True)
        assert here.batches["size"].sum() > there.batches["size"].sum()
        assert np.array_equal(here.passes["sequence"], there.passes["sequence"])
        if config.arrivals == "poisson":
            assert config.rate_per_s == 0.6 * regated.capacity_per_s(None, 4, True, 1)
            assert np.array_equal(here.passes["arrival_ns"], there.passes["arrival_ns"])
            arrivals[config.seed] = here.passes["arrival_ns"]
    assert not np.array_equal(arrivals[0], arrivals[1])


def test_the_source_runs_at_its_own_k(simulate, folder):
    simulate(*words(folder))
    (point,) = load_sweep(folder / "out" / "source.parquet")[0]
    records = simulated(Study(folder / "wide.trace.parquet", affine="1000,100"), RunConfig.from_dict(point.config))
    assert point.values == pytest.approx(measured_point(point.run, records).values, nan_ok=True)
    # every token: three dense blocks and four experts in each of two layers
    assert records.batches["size"].sum() == 80 * (3 + 2 * 4)


def test_a_second_call_keeps_what_is_there(simulate, folder):
    simulate(*words(folder))
    before = written(folder)
    assert simulate(*words(folder))[0] == 0
    assert written(folder) == before
    (folder / "out" / "wide-delta-0.4" / "recorded.parquet").unlink()
    (folder / "out" / "wide-delta-0.4" / "regated.trace.parquet").write_text("half a trace")
    status, _, errors = simulate(*words(folder))
    assert (status, "exists and holds another trace" in errors) == (2, True)
    assert simulate(*words(folder), "--force")[0] == 0
    anew = written(folder)
    kept = {path.name for path in before if anew[path] == before[path]}
    assert kept == {"source.parquet", "regated.parquet"}
    assert anew.keys() == before.keys()


def test_other_options_are_refused_where_tables_stand(simulate, folder):
    simulate(*words(folder))
    before = written(folder)
    status, _, errors = simulate(*words(folder), "--replications", 2)
    assert status == 2
    assert "source.parquet: holds another sweep" in errors.splitlines()[-1]
    assert written(folder) == before
    assert simulate(*words(folder), "--replications", 2, "--force")[0] == 0
    assert simulate(*words(folder), "--replications", 2)[0] == 0


def test_failed_points_are_named_with_their_reasons(simulate, folder):
    """Of experts no batch of one token was measured: the capacity at B is known, most runs cannot be simulated."""
    dense, experts = [(layer, 0, n) for layer in range(3) for n in (1, 4)], [(0, 1, 2), (0, 1, 4)]
    layer, block, tokens = (np.array(column) for column in zip(*dense, *experts, strict=True))
    columns = {
        "layer": layer.astype(np.int16), "block": block.astype(np.int16), "tokens": tokens.astype(np.int32),
        "repetition": np.zeros(len(tokens), np.int32), "service_ns": 1000 * tokens.astype(np.int64),
    }  # fmt: skip
    CostTable(columns, {"device": "a toy"}).save(folder / "costs.parquet")
    again = words(folder, "--costs", folder / "costs.parquet")
    for _ in range(2):
        status, _, errors = simulate(*again)
        assert status == 2
        for place in ("source", "wide-delta-0.4/regated", "wide-delta-0.4/recorded"):
            points = load_sweep(folder / "out" / f"{place}.parquet")[0]
            failed = [point for point in points if point.status == "failed"]
            assert failed
            for point in failed:
                assert f"{place}/{point.run}: failed: {point.reason}\n" in errors
                assert "was not measured; allowed: 2..4" in point.reason


def test_bad_input_is_one_line_and_status_2(simulate, folder):
    other = source_trace()
    stranger = replace(other, header=replace(other.header, notes={"training": {"seed": 1}}))
    save_trace(stranger, folder / "rules" / "wide-k4.trace.parquet")
    status, _, errors = simulate(*words(folder))
    assert status == 2
    assert "wide-k4.trace.parquet: is no partner of its source: training" in errors.splitlines()[-1]
    status, printed, errors = simulate(
        "open-loop", folder / "wide.trace.parquet", folder, "--affine", "1,1", "--out", "x"
    )
    assert (status, printed, errors.count("\n")) == (2, "", 1)
    assert "holds no wide-*.trace.parquet" in errors
