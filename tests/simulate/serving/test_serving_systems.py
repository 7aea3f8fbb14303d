"""Serving over linked devices: worlds worked out by hand, a second model beside it, and what is conserved."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from cluster_worlds import cluster, links, net_of
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from plain_serving import PlainPool, plain_transfers
from scipy import stats
from served_traces import recorded

from moe_replay.simulate.config.costs import affine
from moe_replay.simulate.config.run_config import RunConfig
from moe_replay.simulate.config.workload import trace_workload
from moe_replay.simulate.engines.simpy_engine import simulate
from moe_replay.simulate.policies.placement import place
from moe_replay.simulate.serving.composition import Demand, Engine, asked_of, composed
from moe_replay.simulate.serving.request_rows import serve
from moe_replay.simulate.serving.serving_system import System, new_service
from moe_replay.traces.errors import InputError
from moe_replay.traces.runs.request_table import token_times

HAND = cluster(inside_latency_ns=3, dispatch_bytes=2, combine_bytes=4)


def by_hand():
    """Two sequences: a prompt token for expert 1 and one decoded for expert 0; a prompt token for expert 1."""
    trace = recorded([(1, 1), (1, 0)], layers=1, experts=2, k=1)
    return replace(trace, experts_TLK=np.array([1, 0, 1], np.int16).reshape(3, 1, 1))


def hand_cost(layer, block, tokens):
    """Return 10 ns of a dense block, 5 of the last one, 7 of an expert."""
    return 7 if block else 10 if layer == 0 else 5


def times(system):
    rows = serve(by_hand(), Engine(8, 4), Demand(), system, hand_cost).rows
    return [(row["first_token_ns"], row["end_ns"]) for row in rows]


@pytest.mark.parametrize("runs_on", ["simpy", "compiled"])
def test_two_devices_worked_by_hand(runs_on):
    """Dense 0-10; a token leaves device 0 at 10, is there at 10 + 3 + 2; expert 1 runs 15-22 for both homes.

    Its result is back at 22 + 3 + 4 = 29, the last dense block ends at 34; decoding stays at home, 10 + 7 + 5 more.
    """
    system = System(2, cluster=HAND, runs_on=runs_on)
    assert times(system) == [(34, 56), (34, 34)]


def test_two_pools_worked_by_hand():
    """Prompts take 10 + 7 + 5 on their one device; decoding another 22, with 6 bytes sent from 22 to 22 + 3 + 6."""
    assert times(System(2, cluster=HAND, pools=(1, 1))) == [(22, 44), (22, 22)]
    assert times(System(2, cluster=HAND, pools=(1, 1), kv_bytes=6)) == [(22, 53), (22, 22)]


def test_times_of_the_hand_worked_world():
    """TTFT 34 and 34 ns; the one further token took 22 ns; three tokens in 56 ns."""
    found = token_times(serve(by_hand(), Engine(8, 4), Demand(), System(2, cluster=HAND), hand_cost).rows)
    assert found["ttft_mean_ms"] == found["ttft_p99_ms"] == 34e-6
    assert found["tpot_mean_ms"] == found["tpot_p50_ms"] == 22e-6
    assert found["output_tokens_per_s"] == pytest.approx(3 / 56e-9)


LENGTHS = st.lists(st.tuples(st.integers(1, 7), st.integers(0, 4)), min_size=1, max_size=5)
DEMANDS = st.sampled_from([Demand(), Demand("poisson", 1e5, seed=3), Demand("poisson", 2e6, 7, 1)])
CHUNKS = st.none() | st.integers(1, 4)


@settings(max_examples=40, deadline=None)
@given(lengths=LENGTHS, chunk=CHUNKS, demand=DEMANDS, dense=st.booleans(), asked=links(1, 1))
def test_one_linked_device_is_one_device(lengths, chunk, demand, dense, asked):
    assume(asked.micro_batches == 1)  # several run every active expert once each
    asked = replace(asked, shared_experts=0)
    trace, engine, cost = recorded(lengths), Engine(9, 3, chunk), affine(700, 30)
    linked = System(1, cluster=asked, dense=dense, runs_on="simpy")
    alone, same = (serve(trace, engine, demand, system, cost) for system in (System(dense=dense), linked))
    assert (alone.rows, alone.end_ns) == (same.rows, same.end_ns)


@st.composite
def systems(draw, engine="simpy"):
    """Draw linked devices, in one pool or two."""
    nodes, in_node = draw(st.sampled_from([(1, 2), (1, 3), (2, 1), (2, 2), (3, 1), (3, 2)]))
    asked, devices = draw(links(nodes, in_node)), nodes * in_node
    split = draw(st.none() | st.integers(1, devices - 1).map(lambda first: (first, devices - first)))
    if split and nodes > 1 and any(pool % in_node for pool in split):
        split = None
    kv_bytes = draw(st.sampled_from([0, 1, 50, 3000])) if split else 0
    return System(devices, cluster=asked, pools=split, kv_bytes=kv_bytes, runs_on=engine)


def slots_of(layers, experts, devices):
    """Return the expert of every slot where experts are contiguous, -1 behind the last of a device."""
    device_E = [expert * devices // experts for expert in range(experts)]
    held = [[expert for expert in range(experts) if device_E[expert] == device] for device in range(devices)]
    most = max(map(len, held))
    return [[each for device in held for each in [*device, *[-1] * (most - len(device))]]] * layers


def plainly_served(trace, lengths, engine, system, order, arrival_ns, cost):
    """Return [(first token, end, when the second pool had the prompt or -1)] of every request by the plain model."""
    first_row = np.cumsum([0, *(sum(each) for each in lengths)])
    asked = [lengths[source] for source in order]

    def experts(s, i):
        return [row.tolist() for row in trace.experts_TLK[first_row[order[s]] + i]]

    def pool(devices, begin, stop):
        links_of = system.cluster_of(devices)
        net = net_of(links_of, devices)
        slots = slots_of(trace.L, trace.E, devices)
        return PlainPool(
            devices, links_of.nodes, links_of.micro_batches, slots, net, cost,
            engine.token_budget, engine.most_running, engine.chunk, asked, experts, begin, stop,
            links_of.shared_experts,
        )  # fmt: skip

    prompts, every = [prompt for prompt, _ in asked], [sum(each) for each in asked]
    arrivals = list(zip(arrival_ns, range(len(asked)), strict=True))
    begin = [0] * len(asked)
    if system.pools is None:
        only = pool(system.devices, begin, every)
        only.run(arrivals)
        return [(only.token_ns[s, prompts[s] - 1], only.token_ns[s, every[s] - 1], -1) for s in range(len(asked))]
    one = pool(system.pools[0], begin, prompts)
    one.run(arrivals)
    went = [s for _, s in sorted((one.token_ns[s, prompts[s] - 1], s) for s in range(len(asked)) if asked[s][1])]
    made = [(one.token_ns[s, prompts[s] - 1], s, prompts[s]) for s in went]
    there = [(when, s) for when, s, _ in made]
    if system.kv_bytes:
        in_node = system.devices // system.cluster.nodes
        net = net_of(system.cluster, system.devices)
        there = plain_transfers(made, in_node, net, net["nics"], system.pools[0], system.kv_bytes, *system.pools)
    two = pool(system.pools[1], prompts, every)
    two.run(there)
    joined = {s: when for when, s in there}
    tokens = one.token_ns | two.token_ns
    return [(tokens[s, prompts[s] - 1], tokens[s, every[s] - 1], joined.get(s, -1)) for s in range(len(asked))]


@settings(max_examples=150, deadline=None)
@given(lengths=LENGTHS, chunk=CHUNKS, demand=DEMANDS, system=systems())
def test_a_plain_model_serves_alike(lengths, chunk, demand, system):
    """Prompts that take no time from pool to pool come in rounds of one instant: the plain model has none."""
    speeds = system.cluster.inside_bytes_per_s, system.cluster.network_bytes_per_s
    assume(not system.kv_bytes or system.kv_bytes * 1e9 >= max(speeds))
    trace, engine, cost = recorded(lengths, experts=6), Engine(14, 7, chunk), affine(700, 30)
    made = serve(trace, engine, demand, system, cost)
    order, arrival_ns = made.order_G.tolist(), made.arrival_ns_G.tolist()
    wanted = plainly_served(trace, lengths, engine, system, order, arrival_ns, cost)
    assert [(row["first_token_ns"], row["end_ns"], row["decode_pool_ns"]) for row in made.rows] == wanted


@settings(max_examples=150, deadline=None)
@given(lengths=LENGTHS, chunk=CHUNKS, demand=DEMANDS, system=systems(), most=st.integers(1, 3))
def test_every_request_is_served_once_and_every_token_comes_once(lengths, chunk, demand, system, most):
    trace, engine = recorded(lengths, experts=6), Engine(9, most, chunk)
    service, order_G, arrival_ns_G = new_service(trace, engine, demand, system, affine(700, 30))
    service.run()
    computed = [[] for _ in order_G]
    for step in service.steps:
        assert 0 < sum(len(rows) for _, rows in step.parts) <= engine.token_budget
        assert len(step.parts) <= engine.most_running
        for member, rows in step.parts:
            assert step.start_ns >= arrival_ns_G[member]
            computed[member] += rows.tolist()
    assert computed == [each.rows.tolist() for each in service.sequences]
    for number in range(len(system.pools or (1,))):
        spans = [(step.start_ns, step.end_ns) for step in service.steps if step.pool == number]
        assert all(before[1] <= after[0] for before, after in pairwise(spans))
    assert (arrival_ns_G <= service.first_ns_G).all()
    assert (service.first_ns_G <= service.end_ns_G).all()
    sent = service.transfer.sent_bytes_G if service.transfer else {}
    for member, each in enumerate(service.sequences):
        goes = system.pools is not None and len(each.rows) > each.prompt
        assert (service.joined_ns_G[member] >= service.first_ns_G[member]) == goes
        assert sent.get(member, 0) == (each.prompt * system.kv_bytes if goes else 0)


@settings(max_examples=25, deadline=None)
@given(lengths=LENGTHS, chunk=CHUNKS, system=systems(), homes=st.sampled_from(["trace", "sequence", "row"]))
def test_the_composed_trace_takes_as_long_when_it_is_run(lengths, chunk, system, homes):
    system = replace(system, cluster=replace(system.cluster, homes=homes), pools=None, kv_bytes=0)
    trace, engine, cost = recorded(lengths, experts=6), Engine(9, 3, chunk), affine(700, 30)
    made = serve(trace, engine, Demand(), system, cost)
    steps = composed(trace, made.parts, made.order_G, made.arrival_ns_G, asked_of(engine, Demand()))
    config = RunConfig(scheduler="lockstep", arrivals="steps", devices=system.devices, cluster=system.cluster)
    records = simulate(trace_workload(steps, config), config, cost, {})
    assert records.passes["end_ns"].max() == made.end_ns


def test_both_engines_serve_alike():
    trace = recorded([(5, 3), (2, 6), (7, 0), (1, 4)], layers=3, experts=6, seed=5)
    asked = cluster(nodes=2, inside_latency_ns=40, network_latency_ns=90, dispatch_bytes=30, combine_bytes=70)
    for pools in (None, (2, 2)):
        found = [
            serve(
                trace, Engine(8, 3, 4), Demand("poisson", 1e5, 9, 1),
                System(4, cluster=asked, pools=pools, kv_bytes=500 * bool(pools), runs_on=engine), affine(900, 20),
            ).rows
            for engine in ("simpy", "compiled")
        ]  # fmt: skip
        assert found[0] == found[1]


def test_recorded_ranks_are_homes():
    """All tokens at home on rank 1, beside the experts that they select: nothing crosses a link."""
    trace = replace(by_hand(), experts_TLK=np.ones((3, 1, 1), np.int16), rank_T=np.ones(3, np.int16))
    rows = serve(trace, Engine(8, 4), Demand(), System(2, cluster=HAND, runs_on="simpy"), hand_cost).rows
    assert [row["end_ns"] for row in rows] == [44, 22]


def test_one_request_at_a_time_is_an_m_d_1_queue():
    """Prompts of one token, 1 ms each, nothing decoded: TTFT is the service and a wait of rho s / (2 (1 - rho))."""
    trace, service_ns, rho = recorded([(1, 0)], layers=1, experts=1, k=1), 10**6, 0.7
    means = []
    for seed in range(10):
        demand = Demand("poisson", rho * 1e9 / service_ns, 4000, seed)
        rows = serve(trace, Engine(1, 1), demand, System(), lambda layer, block, tokens: service_ns * (block > 0)).rows
        means.append(np.mean([row["first_token_ns"] - row["arrival_ns"] for row in rows[200:]]))
    half_width = stats.t.ppf(0.9995, len(means) - 1) * stats.sem(means)
    assert abs(np.mean(means) - service_ns * (1 + rho / (2 * (1 - rho)))) < half_width
    assert half_width < 0.15 * np.mean(means)  # wide intervals prove nothing


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: System(2), "2 devices serve together over links, allowed: --links, or one device"),
        (lambda: System(placement="round-robin"), "--placement has no meaning on one device"),
        (lambda: System(2, cluster=HAND, kv_bytes=5), "--kv-bytes has no meaning without --pools"),
        (lambda: System(4, cluster=HAND, pools=(2, 1)), "pools of 2 and 1 devices, allowed: 4 in all"),
        (lambda: System(4, cluster=HAND, pools=(4, 0)), "pools of 4 and 0 devices, allowed: 4 in all"),
        (lambda: System(6, cluster=cluster(nodes=2), pools=(2, 4)), "a pool of 2 devices, allowed: whole nodes of 3"),
        (lambda: System(3, cluster=cluster(nodes=2)), "3 devices in 2 nodes, allowed: equally many in each"),
        (lambda: System(2, cluster=cluster(homes="row"), pools=(1, 1)), "--homes row: a sequence keeps its home"),
        (lambda: times(System(2, cluster=HAND, placement="nowhere")), "nowhere"),
    ],
)
def test_what_cannot_serve_is_refused(build, message):
    with pytest.raises(InputError, match=message):
        build()


def test_plain_slots_are_those_of_the_contiguous_rule():
    """So that the plain model places experts as the engines do."""
    for devices in (1, 2, 3, 4):
        device_E = place("contiguous", 2, 4, devices)[0, 1:]
        slots = slots_of(2, 4, devices)[0]
        found = {expert: at // (len(slots) // devices) for at, expert in enumerate(slots) if expert >= 0}
        assert [found[expert] for expert in range(4)] == device_E.tolist()
