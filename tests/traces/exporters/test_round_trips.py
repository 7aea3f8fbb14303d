"""What is exported comes back equal, or what does not is named: printed by the command, and in the README."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from importing import imported
from tiny_traces import random_trace
from typer.testing import CliRunner

from moe_replay.traces.__main__ import app
from moe_replay.traces.errors import InputError
from moe_replay.traces.exporters import export_subject
from moe_replay.traces.exporters.export_subject import Subject
from moe_replay.traces.exporters.exporter_names import EXPORTERS, export
from moe_replay.traces.file.trace_file import load_trace, save_trace
from moe_replay.traces.header import ModelInfo
from moe_replay.traces.load_trace import LoadTrace
from moe_replay.traces.placements.expert_placement import ExpertPlacement

README = Path(__file__).parents[3] / "traces" / "README.md"
FILES = [
    ("eplb", "x.npz"), ("sglang", "x.json"), ("sglang", "x.pt"), ("tensorrt-llm", "folder"), ("tensorrt-llm", "x.yaml"),
    ("npz", "x.npz"),
]  # fmt: skip


def read_back(kind, path, subject):
    """What comes back where an importer is told what the file lacks: only what it needs to read it at all."""
    model, placed = subject.model, subject.placement
    if placed is not None:
        told = {"devices": placed.devices, "nodes": placed.nodes}
        if kind == "sglang":
            told["layers"] = ",".join(map(str, model.layer_ids))
    else:
        layers = ",".join(map(str, model.layer_ids))
        told = {"eplb": {"k": model.used_k}, "sglang": {"k": model.used_k, "experts": model.real_experts,
                "layers": layers}}.get(kind, {})  # fmt: skip
    return imported("sglang-recorder" if kind == "sglang" else kind, path, **told)


def loads(draws, iterations=3, ranks=2, microbatches=2, first=5, rank=3, most=1000):
    """Counts of iterations from `first` and ranks from `rank` on, in layers 1 and 4 of a model with sizes."""
    model = ModelInfo(
        name="m", experts=6, used_k=2, layer_ids=(1, 4), d_model=8, d_ff=16, expert_bytes=384, dtype="bfloat16"
    )
    # Every layer of an iteration has as many selections: those of its tokens.
    load_SRMLE = draws.multinomial(most, np.full(6, 1 / 6), (iterations, ranks, microbatches, 2))
    return LoadTrace(
        model=model, data={"name": "d", "digest": None, "note": None}, load_SRMLE=load_SRMLE,
        iteration_S=first + np.arange(iterations), rank_R=(rank + np.arange(ranks)).astype(np.int32),
    )  # fmt: skip


def placement(nodes):
    expert_LP = np.array([[0, 1, 2, 3, 4, 5, 0, 1], [5, 4, 3, 2, 1, 0, 2, 4]], np.int16)
    return ExpertPlacement(model="m", experts=6, devices=4, nodes=nodes, layer_ids=(1, 4), expert_LP=expert_LP)


SHAPES = [{}, {"iterations": 1, "first": 0}, {"ranks": 1, "rank": 0}, {"rank": 0}, {"microbatches": 1, "ranks": 1},
          {"iterations": 1, "first": 0, "ranks": 1, "rank": 0, "microbatches": 1}, {"most": 2**27}]  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(("kind", "name"), [each for each in FILES if each[0] != "npz" and each[1] != "x.yaml"])
def test_counts_come_back_equal_but_for_what_is_named(kind, name, shape, tmp_path):
    if name.endswith(".pt"):
        pytest.importorskip("torch")
    given = loads(np.random.default_rng(0), **shape)
    lost = export(kind, Subject(given), tmp_path / name)
    again = read_back(kind, tmp_path / name, Subject(given))
    assert again.model.layer_ids == (1, 4)
    assert again.model.used_k == 2
    summed = {"iterations": 0, "ranks": 1, "microbatches": 2}
    axes = tuple(axis for word, axis in summed.items() if word in lost)
    np.testing.assert_array_equal(given.load_SRMLE.sum(axes, keepdims=True), again.load_SRMLE)  # to the last selection
    if "iterations" not in lost:
        assert again.iteration_S.tolist() == given.iteration_S.tolist()
    if not {"ranks", "the ranks' own numbers"} & {*lost}:
        assert again.rank_R.tolist() == given.rank_R.tolist()
    assert "the header (--model)" in lost
    assert imported_with_name(kind, tmp_path / name, Subject(given)).model.name == "m"


def imported_with_name(kind, path, subject):
    told = {"k": 2} if kind != "tensorrt-llm" else {}
    told |= {"experts": 6, "layers": "1,4"} if kind == "sglang" else {}
    return imported("sglang-recorder" if kind == "sglang" else kind, path, model="m", **told)


@pytest.mark.parametrize("nodes", [1, 2])
@pytest.mark.parametrize(("kind", "name"), [each for each in FILES if each[0] != "npz" and each[1] != "folder"])
def test_placements_come_back_equal_but_for_what_is_named(kind, name, nodes, tmp_path):
    pytest.importorskip("yaml" if name.endswith("yaml") else "torch" if name.endswith("pt") else "numpy")
    given = Subject(loads(np.random.default_rng(0)), placement(nodes))
    lost = export(kind, given, tmp_path / name)
    again = read_back(kind, tmp_path / name, given)
    np.testing.assert_array_equal(again.expert_LP, given.placement.expert_LP)
    assert (again.devices, again.nodes, again.layer_ids) == (4, nodes, (1, 4))
    assert "how many devices (--devices)" in lost
    assert ("how many nodes (--nodes)" in lost) == (nodes == 2)


@pytest.mark.parametrize("case", range(8))
def test_a_whole_trace_comes_back_through_npz_without_an_option(case, tmp_path):
    """Every field, with batches that interleave sequences, and numbers of sequences that are not 0, 1, ..."""
    draws = np.random.default_rng(case)
    kind = ("softmax", "sigmoid", "logit", "selected")[case % 4]
    trace = random_trace(draws, tokens=40 - case, score_kind=kind, ranked=case % 2 == 0, optional=case != 3)
    if case == 5:
        trace = replace(trace, scores_TLK=None, header=replace(trace.header, score_kind=None))
    if case == 6:
        trace = trace.only(trace.sequence_T % 3 != 1)  # the first sequences that are left have other numbers
    if case == 7:
        trace = trace.only(draws.random(trace.T) < 0.8)  # tokens are missing
    assert export("npz", Subject(trace), tmp_path / "x.npz") == []
    again = imported("npz", tmp_path / "x.npz")
    assert again.field_digests == trace.field_digests
    assert again.digest == trace.digest
    assert replace(again.header, provenance=trace.header.provenance) == trace.header


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"header": np.array("{")}, "header is no trace's"),
        ({"header": np.array("{}")}, "header: key 'model' is missing"),
        ({"row": np.zeros(40, np.int64)}, r"row does not name the rows 0\.\.39 once each"),
        ({"row": np.arange(39)}, "allowed"),
        ({"sequence_ids": np.array([-1])}, "sequence_ids is int64 of shape"),
        ({"sequence_ids": np.array([1])}, "offsets are not those of 1 sequences"),
        ({"step": np.zeros(40)}, "step is float64 of shape"),
        ({"experts": np.full((40, 2, 3), 99)}, "expert_0 is 99"),
        ({"phase": np.full(40, 300)}, "phase: 300 is not allowed"),
    ],
)
def test_files_that_were_tampered_with_are_refused(change, message, tmp_path, rng):
    export("npz", Subject(random_trace(rng)), tmp_path / "x.npz")
    with np.load(tmp_path / "x.npz") as held:
        arrays = {name: held[name] for name in held.files} | change
    np.savez(tmp_path / "y.npz", **arrays)
    with pytest.raises(InputError, match=message):
        imported("npz", tmp_path / "y.npz")


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"experts": 9}, "experts is 8, but --experts 9"), ({"k": 2}, "k is 3, but --k 2"),
        ({"phase": "decode"}, "holds rows of another phase"),
        ({"layers": "0-1"}, "the layers are 1,3, but --layers 0-1"),
        ({"score_kind": "logit"}, "score_kind is softmax, but --score-kind logit"),
    ],
)  # fmt: skip
def test_options_that_say_something_else_are_refused(told, message, tmp_path, rng):
    export("npz", Subject(random_trace(rng)), tmp_path / "x.npz")
    with pytest.raises(InputError, match=message):
        imported("npz", tmp_path / "x.npz", **told)


def test_the_command_prints_what_is_lost_and_the_readme_names_it(tmp_path, rng):
    save_trace(random_trace(rng), tmp_path / "x.parquet")
    call = CliRunner().invoke
    done = call(app, ["export", "sglang", str(tmp_path / "x.parquet"), "--out", str(tmp_path / "c.json")])
    lost = "tokens, their order and scores; the header (--model); the layers' own numbers (--layers)"
    assert f"left out: {lost}; experts per token (--k)" in done.output.replace("\n", "")
    done = call(app, ["export", "npz", str(tmp_path / "x.parquet"), "--out", str(tmp_path / "x.npz")])
    assert "left out" not in done.output
    done = call(app, ["import", "npz", str(tmp_path / "x.npz"), "--out", str(tmp_path / "y.parquet")])
    assert load_trace(tmp_path / "y.parquet").digest == load_trace(tmp_path / "x.parquet").digest
    text = " ".join(README.read_text().split())
    words = [value for name, value in vars(export_subject).items() if re.fullmatch("[A-Z_]+", name)]
    assert len(words) == 11
    assert [word for word in words if word not in text] == []


def test_every_kind_of_export_is_tried():
    assert {kind for kind, _ in FILES} == {*EXPORTERS}
