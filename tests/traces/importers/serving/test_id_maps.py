"""Id spaces: physical slots become experts; shared experts and those without weights are told apart."""

import json

import numpy as np
import pytest
from engine_responses import npy, usage, vllm, written
from importing import imported, refusal, selections

from moe_replay.traces.command_line.provenance import provenance
from moe_replay.traces.describe import load_LE, spread
from moe_replay.traces.placements.expert_placement import ExpertPlacement, save_placement
from moe_replay.traces.routes import weightless_text

EXPERTS, SLOTS = 6, 8
# In layer 0 slot p holds expert p % 6, in layer 1 expert (p + 1) % 6, in layer 2 the other way round.
MAP = np.array([np.arange(8) % 6, (np.arange(8) + 1) % 6, (7 - np.arange(8)) % 6])
MAPS = {
    "json": lambda path: path.with_suffix(".json").write_text(json.dumps({"physical_to_logical_map": MAP.tolist()})),
    "plain json": lambda path: path.with_suffix(".json").write_text(json.dumps(MAP.tolist())),
    "npz": lambda path: np.savez(path.with_suffix(".npz"), phy2log=MAP, log2phy=np.zeros((3, 6, 2))),
    "npy": lambda path: np.save(path.with_suffix(".npy"), MAP),
}


def physical(rng, tokens=20):
    """Slots whose experts are distinct in every row."""
    experts = selections(rng, tokens, 3, 2, EXPERTS)
    pick = rng.integers(0, 2, experts.shape)
    slots = np.empty(experts.shape, np.int64)
    for at in np.ndindex(experts.shape):
        held = np.flatnonzero(MAP[at[1]] == experts[at])
        slots[at] = held[pick[at] % len(held)]
    return experts, slots


@pytest.mark.parametrize("form", MAPS)
def test_slots_become_experts(tmp_path, rng, form):
    experts, slots = physical(rng)
    MAPS[form](tmp_path / "map")
    path = next(tmp_path.glob("map.*"))
    rows = written(tmp_path / "x.json", vllm({"routed_experts": npy(slots)}, **usage(15, 6)))
    trace = imported("vllm", rows, experts=EXPERTS, layers="all", id_map=path)
    np.testing.assert_array_equal(trace.experts_TLK, experts)
    assert trace.header.notes["ids"] == f"physical ids were mapped to experts by {path.name}"
    np.savez(tmp_path / "x.npz", experts=slots, offsets=[0, 20])
    trace = imported("npz", tmp_path / "x.npz", experts=EXPERTS, phase="prefill", id_map=path)
    np.testing.assert_array_equal(trace.experts_TLK, experts)
    assert "slots of replicas (--map)" in refusal("vllm", rows, experts=EXPERTS, layers="all")


def test_a_map_is_of_all_layers_of_the_moe_layers_or_of_one(tmp_path, rng):
    experts, slots = physical(rng)
    dense = np.concatenate([np.zeros((20, 1, 2), int), slots], 1)
    rows = written(tmp_path / "x.json", vllm({"routed_experts": npy(dense)}, **usage(15, 6)))
    stated = {"experts": EXPERTS, "layers": "1-3", "id_map": tmp_path / "map.npy"}
    for table in (MAP, np.concatenate([MAP[:1], MAP])):
        np.save(tmp_path / "map.npy", table)
        np.testing.assert_array_equal(imported("vllm", rows, **stated).experts_TLK, experts)
    np.save(tmp_path / "map.npy", np.arange(8) % 6)
    path = written(tmp_path / "y.json", vllm({"routed_experts": npy(slots[:, :1])}, **usage(15, 6)))
    np.testing.assert_array_equal(imported("vllm", path, **stated | {"layers": "all"}).experts_TLK, experts[:, :1])
    np.save(tmp_path / "map.npy", MAP[:2])
    assert "the map has 2 layers, allowed 3, or all up to layer 3" in refusal("vllm", rows, **stated)


def test_a_placements_file_is_a_map(tmp_path, rng):
    experts, slots = physical(rng)
    placed = ExpertPlacement(
        model="m", experts=EXPERTS, devices=2, nodes=1, layer_ids=(0, 1, 2), expert_LP=MAP.astype(np.int16)
    )
    save_placement(placed, tmp_path / "x.placement.json", provenance())
    rows = written(tmp_path / "x.json", vllm({"routed_experts": npy(slots)}, **usage(15, 6)))
    trace = imported("vllm", rows, experts=EXPERTS, layers="all", id_map=tmp_path / "x.placement.json")
    np.testing.assert_array_equal(trace.experts_TLK, experts)


def test_rows_without_a_route_are_seen_before_slots_are_mapped(tmp_path, rng):
    """Slot 0 of layer 1 holds expert 1: zeros would become ones."""
    experts, slots = physical(rng)
    slots[:5] = 0
    np.save(tmp_path / "map.npy", MAP)
    rows = written(tmp_path / "x.json", vllm({"routed_experts": npy(slots)}, **usage(15, 6)))
    stated = {"experts": EXPERTS, "layers": "all", "id_map": tmp_path / "map.npy"}
    assert "physical ids: row 0, layer 0: every slot is 0 (15 such rows)" in refusal("vllm", rows, **stated)
    trace = imported("vllm", rows, **stated, leave_out=("unrouted",))
    np.testing.assert_array_equal(trace.experts_TLK, experts[5:])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"a": [1]}, "holds none of them, allowed one of physical_to_logical_map"),
        ({"phy2log": [[0, 1]], "physical_to_logical_map": [[0, 1]]}, "allowed one of"),
        ({"phy2log": "x"}, "allowed whole numbers of"),
        ({"phy2log": [[0.5, 1]]}, "allowed whole numbers of 2"),
        ({"phy2log": [[0, 1, 2, 3, 4, 6]]}, "layer 0, slot 5 is 6, allowed 0..5"),
        ({"phy2log": [[0, 1, 2, 3, 4, 4]]}, "layer 0 has no slot for expert 5"),
        ([], "is empty"),
        (3, "allowed whole numbers of"),
    ],
)
def test_files_that_are_no_map_are_refused(tmp_path, rng, content, message):
    rows = written(tmp_path / "x.json", vllm({"routed_experts": npy(physical(rng)[1])}, **usage(15, 6)))
    (tmp_path / "map.json").write_text(json.dumps(content))
    stated = {"experts": EXPERTS, "layers": "all"}
    assert message in refusal("vllm", rows, **stated, id_map=tmp_path / "map.json")
    assert "no such file" in refusal("vllm", rows, **stated, id_map=tmp_path / "none.npy")
    (tmp_path / "bad.npy").write_bytes(b"\x93NUMPY")
    assert "not a whole" in refusal("vllm", rows, **stated, id_map=tmp_path / "bad.npy")


def test_a_fused_shared_expert_in_responses(tmp_path, rng):
    """The last column is always id E, or in the file's map the last slot."""
    experts, slots = physical(rng)
    shared = np.full((20, 3, 1), EXPERTS)
    path = written(
        tmp_path / "x.json", vllm({"routed_experts": npy(np.concatenate([experts, shared], 2))}, **usage(15, 6))
    )
    stated = {"experts": EXPERTS, "layers": "all"}
    assert "it looks like a shared expert; allowed: --shared-slots N" in refusal("vllm", path, **stated)
    trace = imported("vllm", path, **stated, shared_slots=1)
    np.testing.assert_array_equal(trace.experts_TLK, experts)
    assert trace.header.model.shared_experts == 1
    np.save(tmp_path / "map.npy", np.concatenate([MAP, np.full((3, 1), EXPERTS)], 1))
    with_slot = np.concatenate([slots, np.full((20, 3, 1), SLOTS)], 2)
    path = written(tmp_path / "y.json", vllm({"routed_experts": npy(with_slot)}, **usage(15, 6)))
    trace = imported("vllm", path, **stated, shared_slots=1, id_map=tmp_path / "map.npy")
    np.testing.assert_array_equal(trace.experts_TLK, experts)


def test_experts_without_weights_are_no_load(tmp_path, rng):
    """16 experts and, behind them, 8 without weights."""
    rows = selections(rng, 40, 3, 4, 24)
    path = written(tmp_path / "x.json", vllm({"routed_experts": npy(rows)}, **usage(30, 11)))
    assert "experts without weights (--zero-experts, counted in --experts)" in refusal(
        "vllm", path, experts=16, layers="all"
    )
    trace = imported("vllm", path, experts=24, zero_experts=8, layers="all")
    counted_LE = np.stack([np.bincount(rows[:, layer].ravel(), minlength=24)[:16] for layer in range(3)])
    np.testing.assert_array_equal(load_LE(trace), counted_LE)
    assert spread(load_LE(trace)).max_over_mean_L.round(6).tolist() == (
        (counted_LE.max(1) / counted_LE.mean(1)).round(6).tolist()
    )
    assert f"{480 - counted_LE.sum()} of 480 selections" in weightless_text(trace)


def test_a_map_is_an_input_and_no_output(traces, tmp_path, rng):
    np.save(tmp_path / "map.npy", MAP)
    written(tmp_path / "x.json", vllm({"routed_experts": npy(physical(rng)[1])}, **usage(15, 6)))
    stated = f"import vllm x.json --experts {EXPERTS} --layers all --map map.npy"
    status, _, said = traces(f"{stated} --out map.npy --force")
    assert status == 2
    assert "map.npy" in said
    np.testing.assert_array_equal(np.load(tmp_path / "map.npy"), MAP)
    assert traces(f"{stated} --out x.trace.parquet")[0] == 0
    np.save(tmp_path / "map.npy", MAP[::-1])
    assert traces(f"{stated} --out x.trace.parquet")[0] == 2  # made from another map
