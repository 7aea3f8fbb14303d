"""Exporters: what they write comes back equal through this project's importers, or fits the documented form."""

import json
import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from importing import imported, needs_real, selections

from moe_replay.traces.describe import load_LE
from moe_replay.traces.errors import InputError
from moe_replay.traces.exporters.export_subject import Subject
from moe_replay.traces.exporters.exporter_names import EXPORTERS, export
from moe_replay.traces.file.trace_file import save_trace
from moe_replay.traces.header import ModelInfo
from moe_replay.traces.load_trace import LoadTrace
from moe_replay.traces.new_traces import trace_from_arrays
from moe_replay.traces.placements.expert_placement import ExpertPlacement, load_placement, save_placement
from moe_replay.traces.synthetic import SyntheticSpec, synthetic_trace


@pytest.fixture(scope="module")
def trace():
    spec = SyntheticSpec(layers=3, experts=8, k=2, sequences=5, batch=2, prompt=(3, 6), decode=(2, 4))
    return synthetic_trace(spec, np.random.default_rng(0), {}).trace


@pytest.fixture
def loads():
    """Counts of two ranks in two iterations; layers 1 and 3 of a model are MoE layers."""
    load_SRMLE = np.random.default_rng(1).multinomial(100, [0.1, 0.2, 0.3, 0.4], (2, 2, 1, 2))
    model = ModelInfo(name="m", experts=4, used_k=2, layer_ids=(1, 3))
    data = {"name": None, "digest": None, "note": None}
    return LoadTrace(
        model=model, data=data, load_SRMLE=load_SRMLE, iteration_S=np.array([5, 9]), rank_R=np.array([0, 1], np.int32)
    )


@pytest.fixture
def placed():
    """Two devices of three slots for four experts; experts 0 and 3 are replicated in layer 1, 2 and 1 in layer 3."""
    expert_LP = np.array([[0, 1, 3, 3, 2, 0], [2, 0, 1, 1, 3, 2]], np.int16)
    return ExpertPlacement(model="m", experts=4, devices=2, layer_ids=(1, 3), expert_LP=expert_LP)


def test_npz_comes_back_with_equal_selections(trace, tmp_path):
    export("npz", Subject(trace), tmp_path / "x.npz")
    said = imported("npz", tmp_path / "x.npz", experts=8, phase="both", score_kind="softmax", ranked=True)
    again = imported("npz", tmp_path / "x.npz")
    assert said.field_digests == again.field_digests == trace.field_digests  # steps and their order too
    assert again.digest == trace.digest


def test_npz_keeps_the_places_of_tokens_that_were_left_out(tmp_path, rng):
    """A sequence that begins behind a cached prompt, one that lacks tokens, and a decoded one: places and reuse."""
    whole = trace_from_arrays(
        selections(rng, 24, 2, 2, 8), [0, 8, 16, 24], experts=8, phase="both", prompt_len=[5, 5, 5]
    )  # fmt: skip
    cut = whole.only(~np.isin(np.arange(24), [0, 1, 11, 12, 14, 16, 17, 18, 19, 20]))
    export("npz", Subject(cut.only(cut.sequence_T < 2)), tmp_path / "x.npz")
    again = imported("npz", tmp_path / "x.npz", experts=8, phase="both", leave_out=("unrouted",))
    for name in ("experts_TLK", "sequence_T", "position_T", "phase_T", "prompt_len_S"):
        np.testing.assert_array_equal(getattr(again, name), getattr(cut.only(cut.sequence_T < 2), name))
    export("npz", Subject(cut.only(cut.sequence_T == 2)), tmp_path / "y.npz")
    again = imported("npz", tmp_path / "y.npz", experts=8, phase="decode")
    assert again.position_T.tolist() == [5, 6, 7]
    far = cut.only(cut.sequence_T < 2)
    far = replace(far, position_T=far.position_T * 100)
    with pytest.raises(InputError, match="tokens are missing between 11; allowed: at most as many"):
        export("npz", Subject(far), tmp_path / "z.npz")


def test_a_published_decode_trace_survives_the_round_trip(tmp_path):
    path = needs_real("gpt-oss-20b", "mmlu_dev.npz")
    options = {"experts": 32, "phase": "decode", "score_kind": "selected", "ranked": True}
    first = imported("npz", path, **options)
    export("npz", Subject(first), tmp_path / "x.npz")
    again = imported("npz", tmp_path / "x.npz", **options)
    assert first.field_digests == again.field_digests


def test_sglang_counts_come_back_through_its_recorders_importer(loads, tmp_path):
    pytest.importorskip("torch", reason="SGLang's .pt files need torch")
    export("sglang", Subject(loads, hidden_layers=6), tmp_path / "x.pt")
    again = imported("sglang-recorder", tmp_path / "x.pt", experts=4, k=2, layers="1,3")
    np.testing.assert_array_equal(again.load_SRMLE[0, 0, 0], loads.load_SRMLE.sum((0, 1, 2)))
    assert again.model.layer_ids == (1, 3)


def test_sglang_json_holds_dense_layers_at_their_own_numbers(loads, placed, tmp_path):
    export("sglang", Subject(loads), tmp_path / "x.json")
    ((dense, first, _, second),) = json.loads((tmp_path / "x.json").read_text())["logical_count"]
    assert dense == [0] * 4
    assert [first, second] == loads.load_SRMLE.sum((0, 1, 2)).tolist()
    export("sglang", Subject(loads, placed, 5), tmp_path / "y.json")
    table = json.loads((tmp_path / "y.json").read_text())["physical_to_logical_map"]
    assert table[1] == [0, 1, 3, 3, 2, 0]
    assert table[3] == [2, 0, 1, 1, 3, 2]
    assert table[0] == table[2] == table[4] == [0, 1, 2, 3, 0, 1]


def test_exported_counts_are_plain_counts_too(loads, tmp_path):
    """EPLB's weights and SGLang's counts, in every suffix, come back equal through `counts` as well."""
    wanted = loads.load_SRMLE.sum((0, 1, 2))
    export("eplb", Subject(loads), tmp_path / "w.npz")
    export("sglang", Subject(loads, None, 4), tmp_path / "c.json")
    made = {"w.npz": imported("counts", tmp_path / "w.npz", k=2)}
    made["c.json"] = imported("counts", tmp_path / "c.json", k=2, layers="1,3")
    made["eplb"] = imported("eplb", tmp_path / "w.npz", k=2)
    for again in made.values():
        np.testing.assert_array_equal(again.load_LE, wanted)
        assert again.model.layer_ids == (1, 3)
    assert len({again.digest for again in made.values()}) == 1


def test_tensorrt_statistics_come_back_rank_by_rank(loads, tmp_path):
    export("tensorrt-llm", Subject(loads), tmp_path / "statistics")
    again = imported("tensorrt-llm", tmp_path / "statistics")
    np.testing.assert_array_equal(again.load_SRMLE, loads.load_SRMLE)
    assert again.iteration_S.tolist() == [5, 9]
    assert (again.model.layer_ids, again.model.used_k) == ((1, 3), 2)


def test_tensorrt_statistics_are_safetensors_for_others_too(loads, tmp_path):
    safetensors = pytest.importorskip("safetensors.numpy", reason="safetensors comes with transformers")
    export("tensorrt-llm", Subject(loads), tmp_path / "s")
    tensors = safetensors.load_file(tmp_path / "s" / "rank1.safetensors")
    np.testing.assert_array_equal(tensors["9_3"], loads.load_SRMLE[1, 1, 0, 1])


def test_tensorrt_placement_is_the_yaml_it_reads(loads, placed, tmp_path):
    export("tensorrt-llm", Subject(loads, placed), tmp_path / "x.yaml")
    yaml = pytest.importorskip("yaml", reason="PyYAML comes with transformers")
    assert yaml.safe_load((tmp_path / "x.yaml").read_text()) == {
        "num_slots": 6, "layer_updates_per_iter": 0,
        "initial_global_assignments": {1: [0, 1, 3, 3, 2, 0], 3: [2, 0, 1, 1, 3, 2]},
    }  # fmt: skip


def test_eplb_tables_agree_with_each_other(trace, loads, placed, tmp_path):
    export("eplb", Subject(trace), tmp_path / "w.npz")
    weight = np.load(tmp_path / "w.npz")["weight"]
    np.testing.assert_array_equal(weight, load_LE(trace, 2))
    assert weight.sum() == trace.T * trace.L * 2
    export("eplb", Subject(loads, placed), tmp_path / "p.npz")
    tables = np.load(tmp_path / "p.npz")
    for layer in range(2):
        for expert in range(4):
            slots = tables["log2phy"][layer, expert]
            assert (slots >= 0).sum() == tables["logcnt"][layer, expert]
            assert (tables["phy2log"][layer, slots[slots >= 0]] == expert).all()
    assert tables["logcnt"].sum(1).tolist() == [6, 6]


def test_placements_come_back_from_disk(placed, tmp_path):
    save_placement(placed, tmp_path / "p.json", {"command": "x"})
    again = load_placement(tmp_path / "p.json")
    np.testing.assert_array_equal(again.expert_LP, placed.expert_LP)
    assert (again.devices, again.layer_ids, again.experts, again.model) == (2, (1, 3), 4, "m")
    assert again.device_P.tolist() == [0, 0, 0, 1, 1, 1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"expert_LP": [[0, 1, 2, 4], [0, 1, 2, 3]]},
            "layer 1, slot 3 holds expert 4, allowed 0..3, or -1 for an empty slot (1 such slots)",
        ),
        ({"expert_LP": [[0, 1, 2, 2], [0, 1, 2, 3]]}, "layer 1: expert 3 is in no slot (1 such experts)"),
        ({"devices": 3}, "4 slots on 3 devices, allowed: equally many on each"),
        ({"layer_ids": (3, 1)}, "layer_ids are [3, 1], allowed ascending"),
        ({"expert_LP": [[0, 1, 2, 3]]}, "expert_LP has shape (1, 4), allowed 2 layers x slots"),
    ],
)
def test_impossible_placements_are_refused(change, message):
    fields = {"model": "m", "experts": 4, "devices": 2, "layer_ids": (1, 3), "expert_LP": [[0, 1, 2, 3]] * 2} | change
    with pytest.raises(InputError, match=re.escape(message)):
        ExpertPlacement(**{**fields, "expert_LP": np.array(fields["expert_LP"], np.int16)})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not JSON"),
        ("[]", "no placement"),
        ('{"kind": "placement"}', "key 'schema' is missing"),
        (None, "no such file"),
    ],
)
def test_damaged_placement_files_are_refused(tmp_path, content, message):
    if content is not None:
        (tmp_path / "p.json").write_text(content)
    with pytest.raises(InputError, match=message):
        load_placement(tmp_path / "p.json")


def test_what_a_kind_cannot_hold_is_refused(trace, loads, placed, tmp_path):
    for subject, kind, name, message in (
        (Subject(loads), "npz", "x.npz", "npz: holds selections, not counts without tokens"),
        (Subject(trace), "sglang", "x.txt", "sglang writes .json, .pt"),
        (Subject(trace), "csv", "x.csv", "unknown kind 'csv'; known: eplb, npz, sglang, tensorrt-llm"),
    ):
        with pytest.raises(InputError, match=message):
            export(kind, subject, tmp_path / name)
    with pytest.raises(InputError, match=r"the placement is of 4 experts in layers \[1, 3\]"):
        Subject(trace, placed)
    with pytest.raises(InputError, match="--hidden-layers 3: allowed 4 and more"):
        Subject(loads, hidden_layers=3)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", EXPORTERS)
def test_the_command_exports_every_kind(trace, tmp_path, kind):
    save_trace(trace, tmp_path / "t.trace.parquet")
    suffix = EXPORTERS[kind].SUFFIXES[0]
    words = [sys.executable, "-m", "traces", "export", kind, tmp_path / "t.trace.parquet", "--out"]
    done = subprocess.run([*words, tmp_path / f"loads{suffix}"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / f"loads{suffix}").exists()
    suffix = ".yaml" if kind == "tensorrt-llm" else suffix
    placement = [tmp_path / f"placed{suffix}", "--devices", "2", "--slots", "10"]
    done = subprocess.run([*words, *placement], capture_output=True, text=True)
    assert done.returncode == (2 if kind == "npz" else 0), done.stderr
