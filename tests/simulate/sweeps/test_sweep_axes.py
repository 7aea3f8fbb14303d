"""Axes of a sweep: every combination that means something, once; what means nothing is left out or refused."""

import pytest

from moe_replay.simulate.config.cluster_config import ClusterConfig
from moe_replay.simulate.config.memory_config import MemoryConfig
from moe_replay.simulate.config.run_config import RunConfig
from moe_replay.simulate.sweeps.axes import FIELDS, configs_of, read_axes
from moe_replay.simulate.sweeps.cluster_axes import CLUSTER_FIELDS
from moe_replay.traces.errors import InputError


def no_capacity(k, batch, dense, devices):
    raise AssertionError("nothing asks for a capacity")


def configs(*options, seeds=(0,), capacity=no_capacity, grid=None):
    found = configs_of(read_axes(list(options), grid), list(seeds), capacity, lambda: 1000)
    assert [config.name for config in found.values()] == list(found)
    return list(found.values())


def test_every_field_of_a_run_and_of_its_memory_is_an_axis_but_the_seed():
    own = set(RunConfig.__dataclass_fields__) - {"memory", "seed", "served", "cluster"}
    assert set(FIELDS) == own | set(MemoryConfig.__dataclass_fields__) | set(CLUSTER_FIELDS)
    assert len(FIELDS) == len(own) + len(MemoryConfig.__dataclass_fields__) + len(CLUSTER_FIELDS)
    assert set(CLUSTER_FIELDS) <= set(ClusterConfig.__dataclass_fields__)


def test_links_bring_lockstep_along_and_are_combined_with_what_is_swept_of_them():
    sizes = ("dispatch_bytes=2KiB", "combine_bytes=4096")
    found = configs("links=none,h800-ndr", "devices=4,8", "nodes=2", "micro_batches=1,2", *sizes)
    assert {config.scheduler for config in found} == {"lockstep"}
    asked = [(config.devices, config.cluster and config.cluster.micro_batches) for config in found]
    assert asked == [(4, None), (4, 1), (4, 2), (8, None), (8, 1), (8, 2)]
    assert {config.cluster.dispatch_bytes for config in found if config.cluster} == {2048}
    for options, said in (
        (("nodes=2",), "axis nodes has no meaning without links"),
        (("links=h800-ndr",), "links h800-ndr do not say how many bytes a token has; allowed: dispatch_bytes"),
        (("links=h800-ndr", *sizes, "load=0.5", "arrivals=poisson"), "not known of linked devices"),
        (("links=h800-ndr", *sizes, "slots=2"), "links and expert memory together are not modelled"),
    ):
        with pytest.raises(InputError, match=said):
            configs(*options)


def test_the_cross_product_stands_in_the_order_of_the_axes_seeds_last():
    found = configs("queue_size=8,32", "in_flight=64,128", seeds=(0, 1))
    assert [config.name for config in found] == [
        f"queues-B0{size}-closed{number}-s{seed}" for size in ("08", "32") for number in (64, 128) for seed in (0, 1)
    ]


def test_axes_bring_along_the_scheduler_and_the_arrivals_they_belong_to():
    assert {config.arrivals for config in configs("in_flight=4", "rate_per_s=10.5")} == {"closed", "poisson"}
    assert [config.name for config in configs("max_step=16,none", "k=2")] == [
        "lockstep-S16-all-k2-s0", "lockstep-Sall-all-k2-s0",
    ]  # fmt: skip
    assert [config.name for config in configs("queue_size=4", "max_step=16")] == [
        "queues-B004-all-s0", "lockstep-S16-all-s0",
    ]  # fmt: skip


def test_what_means_nothing_in_a_combination_is_not_multiplied():
    found = configs("scheduler=queues,lockstep", "queue_size=1,8", "arrivals=all,closed", "in_flight=4,8")
    assert [config.name for config in found] == [
        f"{schedule}-{arriving}-s0"
        for schedule in ("queues-B001", "queues-B008", "lockstep-Sall") for arriving in ("all", "closed4", "closed8")
    ]  # fmt: skip
    assert [config.name for config in configs("arrivals=recorded", "queue_size=1,2", seeds=range(5))] == [
        "queues-B001-recorded", "queues-B002-recorded",
    ]  # fmt: skip


def test_a_load_is_a_share_of_the_capacity_at_the_largest_queue_size():
    def capacity(k, batch, dense, devices, placement):
        assert (batch, devices, placement) == (32, 2, "contiguous")
        return {1: 100.0, None: 50.0}[k] * (1 if dense else 2)

    found = configs("queue_size=8,32", "load=0.5,0.8", "k=1,none", "dense=true,false", "devices=2", capacity=capacity)
    assert len(found) == 2 * 2 * 2 * 2
    for config in found:
        whole = (100 if config.k else 50) * (1 if config.dense else 2)
        assert config.rate_per_s == config.load * whole


def test_a_memory_axis_makes_a_memory_and_resident_none():
    found = configs("cache=resident,lru,belady", "slots=2,2.3", "queue_size=4")
    memories = [config.memory for config in found]
    assert memories[0] is None
    assert [(memory.cache, memory.slots) for memory in memories[1:]] == [
        ("lru", 2), ("lru", (2, 3)), ("belady", 2), ("belady", (2, 3)),
    ]  # fmt: skip
    assert {(m.expert_bytes, m.link_bytes_per_s, m.link_latency_ns) for m in memories[1:]} == {(1000, 16e9, 10_000)}
    assert configs("queue_size=4")[0].memory is None


def test_memories_that_mean_nothing_are_left_out_as_in_their_own_grid():
    found = configs("cache=lru,belady,importance", "miss=load,redirect", "period=none,8")
    assert [(c.memory.cache, c.memory.miss, c.memory.period, c.memory.filled) for c in found] == [
        ("lru", "load", None, False), ("lru", "redirect", None, True), ("belady", "load", None, False),
        ("importance", "load", None, False), ("importance", "redirect", None, True),
        ("importance", "redirect", 8, True),
    ]  # fmt: skip
    found = configs("prefetch=none,oracle", "look_ahead=1,3", "link_latency_ns=0,5")
    assert [(c.memory.prefetch, c.memory.look_ahead, c.memory.link_latency_ns) for c in found] == [
        ("none", 1, 0), ("oracle", 1, 0), ("oracle", 3, 0), ("none", 1, 5), ("oracle", 1, 5), ("oracle", 3, 5),
    ]  # fmt: skip


def test_a_toml_file_holds_the_same_axes(tmp_path):
    path = tmp_path / "grid.toml"
    path.write_text(
        'queue_size = [8, 32]\nin_flight = 64\ncache = ["lru", "resident"]\nslots = [2, [2, 3]]\nfilled = true\n'
    )
    options = ("queue_size=8,32", "in_flight=64", "cache=lru,resident", "slots=2,2.3", "filled=true")
    assert configs(grid=path) == configs(*options)
    assert configs("k=1", grid=path) == configs(*options, "k=1")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["queue_sise=8"], "unknown axis 'queue_sise'; known: arrivals, asks, cache, combine_bytes, dense"),
        (["seed=1,2"], "seed is no axis: --replications N"),
        (["queue_size"], "--axis: 'queue_size' is not allowed; allowed: NAME=V1,V2"),
        (["queue_size=8", "queue_size=9"], "axis queue_size is given twice"),
        (["queue_size="], "axis queue_size has no values"),
        ([], "nothing to sweep"),
        (["queue_size=8,many"], "axis queue_size: 'many' is not allowed; allowed: int"),
        (["queue_size=8.5"], "axis queue_size: '8.5' is not allowed"),
        (["queue_size=none"], "axis queue_size: 'none' is not allowed"),
        (["queue_size=0"], "queue_size is 0, allowed: integers >= 1"),
        (["dense=perhaps"], "axis dense: 'perhaps' is not allowed; allowed: bool"),
        (["scheduler=fifo"], "unknown scheduler 'fifo'; known: lockstep, queues"),
        (["cache=lur"], "unknown cache policy 'lur'"),
        (["scheduler=queues", "max_step=4"], "axis max_step has no meaning under scheduler queues, only"),
        (["look_ahead=2"], "axis look_ahead has no meaning under prefetch the default, only under 'oracle'"),
        (["miss=load", "host_factor=2"], "axis host_factor has no meaning under miss load, only under 'host'"),
        (["cache=resident", "slots=2"], "axis slots has no meaning without a cache"),
        (["cache=lru", "period=8"], "no combination of cache, miss and period means anything"),
        (["arrivals=closed"], "arrivals 'closed' needs in_flight"),
        (["load=0.5", "rate_per_s=3"], "allowed: one of them"),
        (["slots=2", "link_bytes_per_s=1e9,1000000001"], "two configurations would be called"),
    ],
)  # fmt: skip
def test_what_is_no_grid_is_one_line(options, message):
    with pytest.raises(InputError, match=message.replace("(", r"\(")):
        configs(*options, capacity=lambda *_: 1.0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("queue_sise = 1", "unknown axis 'queue_sise'"),
        ("queue_size = [", "no TOML file"),
        ("queue_size = []", "axis queue_size has no values"),
        ("queue_size = true", "axis queue_size: True is not allowed; allowed: int"),
        ("queue_size = 1.5", "axis queue_size: 1.5 is not allowed"),
        ("[table]\nx = 1", "unknown axis 'table'"),
    ],
)
def test_a_toml_file_that_is_no_grid_is_one_line(tmp_path, text, message):
    path = tmp_path / "grid.toml"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        configs(grid=path)
    with pytest.raises(InputError, match="no such file"):
        configs(grid=tmp_path / "none.toml")
