"""What policies know beforehand: learned on one half and counted on the other, marked wherever a number is shown."""

import csv
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from moe_replay.simulate.__main__ import app
from moe_replay.simulate.config.memory_config import MemoryConfig
from moe_replay.simulate.config.run_config import RunConfig
from moe_replay.simulate.config.workload import build_workload, trace_workload
from moe_replay.simulate.engines.simpy_engine import simulate
from moe_replay.simulate.misses.miss_tables import MissPlan, miss_rows
from moe_replay.simulate.policies.caches.cache_names import CACHES
from moe_replay.simulate.policies.halves import SECOND_HALF, halves
from moe_replay.simulate.policies.memory.expert_worth import known_from, known_of
from moe_replay.simulate.policies.memory.knowledge_source import lesson_again, lesson_of, mark_of
from moe_replay.traces.command_line import command
from moe_replay.traces.errors import InputError
from moe_replay.traces.file.trace_file import save_trace
from moe_replay.traces.header import Header, ModelInfo
from moe_replay.traces.runs.run_records import load_run, run_names
from moe_replay.traces.runs.sweep_table import load_sweep
from moe_replay.traces.selections import Trace

ROOT = Path(__file__).resolve().parents[4]
LAYERS, EXPERTS, K, SLOTS = 8, 32, 2, 8
COSTS = ("--affine", "1000,10", "--no-dense", "--bandwidth", "1", "--latency", "0", "--expert-bytes", "1000")


def uniform(seed, sequences=40, tokens=10):
    """A trace whose tokens draw their experts uniformly and independently: any cache of c slots hits c / E."""
    rng = np.random.default_rng(seed)
    rows = sequences * tokens
    drawn = np.stack([rng.permuted(np.arange(EXPERTS)[None].repeat(rows, 0), axis=1)[:, :K] for _ in range(LAYERS)], 1)
    model = ModelInfo(name="uniform", experts=EXPERTS, used_k=K, layer_ids=tuple(range(LAYERS)))
    header = Header(model=model, gate_rule="top-k", score_kind=None, ranked=True, device="none",
                    data={"name": None, "digest": None, "note": None})  # fmt: skip
    sequence_T, position_T = np.divmod(np.arange(rows, dtype=np.int32), np.int32(tokens))
    return Trace(
        header=header, experts_TLK=drawn.astype(np.int16), sequence_T=sequence_T, position_T=position_T,
        step_T=np.arange(rows, dtype=np.int32), phase_T=np.ones(rows, np.int8),
    )  # fmt: skip


def hits(trace, policy, known, mode="group", filled=False):
    """The hit ratio of a policy and the mark of its row, as the command comes to them."""
    plan = MissPlan((policy,), (SLOTS,), mode=mode, filled=filled)
    lesson = lesson_of(trace, known, plan.needs())
    told = known_from(lesson.trace, None, plan.needs(), lesson.mark)
    row = miss_rows(lesson.counted(trace), plan, told)[0]
    return row["hits"] / row["accesses"], row["known"], row["accesses"]


def test_pinning_is_no_better_than_lru_on_uniform_traffic_unless_it_knows_what_comes(tmp_path):
    trace, other = uniform(0), tmp_path / "other.trace.parquet"
    save_trace(uniform(1), other)
    for known, mark in ((None, "held-out"), (str(other), "held-out"), ("hindsight", "hindsight")):
        found, said, accesses = hits(trace, "static", known)
        error = 4 * np.sqrt(SLOTS / EXPERTS * (1 - SLOTS / EXPERTS) / accesses)
        found += SLOTS * LAYERS / accesses  # each of them is loaded once
        assert said == mark
        assert (abs(found - SLOTS / EXPERTS) < error) == (mark == "held-out")
        assert found > SLOTS / EXPERTS - error
    found, said, _ = hits(trace, "lru", None)
    assert said == "none"
    assert abs(found - SLOTS / EXPERTS) < error  # in groups: what a token draws is not evicted by its own misses
    assert hits(trace, "belady", None)[1] == "hindsight"


def test_a_plain_model_of_both_halves():
    """The most selected experts of the first 20 sequences, counted on the other 20; and of all, counted on all.

    Slots are empty at first: every expert that is kept misses once.
    """
    trace = uniform(2)

    def plain(learned_TLK, counted_TLK):
        hit = 0
        for layer in range(LAYERS):
            popularity = np.bincount(learned_TLK[:, layer].ravel(), minlength=EXPERTS)
            held = sorted(range(EXPERTS), key=lambda expert: -popularity[expert])[:SLOTS]
            hit += np.isin(counted_TLK[:, layer], held).sum() - np.isin(held, counted_TLK[:, layer]).sum()
        return hit / counted_TLK.size

    assert hits(trace, "static", None)[0] == plain(trace.experts_TLK[:200], trace.experts_TLK[200:])
    assert hits(trace, "static", "hindsight")[0] == plain(trace.experts_TLK, trace.experts_TLK)


@pytest.mark.parametrize("mode", ["flat", "group"])
def test_slots_that_are_full_at_first_miss_no_pinned_expert(mode):
    """Then static hits its share exactly, and LRU has learned too: its row is marked."""
    trace = uniform(2)
    for known, learned in ((None, trace.experts_TLK[:200]), ("hindsight", trace.experts_TLK)):
        counted = trace.experts_TLK if known else trace.experts_TLK[200:]
        hit = 0
        for layer in range(LAYERS):
            popularity = np.bincount(learned[:, layer].ravel(), minlength=EXPERTS)
            held = sorted(range(EXPERTS), key=lambda expert, most=popularity: -most[expert])[:SLOTS]
            hit += np.isin(counted[:, layer], held).sum()
        assert hits(trace, "static", known, mode, True)[0] == hit / counted.size
    assert hits(trace, "lru", None, mode, True)[1] == "held-out"
    assert hits(trace, "lru", "hindsight", mode, True)[0] > hits(trace, "lru", "hindsight", mode)[0]
    assert hits(trace, "belady-bypass", None, mode, True)[0] >= hits(trace, "static", None, mode, True)[0]


def test_halves_are_of_sequences_in_the_order_of_their_first_rows_or_of_steps():
    found = halves(np.array([7, 3, 7, 9, 3, 9, 1]), np.arange(7))
    assert found.second_T.tolist() == [False, False, False, True, False, True, True]
    assert found.said == "learned on the first 2 of 4 sequences, counted on the other 2"
    found = halves(np.array([4, 4, 4, 4]), np.array([0, 0, 5, 9]))
    assert found.second_T.tolist() == [False, False, True, True]
    assert found.said == "learned on the first 1 of 3 steps, counted on the other 2"
    with pytest.raises(
        InputError, match=r"one sequence of one step has no halves .* allowed: --known TRACE, .* hindsight"
    ):
        halves(np.zeros(3), np.zeros(3))


def test_steps_that_hold_both_halves_are_named():
    """Of three steps the second and third serve both halves: what is counted of them is not all that they ran."""
    found = halves(np.array([0, 1, 0, 2, 1, 3]), np.array([0, 0, 1, 1, 2, 2]))
    assert found.second_T.tolist() == [False, False, False, True, False, True]
    said = "learned on the first 2 of 4 sequences, counted on the other 2"
    assert found.said == f"{said} (steps that hold both, 2 in all, count without the tokens of the first)"


def test_a_run_that_serves_the_second_half_cycles_permutes_and_begins_there():
    trace = replace(uniform(3, sequences=4, tokens=2), arrival_ns_S=np.array([5, 6, 40, 90]))
    config = RunConfig(arrivals="recorded", served=SECOND_HALF)
    workload = trace_workload(trace, config)
    assert workload.sequence_P.tolist() == [2, 2, 3, 3]
    assert workload.first_row_P.tolist() == [4, 5, 6, 7]
    assert workload.arrival_ns_G.tolist() == [0, 50]
    longer = build_workload(
        trace.experts_TLK, trace.sequence_T, trace.step_T, EXPERTS, 5, np.random.default_rng(0), SECOND_HALF
    )
    assert set(longer.sequence_P.tolist()) == {2, 3}
    assert longer.passes == 10
    assert config.name == "queues-B001-recorded-second-half"
    assert RunConfig.from_dict(config.as_dict()) == config
    assert "served" not in RunConfig().as_dict()
    with pytest.raises(InputError, match="unknown served 'first-half'; known: all, second-half"):
        RunConfig(served="first-half")


def test_a_trace_that_holds_what_is_counted_is_hindsight_under_any_name(tmp_path):
    trace, whole, part = uniform(4, tokens=20), tmp_path / "copy.trace.parquet", tmp_path / "part.trace.parquet"
    save_trace(replace(trace, header=replace(trace.header, device="another")), whole)
    save_trace(trace.only(trace.sequence_T < 13), part)
    needs = {"popularity"}
    assert lesson_of(trace, str(whole), needs).said == (
        "known: hindsight: copy.trace.parquet is the very trace that is counted"
    )
    found = lesson_of(trace, str(part), needs)
    assert (found.mark, found.said) == (
        "hindsight", "known: hindsight: 13 of the 40 sequences that are counted are in part.trace.parquet too",
    )  # fmt: skip
    nothing = lesson_of(trace, None, {"rng"})
    assert (nothing.mark, nothing.said, nothing.counted(trace)) == ("none", "", trace)


def test_sequences_without_routes_are_not_the_same_because_both_lack_them(tmp_path):
    """Of both traces the last sequence was computed elsewhere: -1 in every slot says nothing about who it is."""

    def without_last(trace):
        last_T11 = (trace.sequence_T == 39)[:, None, None]
        return replace(trace, experts_TLK=np.where(last_T11, np.int16(-1), trace.experts_TLK))

    trace, path = without_last(uniform(4)), tmp_path / "other.trace.parquet"
    save_trace(without_last(uniform(5)), path)
    assert lesson_of(trace, str(path), {"popularity"}).mark == "held-out"


@pytest.mark.parametrize(
    ("fields", "mark"),
    [
        ({}, "none"), ({"prefetch": "co-activation"}, "none"), ({"cache": "static"}, "held-out"),
        ({"cache": "lru", "filled": True}, "held-out"), ({"prefetch": "popularity"}, "held-out"),
        ({"cache": "importance"}, "held-out"), ({"miss": "host", "filled": True}, "held-out"),
        ({"cache": "belady"}, "hindsight"), ({"cache": "belady-bypass"}, "hindsight"),
        ({"cache": "static", "prefetch": "oracle"}, "hindsight"),
    ],
)  # fmt: skip
def test_everything_that_is_learned_or_foreseen_is_marked(fields, mark):
    assert mark_of(MemoryConfig(**fields).needs, "held-out") == mark


@pytest.mark.parametrize("policy", [name for name in CACHES if name not in ("random", "importance")])
def test_an_engine_at_batch_1_misses_what_groups_miss_and_every_miss_is_a_transfer(policy):
    """The same question without time and with it: lockstep, one pass in flight, misses that block."""
    trace = uniform(5, sequences=6, tokens=8)
    for slots, filled in ((1, False), (3, False), (12, False), (3, True)):
        memory = MemoryConfig(cache=policy, slots=slots, miss="block", link_latency_ns=3, filled=filled)
        lesson = lesson_of(trace, None, memory.needs)
        config = RunConfig(
            scheduler="lockstep", arrivals="closed", in_flight=1, dense=False, memory=memory, served=lesson.served
        )
        told = known_of(lesson.trace, None, [memory], lesson.mark)
        records = simulate(trace_workload(trace, config), config, lambda *batch: 1, {"config": {}}, told)
        plan = MissPlan((policy,), (slots,), filled=filled)
        counted = lesson.counted(trace)
        row = miss_rows(counted, plan, known_from(lesson.trace, None, plan.needs(), lesson.mark))[0]
        counts = records.header["memory"]
        for name in ("accesses", "hits", "misses", "loads", "declined"):
            assert counts[name] == row[name], name
        assert row["transfers"] == row["misses"] == len(records.transfers["link"])
        assert policy != "none" or row["transfers"] == K * LAYERS * counted.T


@pytest.fixture
def call(capsys, monkeypatch):
    """Call `simulate` in this process; return (exit status, stdout, last line of stderr)."""

    def called(*words):
        monkeypatch.setattr(sys, "argv", [str(ROOT / "simulate" / "__main__.py"), *map(str, words)])
        with pytest.raises(SystemExit) as left:
            command.run(app, "simulate")
        captured = capsys.readouterr()
        return left.value.code or 0, captured.out, captured.err.strip().splitlines()[-1:]

    return called


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("known") / "uniform.trace.parquet"
    save_trace(uniform(6, sequences=8, tokens=4), path)
    return path


HALVES = "known: held-out: learned on the first 4 of 8 sequences, counted on the other 4, by every policy"


@pytest.mark.parametrize(
    ("words", "mark", "said", "accesses"),
    [
        (("static,lru,belady",), {"held-out", "none", "hindsight"}, HALVES, 256),
        (("lru,fifo",), {"none"}, "", 512),
        (("static,lru", "--known", "hindsight"), {"hindsight", "none"}, "known: hindsight: what is learned", 512),
        (("static,lru", "--known", "ITSELF"), {"hindsight", "none"}, "uniform.trace.parquet is the very trace", 512),
    ],
)
def test_every_output_carries_the_mark_and_all_rows_count_the_same(call, path, tmp_path, words, mark, said, accesses):
    policies, known = words[0], [path if word == "ITSELF" else word for word in words[1:]]
    status, printed, _ = call("misses", path, "--cache", policies, "--slots", 4, *known, "--out", tmp_path / "m.csv")
    assert status == 0
    assert said in printed
    with open(tmp_path / "m.csv", newline="") as opened:
        rows = [row for row in csv.DictReader(opened) if row["layer"] == "all"]
    assert {row["known"] for row in rows} == mark
    assert {int(row["accesses"]) for row in rows} == {accesses}
    memory = ("--cache", policies, "--slots", 4, "--miss", "block", "--jobs", 1)
    status, printed, _ = call("memory", path, *COSTS, *memory, *known, "--out", tmp_path / "runs")
    assert status == 0
    assert said in printed
    headers = [load_run(tmp_path / "runs", name).header for name in run_names(tmp_path / "runs")]
    kept = [header for header in headers if "memory" in header]
    assert {header["known"] for header in kept} >= mark
    assert {header["memory"]["accesses"] for header in kept} == {accesses}
    assert len({header["config"].get("served") for header in headers}) == 1
    axes = (
        "--axis",
        f"cache={policies},resident",
        "--axis",
        "slots=4",
        "--axis",
        "expert_bytes=1000",
        "--axis",
        "dense=false",
    )
    status, printed, _ = call(
        "sweep", path, "--affine", "1000,10", *axes, *known, "--jobs", 1, "--out", tmp_path / "s.parquet"
    )
    assert status == 0, printed
    assert said in printed
    points = load_sweep(tmp_path / "s.parquet")[0]
    assert {point.known for point in points} == mark | {None}
    assert {point.counts["accesses"] for point in points if point.counts} == {accesses}


def test_one_sequence_of_one_step_is_refused_by_the_name_of_the_option(call, tmp_path):
    path = tmp_path / "one.trace.parquet"
    trace = uniform(7, sequences=1, tokens=4)
    save_trace(replace(trace, step_T=np.zeros(4, np.int32), phase_T=np.zeros(4, np.int8)), path)
    status, _, said = call("misses", path, "--cache", "static", "--slots", 2)
    assert status == 2
    assert "allowed: --known TRACE, another trace, or --known hindsight" in said[0]
    assert call("misses", path, "--cache", "static", "--slots", 2, "--known", "hindsight")[0] == 0
    assert call("misses", path, "--cache", "lru", "--slots", 2)[0] == 0


def test_executed_runs_are_repeated_with_what_they_knew(call, path, tmp_path):
    """Records of `simulate memory` serve as executed ones: the header says where they learned, and it is kept to."""
    words = ("--cache", "static", "--slots", 4, "--miss", "block", "--no-explain", "--jobs", 1)
    for known in ((), ("--known", "hindsight")):
        runs, again = tmp_path / f"runs{len(known)}", tmp_path / f"again{len(known)}"
        assert call("memory", path, *COSTS, *words, *known, "--out", runs)[0] == 0
        assert call("like", runs, path, "--affine", "1000,10", "--jobs", 1, "--out", again)[0] == 0
        for name in run_names(runs):
            first, second = load_run(runs, name), load_run(again, name)
            for key in ("config", "known", "known_digest"):
                assert first.header.get(key) == second.header.get(key)
            assert np.array_equal(first.passes["end_ns"], second.passes["end_ns"])
    other = tmp_path / "other.trace.parquet"
    save_trace(uniform(8), other)
    status, _, said = call("like", runs, path, "--affine", "1000,10", "--known", other, "--out", tmp_path / "x")
    assert status == 2
    assert "learned from trace" in said[0]
    assert lesson_again(uniform(8), None, {}, "all", {}).mark == "none"
