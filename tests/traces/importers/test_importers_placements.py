"""Placements come back from other programs' files as they went out, and counts that EPLB takes come in."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from importing import imported

from moe_replay.simulate.placing.cluster_shape import shape_for
from moe_replay.simulate.placing.load_profile import LoadProfile
from moe_replay.simulate.placing.planner_names import PLANNERS, planned, replicates
from moe_replay.simulate.placing.useless_repair import repaired
from moe_replay.traces.describe_loads import max_over_mean_SL
from moe_replay.traces.errors import InputError
from moe_replay.traces.exporters.export_subject import Subject
from moe_replay.traces.exporters.exporter_names import export
from moe_replay.traces.header import ModelInfo
from moe_replay.traces.load_trace import LoadTrace
from moe_replay.traces.placements.expert_placement import ExpertPlacement

LAYERS = (1, 3)
FILES = {"eplb": ("eplb", "x.npz", {}), "sglang": ("sglang-recorder", "x.json", {"layers": "1,3"}),
         "tensorrt-llm": ("tensorrt-llm", "x.yaml", {})}  # fmt: skip


@pytest.fixture
def loads(rng):
    model = ModelInfo(name="m", experts=8, used_k=2, layer_ids=LAYERS)
    load_SRMLE = rng.multinomial(400, rng.dirichlet(np.ones(8)), (2, 1, 1, 2))
    data = {"name": None, "digest": None, "note": None}
    return LoadTrace(
        model=model, data=data, load_SRMLE=load_SRMLE, iteration_S=np.arange(2), rank_R=np.zeros(1, np.int32)
    )


def placement(method, loads, redundant, nodes=2):
    known, shape = LoadProfile(loads.load_SRMLE[:, 0, 0]), shape_for(8, 4, nodes, redundant)
    made = repaired(planned(method, known, shape), known.load_LE, shape)
    return ExpertPlacement(model="m", experts=8, devices=4, nodes=nodes, layer_ids=LAYERS, expert_LP=made)


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("method", [name for name in PLANNERS if "co-activation" not in name])
def test_a_placement_of_any_planner_comes_back_equal(tmp_path, loads, kind, method):
    made = placement(method, loads, 4 if replicates(method) else 0)
    importer, name, options = FILES[kind]
    export(kind, Subject(loads, made), tmp_path / name)
    again = imported(importer, tmp_path / name, devices=4, nodes=2, model="m", **options)
    assert again.digest == made.digest
    assert (again.model, again.nodes) == ("m", 2)


def test_torch_files_come_back_too(tmp_path, loads):
    pytest.importorskip("torch", reason="SGLang's .pt files need torch")
    made = placement("eplb", loads, 4)
    export("sglang", Subject(loads, made), tmp_path / "x.pt")
    assert imported("sglang-recorder", tmp_path / "x.pt", layers="1,3", devices=4, nodes=2).digest == made.digest


def test_loads_come_back(tmp_path, loads):
    export("eplb", Subject(loads), tmp_path / "x.npz")
    export("sglang", Subject(loads), tmp_path / "x.json")
    for again in (
        imported("eplb", tmp_path / "x.npz", k=2),
        imported("sglang-recorder", tmp_path / "x.json", k=2, experts=8, layers="1,3"),
    ):
        assert (again.load_LE == loads.load_LE).all()
        assert again.model.layer_ids == LAYERS


def test_weights_that_others_collected(tmp_path):
    """[L, E] alone, in .npz and, without the axis of entries, as logical_count in JSON: one iteration."""
    weight = np.array([[47, 13, 20, 20], [40, 30, 20, 10]])
    np.savez(tmp_path / "w.npz", weight=weight)
    (tmp_path / "w.json").write_text(json.dumps({"logical_count": weight.tolist()}))
    first = imported("eplb", tmp_path / "w.npz", k=2)
    other = imported("sglang-recorder", tmp_path / "w.json", k=2, experts=4, layers="all")
    assert first.load_SRMLE.shape == (1, 1, 1, 2, 4)
    assert (first.load_LE == other.load_LE).all()
    assert max_over_mean_SL(first).tolist() == [[47 / 25, 40 / 25]]
    np.savez(tmp_path / "d.npz", weight=np.stack([weight, weight[:, ::-1]]), domain=np.array(["a", "b"]))
    assert imported("eplb", tmp_path / "d.npz", k=2).notes["domains"] == ["a", "b"]


@pytest.mark.parametrize(("arrays", "options", "said"), [
    ({"x": np.ones(2)}, {}, "holds x, allowed weight (loads), or phy2log (a placement)"),
    ({"weight": np.ones(2)}, {"k": 1}, "weight is float64 of shape (2,), allowed numbers [layers, experts]"),
    ({"weight": np.array([[1.5, 2]])}, {"k": 1}, "weight has 1.5, allowed whole numbers >= 0, selections (1 such)"),
    ({"weight": np.array([[-1, 2]])}, {"k": 1}, "weight has -1"),
    ({"weight": np.array([[2, 2]])}, {}, "eplb: needed: --k; weight does not tell"),
    ({"weight": np.array([[2, 2]])}, {"k": 1, "experts": 3}, "weight has 2 experts, but --experts is 3"),
    ({"weight": np.array([[2, 2]]), "domain": np.array(["a", "b"])}, {"k": 1}, "allowed 1 texts"),
    ({"phy2log": np.array([[0, 1]])}, {}, "eplb: needed: --devices; a placement's file does not tell"),
    ({"phy2log": np.array([[0, 0, 1, 2]])}, {"devices": 2}, "device 0 holds expert 0 twice"),
    ({"phy2log": np.array([[0, 2]])}, {"devices": 2}, "expert 1 is in no slot"),
    ({"phy2log": np.array([[0, 99999]])}, {"devices": 2}, "expert 100000, allowed 0..32767"),
    ({"phy2log": np.array([[0, 1, 2]])}, {"devices": 2}, "3 slots on 2 devices"),
    ({"phy2log": np.array([[0, 1, 0, 2]]), "logcnt": np.array([[1, 2, 1]])}, {"devices": 2}, "logcnt does not count"),
    ({"phy2log": np.array([[0, 1]]), "log2phy": np.array([[[1], [0]]])}, {"devices": 2}, "log2phy does not name"),
    ({"phy2log": np.array([[0, 1]])}, {"devices": 2, "layers": "1,2"}, "1 layers, but --layers names 2"),
])  # fmt: skip
def test_what_is_no_file_of_eplb_is_refused(tmp_path, arrays, options, said):
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(InputError, match=re.escape(said)):
        imported("eplb", tmp_path / "x.npz", **options)


@pytest.mark.parametrize(("content", "said"), [
    ("[1", "not whole YAML"), ("a: 1", "no initial_global_assignments by layer"),
    ("num_slots: 2\ninitial_global_assignments:\n  1: [0, 1, 2]", "layer 1: allowed 2 experts, num_slots"),
    ("num_slots: 2\ninitial_global_assignments:\n  x: [0, 1]", "no initial_global_assignments by layer"),
    ("num_slots: 2\ninitial_global_assignments:\n  1:\n  - 1\n  - 1", "layer 1: expert 0 is in no slot"),
])  # fmt: skip
def test_what_is_no_placement_of_tensorrt_llm_is_refused(tmp_path, content, said):
    path = tmp_path / "x.yaml"
    path.write_text(content)
    with pytest.raises(InputError, match=re.escape(said)):
        imported("tensorrt-llm", path, devices=2)


def test_blocks_of_yaml_come_in_too(tmp_path):
    """What a YAML library writes: a number a line, keys in any order."""
    lines = ["initial_global_assignments:", "  3:", *[f"  - {each}" for each in (2, 0, 1, 0)], "num_slots: 4"]
    Path(tmp_path / "x.yml").write_text("\n".join(lines))
    made = imported("tensorrt-llm", tmp_path / "x.yml", devices=2)
    assert (made.expert_LP.tolist(), made.layer_ids) == ([[2, 0, 1, 0]], (3,))


@pytest.mark.parametrize(("content", "options", "said"), [
    ('{"physical_to_logical_map": [[0, 1]]}', {"layers": "0"}, "sglang-recorder: needed: --devices"),
    ('{"physical_to_logical_map": [[0, 1]]}', {"layers": "0-1", "devices": 2}, "--layers names layer 1, allowed 0..0"),
    ('{"logical_count": [[0, 1]]}', {"layers": "all", "k": 1}, "sglang-recorder: needed: --experts"),
    ("[]", {"layers": "all"}, "holds a list, allowed an object"), ("{", {"layers": "all"}, "not whole JSON"),
])  # fmt: skip
def test_what_is_no_file_of_sglang_is_refused(tmp_path, content, options, said):
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(InputError, match=re.escape(said)):
        imported("sglang-recorder", tmp_path / "x.json", **options)


def test_empty_slots_are_refused_by_exporters(loads):
    made = placement("lpt", loads, 4)
    with pytest.raises(InputError, match="the placement has 8 empty slots, allowed none in other programs"):
        Subject(loads, made)


def test_a_placements_file_is_checked_and_described(traces, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez("p.npz", phy2log=np.array([[0, 1, 0, 2]]))
    assert traces("import eplb p.npz --devices 2 --nodes 2 --out x.placement.json")[0] == 0
    said = "placement of 3 experts in 1 layers: 4 slots on 2 devices in 2 nodes, 1 of them replicas"
    status, printed, _ = traces("check x.placement.json")
    assert (status, printed.split(", digest")[0]) == (0, f"x.placement.json: ok, {said}")
    assert traces("describe x.placement.json")[:2] == (0, f"x.placement.json: {said}\n")
