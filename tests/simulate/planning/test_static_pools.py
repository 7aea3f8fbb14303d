"""Static pools: every shape once, times by hand, limits of memory and gate."""

import numpy as np
import pytest
from typer.testing import CliRunner

from moe_replay.simulate.__main__ import app
from moe_replay.simulate.planning.static_pools import PoolShape, PoolWorld, exchange_ms, pool_row, pools, shapes
from moe_replay.traces.errors import InputError
from moe_replay.traces.glossary.lookup import find
from moe_replay.traces.header import ModelInfo
from moe_replay.traces.load_trace import LoadTrace

WORLD = PoolWorld(
    devices=4, experts=4, layers=2, k=1, tokens=100, width=10, hidden=20, expert_bytes=1600, micro_batches=3,
    capacity=1.2, flops=8000, bytes_per_s=1000,
)  # fmt: skip


def test_every_shape_once():
    found = list(shapes(WORLD))
    assert len(found) == len(set(found)) == 9
    assert all(each.data * each.tensor * each.pipeline == 4 and each.data % each.expert == 0 for each in found)
    assert {each.pipeline for each in found} == {1, 2}  # 4 stages cannot share 2 layers


def test_a_pool_by_hand():
    """Two stages of a layer, two ranks with two experts each: 50 selections in the mean, 60 as the gate bounds them."""
    row = pool_row(WORLD, PoolShape(data=2, tensor=1, pipeline=2, expert=2), {})
    assert (row["slots_per_layer"], row["slots_per_device"], row["expert_memory_bytes"]) == (2, 2, 3200)
    assert 10 ** row["log10_placements"] == pytest.approx(6)  # two of four experts on the first rank
    per_selection = 3 * (4 * 10 * 20 / 8000) + 4 * (20 / 1000) / 2
    assert row["balanced_ms"] == pytest.approx(1e3 * per_selection * 50 * (3 + 1))  # filling: one more than 3
    assert row["bounded_ms"] == pytest.approx(1e3 * per_selection * 60 * (3 + 1))
    assert row["exchange_ms"] == 0


def test_exchanges_by_hand():
    """Copies on four ranks send 2 * 3/4 of their gradients; two devices that share experts, all tokens, 24 times."""
    copied = exchange_ms(WORLD, PoolShape(data=4, tensor=1, pipeline=1, expert=1), 12800)
    assert copied == pytest.approx(1e3 * 1.5 * 12800 / 1000)
    shared = exchange_ms(WORLD, PoolShape(data=2, tensor=2, pipeline=1, expert=2), 3200)
    assert shared == pytest.approx(1e3 * 4 * 2 * 3 * 50 * 20 / 1000)


def test_without_a_capacity_every_token_may_go_to_one_expert():
    world = PoolWorld(**{**WORLD.__dict__, "capacity": None, "k": 2})
    row = pool_row(world, PoolShape(4, 1, 1, 4), {})
    assert row["bounded_ms"] / row["balanced_ms"] == pytest.approx(2)  # 100 of 200 selections, 50 in the mean


def test_what_fits_comes_first_and_recorded_loads_are_between():
    rng = np.random.default_rng(0)
    load_SLE = rng.multinomial(100, [0.4, 0.3, 0.2, 0.1], size=(5, 2))
    rows = pools(PoolWorld(**{**WORLD.__dict__, "memory_bytes": 4000}), load_SLE)
    fits = [row["fits"] for row in rows]
    assert fits == sorted(fits, reverse=True)
    assert 0 < sum(fits) < len(fits)
    for row in rows:
        assert row["balanced_ms"] <= row["lpt_ms"] + 1e-9
        assert row["lpt_ms"] <= row["contiguous_ms"] + 1e-9


def test_the_command_says_what_a_trace_lacks(tmp_path):
    load = np.random.default_rng(1).integers(1, 9, size=(3, 1, 1, 2, 4))
    numbers = {"iteration_S": np.arange(3), "rank_R": np.zeros(1, np.int32)}
    data = {"name": None, "digest": None, "note": None}
    model = ModelInfo(name="toy", experts=4, used_k=1, layer_ids=(0, 1), d_model=8)
    path = tmp_path / "toy.loads.parquet"
    LoadTrace(model=model, data=data, load_SRMLE=load, **numbers).save(path)
    done = CliRunner().invoke(app, ["pools", str(path), "--devices", "4"])
    assert isinstance(done.exception, InputError)
    assert "--hidden: the load trace does not tell it" in str(done.exception)
    words = ["pools", str(path), "--devices", "4", "--hidden", "16", "--out", str(tmp_path / "pools.csv")]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    header, *rows = (tmp_path / "pools.csv").read_text().splitlines()
    assert len(rows) == 9
    for name in header.split(","):
        find(name)
