"""Composed serving workloads: hand-worked steps, properties of any composition, and the engine's own clock."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from served_traces import recorded

from moe_replay.simulate.config.costs import affine
from moe_replay.simulate.config.run_config import RunConfig
from moe_replay.simulate.config.workload import trace_workload
from moe_replay.simulate.engines.engine_choice import simulate
from moe_replay.simulate.engines.simpy_engine import Engine as Simulator
from moe_replay.simulate.serving.composition import Demand, Engine, asked_of, composed
from moe_replay.simulate.serving.request_rows import serve
from moe_replay.simulate.serving.serving_system import System
from moe_replay.traces.errors import InputError
from moe_replay.traces.file.trace_file import load_trace, save_trace
from moe_replay.traces.synthetic import SyntheticSpec, synthetic_trace


def compose(trace, engine, demand, cost, dense=True):
    """The composed trace, and when its last step ends."""
    made = serve(trace, engine, demand, System(dense=dense), cost)
    return composed(trace, made.parts, made.order_G, made.arrival_ns_G, asked_of(engine, demand)), made.end_ns


def steps_of(trace):
    """Each step as [(sequence, first position, rows)]."""
    passes = trace.passes
    steps = [[] for _ in range(int(trace.step_T[-1]) + 1)]
    for first, last, sequence, step in zip(
        passes.first_row_P, passes.last_row_P, passes.sequence_P, passes.step_P, strict=True
    ):
        steps[step].append((int(sequence), int(trace.position_T[first]), int(last - first + 1)))
    return steps


def constant(duration):
    """Every step takes `duration`: only the first dense block costs anything."""
    return lambda layer, block, tokens: duration if (layer, block) == (0, 0) else 0


def test_three_sequences_worked_by_hand():
    """Budget 4, at most two running, chunks of 3; prompts 5, 2, 1 with 2, 1, 1 decoded tokens; all there at once."""
    made, end_ns = compose(recorded([(5, 2), (2, 1), (1, 1)]), Engine(4, 2, 3), Demand(), constant(10))
    assert steps_of(made) == [
        [(0, 0, 3), (1, 0, 1)],  # a chunk of 0, and one token of 1 is left in the budget
        [(0, 3, 2), (1, 1, 1)],  # both prompts are whole
        [(0, 5, 1), (1, 2, 1)],  # both decode; 1 is done
        [(0, 6, 1), (2, 0, 1)],  # 2 joins where 1 left; 0 is done
        [(2, 1, 1)],
    ]
    assert end_ns == 50


def test_who_arrives_while_a_step_runs_joins_the_next():
    trace = recorded([(2, 1), (1, 1), (1, 0)], arrival_ns_S=np.array([5, 12, 40]))
    made, end_ns = compose(trace, Engine(8, 4), Demand("recorded"), constant(10))
    assert steps_of(made) == [[(0, 0, 2)], [(0, 2, 1), (1, 0, 1)], [(1, 1, 1)], [(2, 0, 1)]]
    assert end_ns == 50  # 5, 15, 25, 35; idle until 40
    assert made.arrival_ns_S.tolist() == [5, 12, 40]


def test_a_whole_prompt_waits_for_a_step_with_room():
    made, _ = compose(recorded([(3, 2), (4, 0)]), Engine(5, 2), Demand(), constant(1))
    assert steps_of(made) == [[(0, 0, 3)], [(0, 3, 1), (1, 0, 4)], [(0, 4, 1)]]


LENGTHS = st.lists(st.tuples(st.integers(1, 9), st.integers(0, 5)), min_size=1, max_size=6)


@settings(max_examples=60, deadline=None)
@given(
    lengths=LENGTHS, running=st.integers(1, 4), spare=st.integers(9, 20), chunk=st.none() | st.integers(1, 6),
    demand=st.sampled_from([Demand(), Demand("poisson", 1e5, seed=3), Demand("poisson", 1e7, 9, 1)]),
)  # fmt: skip
def test_every_composition_keeps_the_rules_of_the_engine(lengths, running, spare, chunk, demand):
    trace, engine = recorded(lengths), Engine(running + spare, running, chunk)
    made, _ = compose(trace, engine, demand, affine(2000, 100))
    sources = made.header.notes["composition"]["source_sequences"]
    assert len(sources) == (demand.sequences or len(lengths))
    computed = dict.fromkeys(range(len(sources)), 0)
    for step in steps_of(made):
        assert sum(count for *_, count in step) <= engine.token_budget
        assert len(step) <= running
        for sequence, first, count in step:
            prompt, _ = lengths[sources[sequence]]
            assert first == computed[sequence]
            assert count == 1 if first >= prompt else first + count <= prompt
            assert count <= (chunk or prompt)
            computed[sequence] += count
    assert computed == {s: sum(lengths[source]) for s, source in enumerate(sources)}
    for sequence, source in enumerate(sources):
        np.testing.assert_array_equal(
            made.experts_TLK[made.sequence_T == sequence], trace.experts_TLK[trace.sequence_T == source]
        )
    first_step = [made.step_T[made.sequence_T == sequence].min() for sequence in range(len(sources))]
    assert (np.diff(first_step) >= 0).all()  # first come, first served


@pytest.mark.parametrize("engine", ["simpy", "compiled"])
def test_recorded_arrivals_come_as_many_times_as_fast_as_asked(engine):
    """A run that is told a speed is one of a trace whose own arrivals are so much nearer, and says so."""
    trace = recorded([(1, 1), (1, 0), (2, 2)], layers=1, arrival_ns_S=np.array([100, 701, 40_000]))
    near = replace(trace, arrival_ns_S=np.array([50, 350, 20_000]))  # 350.5 is rounded to even
    config = RunConfig(scheduler="lockstep", arrivals="recorded", dense=False, speed=2.0)
    runs = [
        simulate(trace_workload(each, asked), asked, lambda layer, block, tokens: 10, {"config": {}}, engine=engine)
        for each, asked in ((trace, config), (near, replace(config, speed=1.0)))
    ]
    for name in ("arrival_ns", "end_ns"):
        assert runs[0].passes[name].tolist() == runs[1].passes[name].tolist()
    assert config.name == "lockstep-Sall-recorded-x2.0-nodense"
    assert config.as_dict()["speed"] == 2.0
    assert "speed" not in replace(config, speed=1.0).as_dict()  # headers that were written before are of speed 1


def test_a_trace_that_is_composed_at_a_speed_holds_its_arrivals():
    trace = recorded([(2, 1), (1, 1), (1, 0)], arrival_ns_S=np.array([5, 12, 40]))
    made, _ = compose(trace, Engine(8, 4), Demand("recorded", speed=0.5), constant(10))
    assert made.arrival_ns_S.tolist() == [10, 24, 80]
    assert made.header.notes["composition"]["speed"] == 0.5
    plain, _ = compose(trace, Engine(8, 4), Demand("recorded"), constant(10))
    assert "speed" not in plain.header.notes["composition"]


@pytest.mark.parametrize("dense", [True, False])
def test_the_composers_clock_is_the_simulators(dense):
    """Steps one after another in lockstep, without idle time, end when the simulator says they do."""
    trace = recorded([(5, 3), (2, 6), (7, 0), (1, 4)], seed=5)
    made, end_ns = compose(trace, Engine(6, 3, 4), Demand(), affine(1000, 70), dense)
    config = RunConfig(scheduler="lockstep", arrivals="steps", dense=dense)
    engine = Simulator(trace_workload(made, config), config, affine(1000, 70))
    engine.run()
    assert max(batch.end_ns for batch in engine.replay.recording.batches) == end_ns


def test_at_a_vanishing_rate_every_sequence_runs_alone():
    trace = recorded([(3, 2), (4, 1), (2, 2)])
    made, _ = compose(trace, Engine(), Demand("poisson", 1e-3, seed=0), affine(1000, 10))
    assert all(len(step) == 1 for step in steps_of(made))


def test_recorded_arrivals_are_simulated_at_their_times():
    trace = recorded([(1, 1), (1, 0)], layers=1, arrival_ns_S=np.array([100, 700]))
    config = RunConfig(scheduler="lockstep", arrivals="recorded", dense=False)
    engine = Simulator(trace_workload(trace, config), config, lambda layer, block, tokens: 50)
    engine.run()
    starts = [batch.start_ns for batch in engine.replay.recording.batches]
    assert starts == [100, 150, 200, 250, 700, 750]  # two experts a pass, the second pass follows the first


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Engine(3, 4), "token budget 3 for 4 running sequences"),
        (lambda: Demand("poison"), "unknown arrivals 'poison'; known: all, poisson, recorded"),
        (lambda: Demand("poisson"), "a rate is needed under arrivals 'poisson'"),
        (lambda: Demand(rate_per_s=3.0), "allowed only there"),
        (lambda: Demand("recorded", seed=1), "neither cycled nor permuted"),
        (lambda: RunConfig(arrivals="recorded", seed=1), "serves each sequence once in its order"),
        (lambda: compose(recorded([(9, 1)]), Engine(8, 2), Demand(), constant(1)), "a prompt has 9 tokens, allowed"),
        (lambda: compose(recorded([(2, 1)]), Engine(), Demand("recorded"), constant(1)), "the trace has none"),
        (lambda: simulated_at_recorded_times([(1, 0), (1, 0)], None), "holds no arrival_ns"),
        (lambda: simulated_at_recorded_times([(1, 0), (1, 0)], [9, 3]), "sequence 1 arrives before one in front"),
    ],
)
def test_what_cannot_be_is_refused(build, message):
    with pytest.raises(InputError, match=message):
        build()


def simulated_at_recorded_times(lengths, arrival_ns):
    trace = recorded(lengths, arrival_ns_S=None if arrival_ns is None else np.array(arrival_ns))
    config = RunConfig(arrivals="recorded", dense=False)
    Simulator(trace_workload(trace, config), config, affine(1, 1))


def test_the_command_composes_and_both_replays_run(tmp_path):
    spec = SyntheticSpec(layers=2, experts=8, k=2, sequences=12, batch=4, prompt=(3, 9), decode=(2, 6))
    source, out = tmp_path / "toy.trace.parquet", tmp_path / "composed.trace.parquet"
    save_trace(synthetic_trace(spec, np.random.default_rng(0), {}).trace, source)

    def simulate(*words):
        return subprocess.run([sys.executable, "-m", "simulate", *map(str, words)], capture_output=True, text=True)

    words = ("--affine", "20000,500", "--arrivals", "poisson", "--rate", 2000, "--chunk", 4, "--seed", 1)
    done = simulate("compose", source, *words, "--out", out)
    assert done.returncode == 0, done.stderr
    made = load_trace(out)
    assert made.T == load_trace(source).T
    assert made.header.notes["composition"]["chunk"] == 4
    for arrivals in ("steps", "recorded"):
        replay = ("run", out, "--affine", "20000,500", "--arrivals", arrivals, "--replications", 0, "--jobs", 1)
        done = simulate(*replay, "--scheduler", "lockstep", "--out", tmp_path / arrivals)
        assert done.returncode == 0, done.stderr
    assert simulate("compose", source, "--out", out).returncode == 2
