"""Configurations: names that tell runs apart, values refused at the door, placements."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_replay.simulate.config.run_config import RunConfig
from moe_replay.simulate.policies.placement import place
from moe_replay.traces.errors import InputError


def test_names():
    closed = RunConfig(queue_size=8, arrivals="closed", in_flight=512, k=4, sequences=3000, seed=0)
    assert closed.name == "queues-B008-closed512-k4-n3000-s0"
    poisson = RunConfig(queue_size=128, arrivals="poisson", rate_per_s=12.5, load=0.6, seed=1)
    assert poisson.name == "queues-B128-poisson0.60-s1"
    assert replace(poisson, load=0.625).name == "queues-B128-poisson0.625-s1"
    assert replace(poisson, load=None).name == "queues-B128-poisson12.5ps-s1"
    lockstep = RunConfig(scheduler="lockstep", max_step=512, arrivals="closed", in_flight=512)
    assert lockstep.name == "lockstep-S512-closed512"
    assert replace(lockstep, max_step=None).name == "lockstep-Sall-closed512"
    everything = RunConfig(queue_size=2, dense_queue_size=1, timeout_ns=5000, dense=False, devices=2)
    assert everything.name == "queues-B002-dense001-timeout5000ns-all-nodense-D2contiguous"


configs = st.builds(
    RunConfig,
    queue_size=st.integers(1, 200),
    dense_queue_size=st.none() | st.integers(1, 200),
    timeout_ns=st.none() | st.integers(0, 10**9),
    arrivals=st.sampled_from(["all", "steps"]),
    k=st.none() | st.integers(1, 16),
    sequences=st.none() | st.integers(1, 10**6),
    seed=st.none() | st.integers(0, 99),
    dense=st.booleans(),
    devices=st.integers(1, 8),
)


@given(configs, configs)
def test_equal_names_mean_equal_configurations(first, second):
    assert (first.name == second.name) == (first == second)


@given(configs)
def test_a_header_gives_the_configuration_back(config):
    assert RunConfig.from_dict(config.as_dict()) == config


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"scheduler": "queue"}, "unknown scheduler 'queue'; known: lockstep, queues"),
        ({"arrivals": "fast"}, "unknown arrivals 'fast'; known: all, closed, poisson, recorded, steps"),
        ({"placement": "near"}, "unknown placement 'near'; known: contiguous"),
        ({"queue_size": 0}, "queue_size is 0, allowed: integers >= 1"),
        ({"queue_size": 2.0}, "queue_size is 2.0, allowed: integers >= 1"),
        ({"queue_size": None}, "queue_size is None, allowed: integers >= 1"),
        ({"queue_size": True}, "queue_size is True"),
        ({"timeout_ns": -1}, "timeout_ns is -1, allowed: integers >= 0"),
        ({"devices": 0}, "devices is 0"),
        ({"dense": 1}, "dense is 1, allowed: true, false"),
        ({"arrivals": "closed"}, "needs in_flight"),
        ({"arrivals": "poisson", "seed": 0}, "needs rate_per_s"),
        ({"arrivals": "poisson", "rate_per_s": 1.0}, "a seed"),
        ({"arrivals": "poisson", "rate_per_s": 0.0, "seed": 0}, "rate_per_s is 0.0, allowed: numbers > 0"),
        ({"arrivals": "poisson", "rate_per_s": float("inf"), "seed": 0}, "rate_per_s is inf"),
        ({"arrivals": "recorded", "speed": 0.0}, "speed is 0.0, allowed: numbers > 0"),
        ({"arrivals": "recorded", "speed": None}, "speed is None, allowed: numbers > 0"),
        ({"speed": 2.0}, "speed has no meaning under arrivals 'all', only under 'recorded'"),
        ({"in_flight": 3}, "in_flight has no meaning under arrivals 'all', only under 'closed'"),
        ({"max_step": 3}, "max_step has no meaning under scheduler 'queues'"),
        ({"scheduler": "lockstep", "queue_size": 2}, "queue_size has no meaning under scheduler 'lockstep'"),
    ],
)
def test_impossible_values_are_refused_with_one_line(fields, message):
    with pytest.raises(InputError, match=message):
        RunConfig(**fields)


def test_an_unknown_field_of_a_header_is_refused():
    with pytest.raises(InputError, match=r"unknown field .*'cache'; known: arrivals, cluster, dense"):
        RunConfig.from_dict({"cache": "lru"})


def test_streams_of_one_seed_differ_and_are_reproducible():
    config = RunConfig(seed=5)
    draws = {stream: config.generator(stream).random() for stream in ("sequences", "arrivals", "service")}
    assert len(set(draws.values())) == 3
    assert config.generator("arrivals").random() == draws["arrivals"]
    assert RunConfig(seed=6).generator("arrivals").random() != draws["arrivals"]


def test_contiguous_placement_keeps_neighbours_together():
    assert place("contiguous", 1, 5, 1).tolist() == [[0] * 6] * 2
    assert place("contiguous", 3, 4, 2).tolist() == [
        [0, 0, 0, 1, 1],  # the dense blocks of four layers are shared out too
        [0, 0, 0, 1, 1],
        [1, 0, 0, 1, 1],
        [1, 0, 0, 1, 1],
    ]


def test_impossible_placements_are_refused():
    with pytest.raises(InputError, match="unknown placement 'near'"):
        place("near", 1, 4, 2)
    with pytest.raises(InputError, match="devices is 5, allowed: at most one for each of the 4 experts"):
        place("contiguous", 1, 4, 5)
