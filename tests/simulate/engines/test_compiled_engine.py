"""The compiled engine, in both forms, returns the reference's records, every column of every table, and its counts."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from engine_worlds import KINDS, runs
from equality import assert_equal
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from worlds import config, fixed, world

from moe_replay.simulate.compiled import run_build
from moe_replay.simulate.compiled.memory.memory_build import random_bits
from moe_replay.simulate.config.costs import CostModel, ResampledCosts, affine
from moe_replay.simulate.config.memory_config import MemoryConfig
from moe_replay.simulate.config.run_config import RunConfig
from moe_replay.simulate.config.workload import trace_workload
from moe_replay.simulate.engines.compiled_engine import simulate as simulate_compiled
from moe_replay.simulate.engines.engine_choice import engine_for, simulate
from moe_replay.simulate.engines.simpy_engine import order_of
from moe_replay.simulate.engines.simpy_engine import simulate as simulate_by_simpy
from moe_replay.simulate.policies.caches.cache_names import CACHES
from moe_replay.simulate.policies.caches.lru import LRU
from moe_replay.simulate.policies.memory.expert_worth import known_of
from moe_replay.simulate.policies.memory.memory_setup import Known
from moe_replay.traces.errors import InputError
from moe_replay.traces.file.trace_file import load_trace
from moe_replay.traces.runs.cost_table import COST_COLUMNS, CostTable

many = hypothesis_settings(deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
SHIPPED = sorted((Path(__file__).parents[3] / "traces" / "data").rglob("*.trace.parquet"))
COST = affine(20_000, 1_500)


@pytest.mark.parametrize("kind", KINDS)
def test_random_worlds(kind):
    @given(runs(kind))
    @hypothesis_settings(many, max_examples=300)
    def both_engines_are_equal(drawn):
        assert_equal(*drawn)

    both_engines_are_equal()


def runs_of(trace):
    """Return six configurations for whole traces: queues, lockstep, memory of several kinds."""
    closed = {"arrivals": "closed", "in_flight": 64}
    half = max(1, trace.E // 2)
    kept = MemoryConfig(slots=half, link_latency_ns=30_000)
    alone = {"scheduler": "lockstep", "max_step": 8, **closed}
    return [
        RunConfig(queue_size=8, **closed, seed=1),
        RunConfig(queue_size=32, timeout_ns=400_000, arrivals="poisson", rate_per_s=4_000.0, seed=2, devices=2),
        RunConfig(**alone),
        RunConfig(**alone, memory=replace(kept, cache="lifo")),
        RunConfig(queue_size=8, **closed, memory=replace(kept, prefetch="previous-token")),
        RunConfig(queue_size=4, **closed, memory=replace(kept, cache="belady", miss="block")),
    ]


@pytest.mark.parametrize("number", range(len(SHIPPED)), ids=lambda number: SHIPPED[number].stem)
def test_every_shipped_trace_whole(number):
    # Two of the six for each: the reference needs a second or two for every one of them.
    trace = load_trace(SHIPPED[number])
    chosen = runs_of(trace)
    for each in (chosen[number % 6], chosen[(number + 3) % 6]):
        assert_equal(trace_workload(trace, each), each, COST)


def test_masked_gating_and_hosts_on_a_shipped_trace():
    trace = load_trace(next(path for path in SHIPPED if path.name.startswith("language-stepwise")))
    kept = MemoryConfig(slots=8, filled=True, link_latency_ns=30_000)
    ways = [
        replace(kept, cache="importance", miss="redirect", period=8), replace(kept, miss="skip", prefetch="popularity"),
        replace(kept, cache="s3fifo", miss="host", host_factor=7.5), replace(kept, cache="random", scope="global"),
        replace(kept, cache="sieve", prefetch="co-activation"), replace(kept, cache="lfru", prefetch="oracle"),
    ]  # fmt: skip
    known = known_of(trace, trace.header.model.used_k, ways)
    for memory in ways:
        run = RunConfig(queue_size=4, arrivals="closed", in_flight=6, memory=memory)
        assert_equal(trace_workload(trace, run), run, COST, known)


def measured(sizes=(1, 2, 4, 8), repetitions=5, places=((0, 0), (1, 0), (0, 1))):
    """Return a cost table of some dense layers and experts, whose repetitions differ, by a dense layer's number too."""
    rows = [
        (layer, block, n, r, 9_000 + 700 * n + 90 * r + 13 * layer)
        for layer, block in places for n in sizes for r in range(repetitions)
    ]  # fmt: skip
    columns = np.array(rows).T
    return CostTable({name: c.astype(t) for (name, t), c in zip(COST_COLUMNS.items(), columns, strict=True)}, {})


TWO = world([[[0, 1]], [[1, 2]], [[2, 0]], [[1, 0]]] * 5, E=3)


@pytest.mark.parametrize("places", [((0, 0), (1, 0), (0, 1)), ((-1, 0), (0, 1)), ((1, 0), (-1, 0), (0, 1))])
def test_measured_costs_interpolated_and_drawn(places):
    run, table = RunConfig(queue_size=3, arrivals="closed", in_flight=7), measured(places=places)
    assert_equal(TWO, run, CostModel(table).cost(None))
    drawn = [
        engine(TWO, run, ResampledCosts(table, np.random.default_rng(3)), {"config": {}})
        for engine in (simulate_by_simpy, simulate_compiled)
    ]
    for name in drawn[0].batches:
        np.testing.assert_array_equal(drawn[0].batches[name], drawn[1].batches[name])


def test_what_was_not_measured_is_refused_alike():
    run = RunConfig(queue_size=5, arrivals="all")
    messages = []
    for engine in (simulate_by_simpy, simulate_compiled):
        with pytest.raises(InputError, match="costs are never extrapolated") as refused:
            engine(TWO, run, CostModel(measured((2, 4))).cost(None), {"config": {}})
        messages.append(str(refused.value))
    assert messages[0] == messages[1]


def test_a_given_order_of_accesses_and_a_measured_transfer():
    kept = MemoryConfig(cache="belady", slots=1, prefetch="oracle", look_ahead=2, link_latency_ns=500)
    run = config(queue_size=2, arrivals="closed", in_flight=2, memory=kept)
    known = replace(Known(), order=order_of(TWO, run, fixed(400)))
    assert_equal(TWO, run, fixed(400), known)
    assert_equal(TWO, run, fixed(400), known, transfer_ns=123)


def test_long_runs_outgrow_every_buffer():
    # Enough batches, transfers, accesses, groups and random draws that each of them is lengthened at least once.
    rng = np.random.default_rng(0)
    experts = np.argsort(rng.random((6_000, 2, 6)), axis=2)[:, :, :2].tolist()
    large = world(experts, E=6)
    for cache in ("random", "belady"):
        kept = MemoryConfig(cache=cache, slots=2, link_latency_ns=900, prefetch="popularity")
        run = config(queue_size=1, arrivals="closed", in_flight=40, memory=kept)
        assert_equal(large, run, affine(700, 30), replace(Known(), popularity=list(range(12))))


@pytest.mark.parametrize(
    ("tokens", "settings", "most", "found"),
    [
        (40, {}, 159, "160 members of queues"),  # of 40 tokens two each, and twice the passes
        (40, {"queue_size": 1000}, 159, "160 members"),
        (9, {}, 8, "36 members of queues"),
    ],
)
def test_more_members_than_numbers_count_are_refused(monkeypatch, tokens, settings, most, found):
    monkeypatch.setattr(run_build, "MOST_MEMBERS", most)
    workload = world([[[0, 1]]] * tokens, E=2)
    with pytest.raises(InputError, match=f"^{found}.*; the compiled engine counts up to {most}$"):
        simulate_compiled(workload, config(**settings), COST, {"config": {}})
    monkeypatch.setattr(run_build, "MOST_MEMBERS", 160)
    assert_equal(workload, config(**settings), COST)


def test_rows_and_nodes_are_counted_too(monkeypatch):
    long = world([[[0]]] * 30 + [[[0]]], E=1, sequence=[0] * 30 + [1], sequences=1)
    monkeypatch.setattr(run_build, "MOST_MEMBERS", 32)
    with pytest.raises(InputError, match=r"^60 members alive; the compiled engine counts up to 32$"):
        simulate_compiled(long, config(queue_size=100), COST, {"config": {}})
    short = replace(long, first_row_P=long.first_row_P[:1], tokens_P=np.array([1]))
    monkeypatch.setattr(run_build, "MOST_MEMBERS", 30)
    with pytest.raises(InputError, match=r"^31 rows; the compiled engine counts up to 30$"):
        simulate_compiled(short, config(), COST, {"config": {}})


def test_random_bits_are_those_of_numpys_integers():
    run = RunConfig(seed=5)
    bits, rng, at = random_bits(run, 400), run.generator("memory"), 0
    for count in (7, 3, 1, 64, 5) * 20:
        drawn = 0
        while count > 1:
            product = int(bits[at]) * count
            at += 1
            if product % 2**32 >= min(count, (2**32 - count) % count):
                drawn = product >> 32
                break
        assert rng.integers(count) == drawn


class Mine(LRU):
    """A user's own policy."""


def test_one_door_chooses_says_which_engine_ran_and_refuses_what_is_not_compiled(monkeypatch):
    monkeypatch.setitem(CACHES, "mine", Mine)
    plain = RunConfig(queue_size=2)
    own = RunConfig(queue_size=2, memory=MemoryConfig(cache="mine", slots=2))
    assert [engine_for(name, plain) for name in ("auto", "simpy", "compiled")] == ["compiled", "simpy", "compiled"]
    assert engine_for("auto", own) == "simpy"
    for chosen in ("simpy", "compiled"):
        assert simulate(TWO, plain, COST, {"config": {}}, engine=chosen).header["engine"] == chosen
    assert simulate(TWO, own, COST, {"config": {}}).header["engine"] == "simpy"
    with pytest.raises(
        InputError, match="engine 'compiled' does not have cache policy 'mine'; allowed: --engine simpy"
    ):
        engine_for("compiled", own)
    with pytest.raises(InputError, match="unknown engine 'fast'; known: auto, compiled, simpy"):
        engine_for("fast", plain)
