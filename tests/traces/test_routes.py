"""Rows without a route are no tokens: not as predecessors, not by chance, and `describe` and `check` tell them."""

import io
import subprocess
import sys

import numpy as np
import pytest
from importing import imported
from rich.console import Console
from tiny_traces import tiny, tiny_header

from moe_replay.traces.describe import description, reuse
from moe_replay.traces.file.trace_file import save_trace
from moe_replay.traces.routes import routed_rows, routed_tokens, without_route_text

# Two sequences of four tokens; token 2 of the first has no route, nor has the last of the second.
ROUTES = [[0, 1], [1, 2], [-1, -1], [1, 2], [3, 0], [3, 1], [3, -1], [-1, -1]]


def gappy(second_layer=None):
    experts_TLK = np.stack([np.array(ROUTES), np.array(second_layer or ROUTES)], 1).astype(np.int16)
    rows = np.arange(8, dtype=np.int32)
    fields = {
        "sequence_T": rows // 4,
        "position_T": rows % 4,
        "step_T": rows,
        "phase_T": (rows % 4 > 0).astype(np.int8),
    }
    header = tiny_header(score_kind=None)
    return tiny(header, experts_TLK=experts_TLK, scores_TLK=None, label_S=None, **fields)


def printed(trace):
    console = Console(file=io.StringIO(), width=100)
    console.print(description(trace, "x"))
    return console.file.getvalue()


def test_reuse_is_over_pairs_of_routed_tokens():
    """Pairs: 01-12 shares 1 of 2; 30-31 shares 1 of 2; 31-3 shares 1 of 1. Six routed rows hold 11 selections."""
    found = reuse(gappy())
    assert found.pairs_L.tolist() == [3, 3]
    assert found.share_L.tolist() == pytest.approx([3 / 5] * 2)
    load = np.array([2, 4, 2, 3])  # 0 1 | 1 2 | 1 2 | 3 0 | 3 1 | 3
    assert load.sum() == 11
    assert found.chance_L.tolist() == pytest.approx([(load**2).sum() / 6 / 11] * 2)


def test_a_layer_of_its_own_may_lack_other_rows():
    whole = [[0, 1], [1, 2], [2, 3], [1, 2], [3, 0], [3, 1], [3, 2], [0, 1]]
    trace = gappy(whole)
    assert routed_tokens(trace).tolist() == [6, 8]
    assert routed_rows(trace.experts_TLK)[:, 1].all()
    assert reuse(trace).pairs_L.tolist() == [3, 6]
    assert without_route_text(trace) == (
        "2 of 16 rows (token, layer) have no route (dropped, or not captured), and 0 of 8 tokens none in any layer"
    )
    assert "3 to 6 pairs of tokens by layer" in printed(trace)


def test_missing_rows_change_nothing_of_what_is_there():
    """Random routes with holes against a loop over the rows that are there."""
    rng = np.random.default_rng(5)
    experts_TLK = np.argsort(rng.random((60, 2, 4)), -1)[..., :2].astype(np.int16)
    experts_TLK[rng.random((60, 2)) < 0.3] = -1
    rows = np.arange(60, dtype=np.int32)
    fields = {"sequence_T": rows // 20, "position_T": rows % 20, "step_T": rows, "phase_T": np.ones(60, np.int8)}
    trace = tiny(tiny_header(score_kind=None), experts_TLK=experts_TLK, scores_TLK=None, label_S=None, **fields)
    found = reuse(trace)
    for layer in range(2):
        sets = [{int(each) for each in row if each >= 0} for row in experts_TLK[:, layer]]
        pairs = [(sets[t - 1], sets[t]) for t in range(60) if t % 20 and sets[t - 1] and sets[t]]
        routed = [each for each in sets if each]
        assert found.pairs_L[layer] == len(pairs)
        shared = sum(len(one & other) for one, other in pairs)
        assert found.share_L[layer] == pytest.approx(shared / sum(len(other) for _, other in pairs))
        load = np.array([sum(expert in each for each in routed) for expert in range(4)])
        assert found.chance_L[layer] == pytest.approx((load * load).sum() / len(routed) / load.sum())


def test_what_has_no_route_is_told(tmp_path):
    said = "4 of 16 rows (token, layer) have no route (dropped, or not captured), and 2 of 8 tokens none in any layer"
    assert without_route_text(gappy()) == said
    assert f"no route {said}" in " ".join(printed(gappy()).split())
    assert "no route" not in printed(tiny())
    save_trace(gappy(), tmp_path / "x.trace.parquet")
    done = subprocess.run(
        [sys.executable, "-m", "traces", "check", tmp_path / "x.trace.parquet"], capture_output=True, text=True
    )
    assert done.stdout.strip().endswith(said)


def test_a_layer_without_any_route_has_no_numbers():
    text = printed(gappy([[-1, -1]] * 8))
    assert "nan" not in text
    assert "8 of 8" not in text
    assert "0 to 3 pairs of tokens by layer" in text


def test_no_two_routed_tokens_have_no_reuse():
    trace = gappy()
    kept = np.where((np.arange(8) % 2 == 0)[:, None, None], trace.experts_TLK, -1).astype(np.int16)
    fields = {name: getattr(trace, name) for name in ("sequence_T", "position_T", "step_T", "phase_T")}
    lonely = tiny(trace.header, experts_TLK=kept, scores_TLK=None, label_S=None, **fields)
    assert "no two tokens that follow each other both have a route" in printed(lonely)


def test_imported_rows_of_minus_one_are_kept_and_counted(tmp_path):
    np.savez(tmp_path / "x.npz", experts=gappy().experts_TLK, offsets=np.array([0, 4, 8]))
    trace = imported("npz", tmp_path / "x.npz", experts=4, phase="prefill")
    assert without_route_text(trace).startswith("4 of 16 rows")
    words = [sys.executable, "-m", "traces", "import", "npz", tmp_path / "x.npz", "--experts", "4"]
    words += ["--phase", "prefill", "--out", tmp_path / "x.trace.parquet"]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[1].endswith(
        "4 of 16 rows (token, layer) have no route (dropped, or not captured), and 2 of 8 tokens none in any layer"
    )
