"""Answers are what the commands say of the same configuration: nothing is counted or timed in another way."""

import numpy as np
import pytest

import moe_replay
from moe_replay.analysis.tables.memory_causes import memory_table
from moe_replay.simulate.answers.device_answer import placed_loads
from moe_replay.simulate.answers.miss_answer import OPTIMUM, counted, slots_shown
from moe_replay.simulate.answers.run_answer import answered
from moe_replay.simulate.answers.time_answer import LONGEST, by_itself, explained
from moe_replay.simulate.answers.trace_facts import facts_of
from moe_replay.simulate.answers.trace_part import part_of
from moe_replay.simulate.config.run_config import RunConfig
from moe_replay.simulate.config.workload import trace_workload
from moe_replay.simulate.sweeps.shared_inputs import Study
from moe_replay.traces.errors import InputError
from moe_replay.traces.file.trace_file import load_trace, save_trace
from moe_replay.traces.new_traces import synthetic

AFFINE = "200000,20000"
COSTS = (200e-6, 20e-6)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    path = tmp_path_factory.mktemp("answers") / "toy.trace.parquet"
    save_trace(synthetic(sequences=60, layers=3, experts=8, k=2, prompt=(1, 20), decode=(0, 8), seed=3), path)
    return Study(path, affine=AFFINE)


@pytest.mark.parametrize("seed", [None, 0, 3])
@pytest.mark.parametrize("most", [1, 100, 1000, 3000, 10**9, None])
def test_a_part_is_the_longest_run_of_whole_sequences_within_a_number(study, seed, most):
    whole = trace_workload(load_trace(study.trace), RunConfig(seed=seed))
    selections_G = np.bincount(whole.group_P, whole.selections_PL.sum(1)).astype(int)
    part = part_of(study, RunConfig(seed=seed), most)
    assert (part.of, part.of_selections) == (60, selections_G.sum())
    assert part.selections == selections_G[: part.sequences].sum()
    if most is None:
        assert part.is_whole
    elif part.sequences > 1:
        assert part.selections <= most
    if not part.is_whole:
        assert part.sequences >= 1
        assert selections_G[: part.sequences + 1].sum() > most
    served = trace_workload(load_trace(study.trace), RunConfig(seed=seed, sequences=part.sequences))
    assert served.selections_PL.sum() == part.selections


@pytest.mark.parametrize("most", [None, 1500])
@pytest.mark.parametrize(
    "axes", [{"queue_size": 4, "in_flight": 16}, {"queue_size": 8, "rate_per_s": 30.0},
             {"scheduler": "lockstep", "in_flight": 4, "cache": "lru", "slots": 3, "expert_bytes": 4_000_000},
             {"in_flight": 8, "queue_size": 2, "cache": "static", "slots": 4, "expert_bytes": 4_000_000}],
)  # fmt: skip
def test_a_run_is_the_point_of_a_sweep(study, axes, most):
    answer = answered(study, axes, 1, most)
    points = moe_replay.sweep(study.trace, COSTS, replications=2, **answer.axes).points
    expected = points[1].statistics
    assert answer.statistics.values == pytest.approx(expected.values, nan_ok=True)
    assert (answer.statistics.status, answer.statistics.config) == (expected.status, expected.config)
    assert ("sequences" in answer.axes) == (most is not None)
    assert ("held-out" in answer.said) == (axes.get("cache") == "static")


def test_misses_are_those_that_are_counted_everywhere(study):
    answer = counted(study, ("lru", "fifo"), 2, "pass")
    table = moe_replay.count_misses(study.trace, cache=["lru", "fifo", OPTIMUM]).to_pandas()
    for policy, curve in answer.curves.items():
        own = table[table["policy"] == policy]
        assert [(slots, misses) for slots, _, misses in curve] == list(zip(own["slots"], own["misses"], strict=True))
    assert (answer.sequences, answer.of) == (60, 60)
    part = counted(study, ("lru",), 2, "step", 500)
    assert part.sequences < part.of
    assert slots_shown(128, 16)[0::15] == (1, 128)
    assert slots_shown(3, 16) == (1, 2, 3)


def test_alone_and_resident_a_pass_takes_the_sum_of_its_batches(tmp_path):
    """One token a pass, two layers, k = 1: three dense blocks and two experts of 100 ns each, with two in flight."""
    path = tmp_path / "tiny.trace.parquet"
    save_trace(synthetic(sequences=40, layers=2, experts=4, k=1, prompt=1, decode=0, seed=0), path)
    answer = explained(Study(path, affine="100,0"), {"queue_size": 1, "in_flight": 2}, 0)
    assert answer.causes_ms["compute"] == pytest.approx(500e-6)
    assert answer.total_ms == pytest.approx(sum(answer.causes_ms.values()))
    # The device is never idle and runs one batch at a time: two in flight wait for each other's 500 ns, until the last.
    assert answer.causes_ms["queueing"] == pytest.approx(500e-6, rel=0.05)


@pytest.mark.parametrize("prefetch", ["none", "co-activation"])
def test_causes_are_those_of_the_memory_table(study, tmp_path, prefetch, simulate, monkeypatch):
    """Under Poisson arrivals both are about the mean time from arrival to end."""
    axes = {"scheduler": "lockstep", "rate_per_s": 20.0, "cache": "lru", "slots": 3, "expert_bytes": 40_000_000}
    axes |= {"prefetch": prefetch} if prefetch != "none" else {}
    answer = explained(study, axes, 0)
    words = (
        "--scheduler lockstep --arrivals poisson --rate 20 --cache lru --slots 3 --expert-bytes 40MB --replications 1"
    )
    status, _, errors = simulate("memory", study.trace, "--affine", AFFINE, *words.split(), "--prefetch", prefetch,
                                 "--jobs", 1, "--out", tmp_path / "memory")  # fmt: skip
    assert status == 0, errors
    table = memory_table(tmp_path / "memory").query("world == 'run'").iloc[0]
    causes = {name: ms for name, ms in answer.causes_ms.items() if name not in ("compute", "queueing")}
    assert causes == pytest.approx({name: table[f"{name}_ms"] for name in causes})
    assert answer.total_ms == pytest.approx(table["sojourn_mean_ms"])
    assert len(causes) == (4 if prefetch == "none" else 6)
    for stretch in answer.stretches.values():
        assert len(stretch.batches["start_ns"]) <= LONGEST
        assert (np.diff(stretch.batches["start_ns"]) >= 0).all()


def test_loads_of_devices_are_the_scores_of_placements(study):
    answer = placed_loads(study, 4, 4)
    table = moe_replay.place(
        study.trace, method=["contiguous", "lpt", "eplb"], devices=4, redundant=[0, 4], repair=True
    )
    scores = {(row["planner"], row["redundant"]): row["device_max_over_mean"] for row in table.rows}
    assert answer.heaviest["contiguous"] == pytest.approx(scores["contiguous", 0])
    assert answer.heaviest["lpt"] == pytest.approx(scores["lpt", 0])
    assert answer.heaviest["eplb + 4"] == pytest.approx(scores["eplb", 4])
    for load_LD in answer.over_mean_LD.values():
        assert load_LD.shape == (3, 4)
        assert load_LD.mean(1) == pytest.approx(np.ones(3))


def test_facts_say_what_may_be_asked(study, tmp_path):
    facts = facts_of(study)
    assert (facts.experts, facts.ks, facts.used_k, facts.sequences, facts.masked) == (8, (1, 2), 2, 60, True)
    assert facts.capacity_per_s > 0
    assert facts_of(Study(study.trace)).capacity_per_s is None
    assert "--costs" in facts_of(Study(study.trace)).no_costs
    with pytest.raises(InputError, match="no such file"):
        facts_of(Study(tmp_path / "nothing.parquet"))


@pytest.mark.parametrize(
    "arriving",
    [
        {"arrivals": "recorded", "speed": 2.0},
        {"arrivals": "poisson", "rate_per_s": 9.0, "load": 0.5, "seed": 1},
        {"arrivals": "closed", "in_flight": 7},
        {"arrivals": "all"},
    ],
)
def test_a_run_by_itself_keeps_nothing_of_how_its_sequences_arrived(arriving):
    alone = by_itself(RunConfig(queue_size=4, **arriving))
    assert alone == RunConfig(queue_size=4, arrivals="closed", in_flight=1, seed=arriving.get("seed"))
