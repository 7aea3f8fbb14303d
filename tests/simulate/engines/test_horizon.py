"""Times that leave 64 bits: refused where options become nanoseconds, and at the clock, by both engines alike.

Values worked out by hand: two sequences of one token in two layers without dense blocks run four batches one after
another, so a cost c per batch ends the run at 4 c. The clock holds times below 2^63 - 1 ns.
"""

import json
from dataclasses import replace

import numpy as np
import pytest

from moe_replay.simulate.config.costs import CostModel, affine, constant
from moe_replay.simulate.config.memory_config import MemoryConfig
from moe_replay.simulate.config.run_config import RunConfig
from moe_replay.simulate.config.workload import build_workload
from moe_replay.simulate.engines.engine_choice import simulate
from moe_replay.simulate.policies.arrivals import poisson_times_ns
from moe_replay.simulate.policies.memory.memory_setup import Known
from moe_replay.traces.command_line.number_limits import LAST_NS, whole_ns
from moe_replay.traces.errors import InputError
from moe_replay.traces.runs.cost_table import CostTable

ENGINES = ("simpy", "compiled")
ONE_BY_ONE = {"arrivals": "closed", "in_flight": 1, "dense": False}
QUARTER = LAST_NS // 4  # four of them are just below the limit, as LAST_NS is odd


def toy(experts=((0, 1), (1, 0)), per_token=1):
    """Two sequences of one token, two layers, k = 1."""
    experts_TLK = np.array(experts, np.int16)[:, :, None]
    count = np.arange(len(experts_TLK), dtype=np.int32)
    return build_workload(experts_TLK, count, np.zeros(len(count), np.int32), 2)


def ends(engine, config, cost, workload=None, **more):
    return simulate(workload or toy(), config, cost, {}, engine=engine, **more).passes["end_ns"].tolist()


def refusals(config, cost, workload=None):
    """What both engines say, which is the same."""
    said = []
    for engine in ENGINES:
        with pytest.raises(InputError) as refused:
            ends(engine, config, cost, workload)
        said.append(str(refused.value))
    assert said[0] == said[1]
    return said[0]


@pytest.mark.parametrize("engine", ENGINES)
def test_the_last_times_that_fit_are_simulated_exactly(engine):
    cost = lambda layer, block, tokens: QUARTER  # noqa: E731
    assert ends(engine, RunConfig(**ONE_BY_ONE), cost) == [2 * QUARTER, 4 * QUARTER]
    lockstep = RunConfig(scheduler="lockstep", **ONE_BY_ONE)
    assert ends(engine, lockstep, cost) == [2 * QUARTER, 4 * QUARTER]


@pytest.mark.parametrize("scheduler", ["queues", "lockstep"])
def test_a_batch_that_would_end_beyond_is_named(scheduler):
    config = RunConfig(scheduler=scheduler, **ONE_BY_ONE)
    said = refusals(config, lambda layer, block, tokens: QUARTER + 1)
    assert said == (
        "the run's clock would pass 9,223,372,036,854,775,807 ns with the batch of 1 tokens in layer 1, expert 0 that "
        f"starts at {3 * (QUARTER + 1):,} ns; allowed: times whose sum is less"
    )


@pytest.mark.parametrize("cost", [10**30, LAST_NS, LAST_NS - 1])
def test_one_batch_alone_may_be_too_long(cost):
    said = refusals(RunConfig(**ONE_BY_ONE), lambda layer, block, tokens: cost)
    assert "the batch of 1 tokens in layer" in said


def test_the_toy_of_a_user():
    """`--affine 2e18,0`: four passes of two layers, eight batches one after another, 1.6e19 ns."""
    workload = toy([(0, 1), (1, 0), (0, 1), (1, 0)])
    assert "layer 0, expert 0 that starts at 8,000,000,000,000,000,000 ns" in refusals(
        RunConfig(**ONE_BY_ONE), affine(2e18, 0), workload
    )


def test_a_timeout_counts_only_if_somebody_waits_for_it():
    """B = 2 with one sequence in flight: nobody fills a queue. With two in flight and one expert queues fill."""
    far = {"queue_size": 2, "dense": False, "timeout_ns": LAST_NS}
    waited = RunConfig(arrivals="closed", in_flight=1, **far)
    assert refusals(waited, constant(10)).startswith("the run's clock would pass")
    assert f"a queue's time-out of {LAST_NS:,} ns" in refusals(waited, constant(10))
    both = toy([(0, 0), (0, 0)])
    for engine in ENGINES:
        assert ends(engine, RunConfig(arrivals="closed", in_flight=2, **far), constant(10), both) == [20, 20]


def test_a_batch_is_named_before_a_timeout_that_is_pending_as_well():
    """B = 2: two of three tokens fill a queue, whose batch never ends; the third waits for a time-out beyond."""
    config = RunConfig(arrivals="closed", in_flight=3, queue_size=2, dense=False, timeout_ns=LAST_NS)
    said = refusals(config, constant(LAST_NS - 1), toy([(0, 0), (0, 0), (1, 0)]))
    assert "the batch of 2 tokens in layer 1, expert 0 that starts at" in said


@pytest.mark.parametrize("timeout_ns", [2**62, 2**62 - 1, 2**61])
def test_timeouts_of_half_the_clock(timeout_ns):
    """Two layers wait in turn, for one sequence after another: four time-outs."""
    config = RunConfig(arrivals="closed", in_flight=1, queue_size=2, dense=False, timeout_ns=timeout_ns)
    if 4 * (timeout_ns + 1) >= LAST_NS:
        assert "time-out" in refusals(config, constant(1))
    if 2 * (timeout_ns + 1) < LAST_NS:
        for engine in ENGINES:
            assert ends(engine, config, constant(1), toy([(0, 1)])) == [2 * (timeout_ns + 1)]


def memory(**fields):
    return MemoryConfig(**{"cache": "lru", "slots": 1, "expert_bytes": 1000, **fields})


@pytest.mark.parametrize("miss", ["load", "block"])
def test_transfers_that_are_too_long(miss):
    config = RunConfig(**ONE_BY_ONE, memory=memory(miss=miss, link_latency_ns=2**62))
    assert "the transfer of an expert that starts at 4,611,686,018,427,388,9" in refusals(config, constant(3))


def test_the_host_may_be_too_slow():
    kept = memory(miss="host", filled=True, host_factor=1e18)
    config = RunConfig(**ONE_BY_ONE, memory=kept)
    known = Known(popularity=[2, 1, 2, 1])
    said = []
    for engine in ENGINES:
        with pytest.raises(InputError) as refused:
            ends(engine, config, constant(100), known=known)
        said.append(str(refused.value))
    assert said[0] == said[1]
    assert "the batch of 1 tokens in layer 1, expert 1" in said[0]


def test_arrivals_so_rare_that_the_clock_ends():
    rng = np.random.default_rng(0)
    for rate in (1e-10, 1e-300, 5e-324):
        with pytest.raises(InputError, match=f"rate_per_s is {rate!r}: 100 arrivals would take more than"):
            poisson_times_ns(100, rate, rng)
    assert (np.diff(poisson_times_ns(100, 1e-7, rng)) >= 0).all()
    config = RunConfig(arrivals="poisson", rate_per_s=1e-10, seed=0, dense=False)
    assert "rate_per_s is 1e-10" in refusals(config, constant(1))


@pytest.mark.parametrize("last_ns", [LAST_NS - 1, LAST_NS - 20])
def test_recorded_arrivals_at_the_end_of_the_clock(last_ns):
    """Two batches of 10 ns follow: the second ends 1 ns beyond, or at 2^63 - 1, where the clock has ended too."""
    late = replace(toy(), arrival_ns_G=np.array([0, last_ns]))
    config = RunConfig(arrivals="recorded", dense=False)
    assert "the batch of 1 tokens in layer" in refusals(config, constant(10), late)
    early = replace(late, arrival_ns_G=np.array([0, LAST_NS - 21]))
    for engine in ENGINES:
        assert ends(engine, config, constant(10), early) == [20, LAST_NS - 1]


def test_a_bandwidth_without_limit_leaves_the_latency():
    kept = memory(link_bytes_per_s=float("inf"), link_latency_ns=7)
    assert kept.transfer_ns == 7
    for engine in ENGINES:
        assert ends(engine, RunConfig(**ONE_BY_ONE, memory=kept), constant(3)) == [20, 40]
    assert MemoryConfig.from_dict(json.loads(json.dumps(RunConfig(memory=kept).as_dict()["memory"]))) == kept


@pytest.mark.parametrize(
    "fields",
    [
        {"link_bytes_per_s": 1e-9, "expert_bytes": 10**12}, {"link_bytes_per_s": float("nan")},
        {"host_factor": float("inf"), "miss": "host", "filled": True}, {"link_latency_ns": 2**63},
        {"link_latency_ns": LAST_NS, "link_bytes_per_s": float("inf")}, {"expert_bytes": 2**63}, {"slots": 2**40},
        {"link_bytes_per_s": 5e-324}, {"slots": 2**15 - 1},
    ],
)  # fmt: skip
def test_memories_that_cannot_be(fields):
    with pytest.raises(InputError, match="allowed"):
        memory(**fields)


@pytest.mark.parametrize(
    "fields",
    [
        {"queue_size": 10**20}, {"timeout_ns": 2**63}, {"devices": 32767}, {"sequences": 2**31}, {"seed": 2**63},
        {"arrivals": "poisson", "rate_per_s": float("inf"), "seed": 0}, {"k": 2**31}, {"dense_queue_size": 10**30},
        {"arrivals": "poisson", "rate_per_s": float("nan"), "seed": 0},
    ],
)  # fmt: skip
def test_runs_that_cannot_be(fields):
    with pytest.raises(InputError, match="allowed"):
        RunConfig(**fields)


@pytest.mark.parametrize("law", [(float("inf"), 0), (0, float("nan")), (1e300, 1), (2.0**63, 0)])
def test_cost_laws_that_cannot_be(law):
    with pytest.raises(InputError, match="affine costs"):
        affine(*law)
    with pytest.raises(InputError, match="affine costs"):
        CostModel(line_ns=law).cost(None)


def test_a_cost_table_may_hold_long_times():
    """One size, measured once, at half the clock: two batches pass it."""
    columns = {
        "layer": np.zeros(1, np.int16), "block": np.ones(1, np.int16), "tokens": np.ones(1, np.int32),
        "repetition": np.zeros(1, np.int32), "service_ns": np.full(1, 2**62, np.int64),
    }  # fmt: skip
    table = CostTable(columns, {"device": "toy"})
    for resampled in (False, True):
        cost = CostModel(table, resampled=resampled).cost(np.random.default_rng(0))
        assert "in layer 1" in refusals(RunConfig(**ONE_BY_ONE), cost)


def test_options_become_nanoseconds_in_one_place():
    assert whole_ns("--x-us", 1.5, 1000) == 1500
    for value, said in [
        (float("inf"), "--x-us: inf is not allowed here; allowed: finite numbers"),
        (float("nan"), "--x-us: nan is not allowed here; allowed: finite numbers"),
        (1e16, "--x-us: 1e+16 is 1e+19 ns, allowed: less than 9,223,372,036,854,775,807 ns"),
    ]:
        with pytest.raises(InputError) as refused:
            whole_ns("--x-us", value, 1000)
        assert str(refused.value) == said
