"""Experts without weights are no load, in what is described, placed and exported; older headers stay readable."""

import io
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from importing import imported, refusal
from rich.console import Console
from tiny_traces import random_trace, tiny_header

from moe_replay.traces.describe import default_k, description, load_LE, reuse, slots
from moe_replay.traces.describe_loads import load_description, max_over_mean_SL
from moe_replay.traces.errors import InputError
from moe_replay.traces.exporters.export_subject import Subject
from moe_replay.traces.exporters.exporter_names import export
from moe_replay.traces.file.trace_file import load_trace, save_trace
from moe_replay.traces.header import Header, ModelInfo
from moe_replay.traces.load_trace import LoadTrace, read_loads
from moe_replay.traces.placements.balanced_placement import balanced_placement
from moe_replay.traces.routes import WEIGHTLESS, computed, marked, routed_rows, weightless_text
from moe_replay.traces.selections import Trace


def with_zero_experts(trace, count):
    """The trace with the last experts of every layer said to have no weights."""
    return replace(trace, header=replace(trace.header, model=replace(trace.header.model, zero_experts=count)))


@pytest.fixture
def trace(rng):
    return with_zero_experts(random_trace(rng, tokens=60, layers=2, slots=3, experts=8), 2)


def printed(content):
    console = Console(file=io.StringIO(), width=100)
    console.print(content)
    return " ".join(console.file.getvalue().split())


def test_load_and_reuse_are_of_experts_with_weights_alone(trace):
    assert (trace.E, trace.header.model.experts) == (6, 8)
    load = load_LE(trace)
    for layer in range(2):
        sets = [{int(each) for each in row if each >= 0} for row in trace.experts_TLK[:, layer]]
        assert load[layer].tolist() == [sum(expert in each for each in sets) for expert in range(6)]
        order = np.argsort(trace.sequence_T, kind="stable")
        same = [(a, b) for a, b in pairwise(order) if trace.sequence_T[a] == trace.sequence_T[b]]
        pairs = [(sets[a], sets[b]) for a, b in same]
        real = [{expert for expert in each if expert < 6} for each in (other for _, other in pairs)]
        shared = sum(len(one & other) for (one, _), other in zip(pairs, real, strict=True))
        found = reuse(trace)
        assert found.pairs_L[layer] == len(pairs)
        assert found.share_L[layer] == pytest.approx(shared / sum(map(len, real)))


def test_selections_are_marked_and_computed_in_their_order():
    model = ModelInfo(name="m", experts=6, used_k=3, layer_ids=(0,), zero_experts=2)
    experts_TLK = np.array([[[4, 1, 5]], [[2, 4, 0]], [[3, -1, -1]], [[5, 4, -1]], [[-1, -1, -1]]], np.int16)
    assert marked(experts_TLK, model)[:, 0].tolist() == [[-2, 1, -2], [2, -2, 0], [3, -1, -1], [-2, -2, -1], [-1] * 3]
    assert computed(experts_TLK, model)[:, 0].tolist() == [[1, -1, -1], [2, 0, -1], [3, -1, -1], [-1] * 3, [-1] * 3]
    assert routed_rows(marked(experts_TLK, model))[:, 0].tolist() == [True, True, True, True, False]
    plain = replace(model, zero_experts=0)
    assert marked(experts_TLK, plain) is computed(experts_TLK, plain) is experts_TLK


def test_what_is_printed_tells_them_apart(trace):
    kept = slots(trace, default_k(trace))
    weightless, selections = int((kept == WEIGHTLESS).sum()), int((kept != -1).sum())
    said = (
        f"{weightless} of {selections} selections ({weightless / selections:.1%}) are of experts without weights (6..7)"
    )
    assert weightless_text(trace).startswith(said)
    text = printed(description(trace, "x"))
    assert said in text
    assert "2 MoE layers x 6 experts and 2 without weights" in text
    assert weightless_text(with_zero_experts(trace, 0)) == ""


def test_files_keep_them_and_older_files_have_none(trace, tmp_path):
    save_trace(trace, tmp_path / "x")
    again = load_trace(tmp_path / "x")
    assert again.header.model.zero_experts == 2
    assert again.digest == trace.digest != with_zero_experts(trace, 0).digest
    content = tiny_header().to_json()
    assert "zero_experts" not in content["model"]  # so that a model without any has the digest it always had
    assert Header.from_json(content).model.zero_experts == 0


@pytest.mark.parametrize("count", [8, -1, 1.0])
def test_impossible_numbers_are_refused(count):
    with pytest.raises(InputError, match=r"header: model\.zero_experts is .*, allowed whole numbers 0\.\.7"):
        ModelInfo(name="m", experts=8, used_k=2, layer_ids=(0,), zero_experts=count)


def test_exports_and_placements_leave_them_out(trace, tmp_path):
    export("eplb", Subject(trace), tmp_path / "w.npz")
    np.testing.assert_array_equal(np.load(tmp_path / "w.npz")["weight"], load_LE(trace))
    placed = balanced_placement("m", trace.header.model.layer_ids, Subject(trace).load_LE, 2)
    export("eplb", Subject(trace, placed), tmp_path / "p.npz")
    assert np.sort(np.load(tmp_path / "p.npz")["phy2log"]).tolist() == [[0, 1, 2, 3, 4, 5]] * 2
    whole = balanced_placement("m", trace.header.model.layer_ids, np.ones((2, 8)), 2)
    with pytest.raises(InputError, match="the placement is of 8 experts"):
        Subject(trace, whole)


def test_counts_of_them_are_told_and_left_out(tmp_path):
    counts = np.array([[[[[4, 2, 0, 6], [2, 2, 2, 6]]]], [[[[6, 0, 0, 6], [1, 2, 3, 6]]]]])
    model = ModelInfo(name="m", experts=4, used_k=2, layer_ids=(1, 4), zero_experts=1)
    loads = LoadTrace(
        model=model, data={"name": None, "digest": None, "note": None}, load_SRMLE=counts,
        iteration_S=np.array([0, 1]), rank_R=np.array([0], np.int32),
    )  # fmt: skip
    assert loads.load_LE.tolist() == [[10, 2, 0], [3, 4, 5]]
    assert max_over_mean_SL(loads).tolist() == [[2, 1], [3, 1.5]]
    assert "48, 24 of them of experts without weights" in printed(load_description(loads, "x"))
    loads.save(tmp_path / "x")
    again = read_loads(tmp_path / "x")
    assert (again.model, again.digest) == (loads.model, loads.digest)
    export("tensorrt-llm", Subject(loads), tmp_path / "s")
    assert imported("tensorrt-llm", tmp_path / "s").load_SRMLE.sum() == 24


def test_importers_take_their_number(rng, tmp_path):
    """--experts counts all ids a router chooses among; 16 experts with weights and 8 without are 24."""
    experts_TLK = np.argsort(rng.random((40, 3, 24)), -1)[..., :4].astype(np.int16)
    np.savez(tmp_path / "x.npz", experts=experts_TLK, offsets=np.array([0, 40]))
    trace: Trace = imported("npz", tmp_path / "x.npz", experts=24, zero_experts=8, phase="prefill")
    assert (trace.E, trace.header.model.experts) == (16, 24)
    export("npz", Subject(trace), tmp_path / "out.npz")
    again = imported("npz", tmp_path / "out.npz", experts=24, phase="prefill")
    assert (again.E, again.experts_TLK.tolist()) == (16, trace.experts_TLK.tolist())
    with pytest.raises(InputError, match="zero_experts is 8, but --zero-experts 7; allowed: the same"):
        imported("npz", tmp_path / "out.npz", experts=24, zero_experts=7, phase="prefill")
    assert load_LE(trace).sum() == (experts_TLK < 16).sum()
    assert "allowed -1..15" in refusal("npz", tmp_path / "x.npz", experts=16, zero_experts=8, phase="prefill")
    assert "zero_experts is 24" in refusal("npz", tmp_path / "x.npz", experts=24, zero_experts=24, phase="prefill")
