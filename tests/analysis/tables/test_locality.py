"""Locality: counts against brute force and published values, controls against enumeration, the permutation test."""

import itertools
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from moe_replay.analysis.tables.locality.drift import divergence, domain_drift, sequence_counts
from moe_replay.analysis.tables.locality.reuse import adjacent_reuse, counts, distances
from moe_replay.analysis.tables.locality.rows import curve_rows, drift_rows, heat_rows, locality_rows
from moe_replay.analysis.tables.locality.streams import EMPTIED, Streams, streams_of
from moe_replay.simulate.misses.miss_curves import curve_rows as miss_rows
from moe_replay.traces.file.trace_file import save_trace
from moe_replay.traces.importers.importer_names import import_files
from moe_replay.traces.importers.reading.import_source import Options
from moe_replay.traces.synthetic import SyntheticSpec, synthetic_trace

REAL = Path(os.environ.get("MOE_REPLAY_TRACES", Path(__file__).resolve().parents[4] / "shared" / "data" / "traces"))


def random_streams(lengths, layers=2, experts=6, k=2, seed=0, empty=0.0):
    draws = np.random.default_rng(seed)
    tokens = sum(lengths)
    experts_TLK = np.argsort(draws.random((tokens, layers, experts)), axis=2)[:, :, :k].astype(np.int16)
    experts_TLK[draws.random((tokens, layers)) < empty, -1] = -1  # the last slot of some rows is empty
    stream_T = np.repeat(np.arange(len(lengths)), lengths)
    return Streams(experts_TLK, stream_T, stream_T, np.arange(tokens), experts)


def lru_hits(streams, layer, slots):
    """LRU with a list, emptied where a stream starts."""
    hits, held, current = 0, [], -1
    for stream, row in zip(streams.stream_T, streams.experts_TLK[:, layer], strict=True):
        if stream != current:
            held, current = [], stream
        for expert in row[row >= 0]:
            hits += expert in held
            held = [expert, *(each for each in held if each != expert)][:slots]
    return hits


@pytest.mark.parametrize("empty", [0.0, 0.3])
def test_distances_count_what_lru_hits_at_every_size(empty):
    streams = random_streams([7, 1, 30, 12], empty=empty)
    found_LX = distances(streams)
    assert found_LX.sum() == (streams.experts_TLK >= 0).sum()
    for layer, slots in itertools.product(range(2), range(1, 7)):
        assert found_LX[layer, :slots].sum() == lru_hits(streams, layer, slots)


def test_adjacent_reuse_counts_pairs_one_by_one():
    streams = random_streams([5, 1, 9], empty=0.2)
    reuse = adjacent_reuse(streams)
    for layer in range(2):
        pairs = [
            (set(streams.experts_TLK[t - 1, layer]) - {-1}, set(streams.experts_TLK[t, layer]) - {-1})
            for t in range(1, 15) if streams.stream_T[t] == streams.stream_T[t - 1]
        ]  # fmt: skip
        assert reuse.shared_L[layer] == sum(len(before & now) for before, now in pairs)
        assert reuse.selections_L[layer] == sum(len(now) for _, now in pairs)


def unrouted(streams, rows):
    """The streams with whole rows (token, layer) emptied."""
    experts_TLK = streams.experts_TLK.copy()
    for token, layer in rows:
        experts_TLK[token, layer] = -1
    return replace(streams, experts_TLK=experts_TLK)


def test_tokens_without_a_route_are_nobodys_predecessors():
    """Layer 0 lacks tokens 1 and 5, layer 1 token 5: pairs with either are none; the control keeps the places."""
    streams = unrouted(random_streams([4, 3], seed=2), [(1, 0), (5, 0), (5, 1)])
    reuse = adjacent_reuse(streams)
    for layer, pairs in ((0, [(2, 3)]), (1, [(0, 1), (1, 2), (2, 3)])):
        sets = [set(row[row >= 0]) for row in streams.experts_TLK[:, layer]]
        assert reuse.shared_L[layer] == sum(len(sets[one] & sets[two]) for one, two in pairs)
        assert reuse.selections_L[layer] == sum(len(sets[two]) for _, two in pairs)
        routed = [token for token in range(4) if sets[token]]
        orders = list(itertools.permutations(routed))
        total = 0
        for order in orders:
            place = dict(zip(routed, order, strict=True))
            total += sum(len(sets[place[one]] & sets[place[two]]) for one, two in pairs)
        assert reuse.chance_L[layer] == pytest.approx(total / len(orders))


def test_rows_without_a_route_are_no_tokens_of_the_table(text):
    experts_TLK = text.experts_TLK.copy()
    experts_TLK[::3], experts_TLK[1::3, 1] = -1, -1
    scores_TLK = np.where(experts_TLK < 0, 0, text.scores_TLK).astype(np.float32)
    holes = replace(text, experts_TLK=experts_TLK, scores_TLK=scores_TLK)
    found = locality_rows("s", "t", holes, np.random.default_rng(0))
    tokens = {row["layer"]: row["tokens"] for row in found if row["domain"] == "all"}
    routed_TL = experts_TLK[:, :, 0] >= 0
    assert tokens.pop("all") == routed_TL.any(1).sum()
    assert list(tokens.values()) == routed_TL.sum(0).tolist()


def test_the_shuffled_reuse_is_the_mean_over_all_orders():
    streams = random_streams([4, 3], seed=2)
    total, orders = np.zeros(2), 0
    for first, second in itertools.product(itertools.permutations(range(4)), itertools.permutations(range(4, 7))):
        order = [*first, *second]
        total += adjacent_reuse(replace(streams, experts_TLK=streams.experts_TLK[order])).shared_L
        orders += 1
    np.testing.assert_allclose(adjacent_reuse(streams).chance_L, total / orders)


def test_shuffling_keeps_each_streams_tokens_and_moves_frames_as_a_whole():
    """Two sequences of five frames with three patches each: a frame's patches move together."""
    patches, frames = 3, 5
    sequence_T, patch, frame = np.array(list(itertools.product(range(2), range(patches), range(frames)))).T
    experts_TLK = (frame + 10 * sequence_T).astype(np.int16)[:, None, None]
    streams = Streams(experts_TLK, sequence_T * patches + patch, sequence_T, frame, 20)
    moved = streams.shuffled(np.random.default_rng(0)).experts_TLK.reshape(2, patches, frames)
    for sequence in range(2):
        assert sorted(moved[sequence, 0]) == [10 * sequence + f for f in range(frames)]
        assert (moved[sequence] == moved[sequence, 0]).all()
    assert (np.diff(moved[0, 0]) < 0).any()


@pytest.mark.parametrize(
    ("name", "selections", "pairs", "reused", "hits"),
    [
        ("law", 1299012, 1293864, 375337, {8: 378775, 16: 608771, 32: 921061}),
        ("intent", 1282632, 1262820, 331317, {8: 332479, 16: 588818, 32: 887718}),
    ],
)
def test_published_values_are_reproduced(name, selections, pairs, reused, hits):
    path = REAL / "deepseek-v2-lite" / f"{name}.npz"
    if not path.exists():
        pytest.skip(f"needs the published trace {path.name} of DeepSeek-V2-Lite, which is not part of the project")
    streams = streams_of(import_files("npz", [path], Options(experts=64, phase="prefill")))
    reuse, found_LX = adjacent_reuse(streams), distances(streams)
    assert (reuse.shared_L.sum(), reuse.selections_L.sum(), found_LX.sum()) == (reused, pairs, selections)
    assert {slots: found_LX[:, :slots].sum() for slots in hits} == hits


@pytest.fixture(scope="module")
def text():
    """A synthetic trace of twelve sequences in two domains that share their popularity."""
    spec = SyntheticSpec(layers=3, experts=8, k=2, sequences=12, batch=3, prompt=(20, 30), decode=(5, 9), reuse=0.4)
    trace = synthetic_trace(spec, np.random.default_rng(0), {}).trace
    return replace(trace, domain_S=np.array(["a", "b"] * 6))


def test_rows_stand_for_every_domain_and_layer(text):
    rows = pd.DataFrame(locality_rows("set", "text", text, np.random.default_rng(0)))
    assert len(rows) == 3 * 4
    whole = rows[rows["layer"] == "all"].set_index("domain")
    assert whole.loc["a", "tokens"] + whole.loc["b", "tokens"] == whole.loc["all", "tokens"] == text.T
    parts = rows[(rows["domain"] == "all") & (rows["layer"] != "all")]
    assert parts["shared"].sum() == whole.loc["all", "shared"]
    assert whole.loc["all", "reuse"] > whole.loc["all", "reuse_shuffled"] * 1.1  # 40 % of tokens repeat the last
    assert whole.loc["all", "hits_quarter"] > whole.loc["all", "hits_quarter_shuffled"]


def test_curves_rise_to_all_but_first_selections(text):
    curve = pd.DataFrame(curve_rows("set", "text", text, np.random.default_rng(0)))
    for _, own in curve.groupby("order"):
        assert (own["hit_ratio"].diff().dropna() >= 0).all()
    last = curve[curve["slots"] == 8].set_index("order")["hit_ratio"]
    assert last["recorded"] == pytest.approx(last["shuffled"])  # what is selected at all does not depend on order


@pytest.mark.parametrize(("emptied", "grouping"), [("sequence", "pass"), ("never", "step")])
def test_one_question_has_one_answer_in_both_miss_tables(text, emptied, grouping):
    """LRU by access: `locality` and `miss-ratio` agree where slots are emptied alike, and both say when that is."""
    curve = pd.DataFrame(curve_rows("set", "text", text, np.random.default_rng(0), emptied))
    hits = curve[curve["order"] == "recorded"].set_index("slots")["hit_ratio"]
    table = pd.DataFrame(miss_rows(text, emptied))
    lru = table[(table["policy"] == "lru") & (table["mode"] == "flat")].set_index("slots")
    np.testing.assert_allclose(hits, 1 - lru["miss_ratio"], atol=1e-9)
    assert set(curve["emptied"]) == set(table["emptied"]) == {emptied}
    assert set(curve["mode"]) == {"flat"}
    rows = pd.DataFrame(locality_rows("set", "text", text, np.random.default_rng(0), emptied))
    whole = rows[(rows["layer"] == "all") & (rows["domain"] == "all")].iloc[0]
    assert whole["hits_half"] == pytest.approx(hits[4])
    assert set(table.loc[table["mode"] == "group", "grouping"]) == {grouping}


def test_caches_that_are_kept_hit_more_often_where_sequences_share_experts(text):
    half = [
        pd.DataFrame(locality_rows("set", "text", text, np.random.default_rng(0), emptied)).iloc[0]["hits_half"]
        for emptied in EMPTIED
    ]
    assert half[0] < half[1]


def test_heat_shares_sum_to_one_and_the_control_mixes_domains(text):
    domain_S = np.array(["a", "b"] * 6)
    experts_TLK = text.experts_TLK.copy()
    own = (domain_S[text.sequence_T] == "b")[:, None, None]
    experts_TLK = np.where(own, (experts_TLK % 4) + 4, experts_TLK % 4).astype(np.int16)
    experts_TLK[:, :, 1] = np.where(experts_TLK[:, :, 1] == experts_TLK[:, :, 0], -1, experts_TLK[:, :, 1])
    apart = replace(text, experts_TLK=experts_TLK, scores_TLK=None, header=replace(text.header, score_kind=None))
    heat = pd.DataFrame(heat_rows("set", "text", apart, np.random.default_rng(0)))
    sums = heat.groupby(["layer", "order", "domain", "bin"])["share"].sum()
    np.testing.assert_allclose(sums, 1)
    of_a = heat[(heat["domain"] == "a") & (heat["expert"] >= 4)].groupby("order")["share"].sum()
    assert of_a["recorded"] == 0
    assert of_a["shuffled"] > 0


def test_divergence_is_zero_for_equal_and_log2_d_for_disjoint_popularities():
    equal = np.array([[[3, 1, 0]], [[6, 2, 0]]])
    disjoint = np.array([[[5, 0, 0]], [[0, 2, 0]], [[0, 0, 9]]])
    assert divergence(equal) == pytest.approx(0)
    assert divergence(disjoint) == pytest.approx(np.log2(3))


def test_drift_finds_domains_that_differ_and_no_others():
    """Under the null p is uniform: over 40 worlds about a tenth lie below 0.1, and many do not."""
    draws, null = np.random.default_rng(0), []
    for _ in range(40):
        null.append(domain_drift(draws.multinomial(50, [0.25] * 4, (12, 2)), np.array(["a", "b"] * 6), draws).p)
    assert 0.3 < np.mean(null) < 0.7
    assert np.mean(np.array(null) < 0.1) < 0.3
    count_SLE = np.stack([draws.multinomial(50, [0.4, 0.3, 0.2, 0.1][:: 1 - 2 * (s % 2)], 2) for s in range(12)])
    found = domain_drift(count_SLE, np.array(["a", "b"] * 6), draws)
    assert found.p < 0.02
    assert (found.divergence_L > found.null_high_L).all()


def test_a_domain_without_selections_differs_from_nothing():
    """Not knowing is not being far apart: no divergence, no p."""
    count_SLE = np.random.default_rng(3).multinomial(50, [0.25] * 4, (12, 2))
    count_SLE[::2, 1] = 0
    found = domain_drift(count_SLE, np.array(["a", "b"] * 6), np.random.default_rng(0))
    assert found.p_L[0] > 0.05
    assert np.isnan([found.divergence_L[1], found.p_L[1], found.p]).all()


def test_sequence_counts_are_the_traces(text):
    count_SLE = sequence_counts(text)
    np.testing.assert_array_equal(count_SLE.sum(0), counts(text.experts_TLK[:, :, :2], 8))
    assert len(drift_rows("set", "text", text, np.random.default_rng(0))) == 4
    assert not drift_rows("set", "text", replace(text, domain_S=None), np.random.default_rng(0))


def test_the_command_prints_and_writes_what_the_figure_draws(text, tmp_path):
    save_trace(text, tmp_path / "x.trace.parquet")

    def run(*words):
        done = subprocess.run([sys.executable, "-m", *map(str, words)], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "p = " in run("analysis", "locality", tmp_path / "x.trace.parquet", "--out", tmp_path / "tables")
    assert set(pd.read_csv(tmp_path / "tables" / "locality.csv")["domain"]) == {"all", "a", "b"}
    heat = pd.read_csv(tmp_path / "tables" / "locality_heat.csv")
    assert set(heat["layer"]) == {0, 1, 2}
    run("figures", tmp_path / "tables", "--only", "locality", "--out", tmp_path / "figures")
    assert (tmp_path / "figures" / "locality.png").stat().st_size > 10_000
