"""`import npz`: what is brought comes in as it was, and every kind of malformed file has a refusal of its own."""

from collections import OrderedDict
from itertools import pairwise

import numpy as np
import pytest
from importing import imported, needs_real, refusal, selections

from moe_replay.traces.errors import InputError
from moe_replay.traces.importers.reading.import_source import Options, layer_numbers

OPTIONS = {"experts": 8, "phase": "both", "score_kind": "softmax", "ranked": True}


def plain(rng):
    """Three sequences of 5, 1 and 6 rows in 3 layers, 2 of 8 experts, with scores."""
    scores = np.sort(rng.dirichlet(np.ones(8), (12, 3))[..., :2], axis=-1)[..., ::-1]
    return {
        "experts": selections(rng, 12, 3, 2, 8),
        "offsets": np.array([0, 5, 6, 12]),
        "probs": scores.astype(np.float16),
        "prompt_len": np.array([3, 1, 6]),
        "layer_ids": np.array([1, 2, 5]),
        "names": np.array(["code", "novel", "code"]),
    }


def written(path, arrays):
    np.savez(path, **arrays)
    return path


def test_round_trip_by_hand(tmp_path, rng):
    arrays = plain(rng)
    trace = imported("npz", written(tmp_path / "x.npz", arrays), **OPTIONS, model="mine", arrays=("domain=names",))
    assert (trace.experts_TLK == arrays["experts"]).all()
    assert (trace.scores_TLK == arrays["probs"].astype(np.float32)).all()
    assert trace.header.model.layer_ids == (1, 2, 5)
    assert (trace.header.model.name, trace.E, trace.header.model.used_k) == ("mine", 8, 2)
    assert (trace.header.score_kind, trace.header.ranked) == ("softmax", True)
    assert trace.sequence_T.tolist() == [0] * 5 + [1] + [2] * 6
    assert trace.position_T.tolist() == [0, 1, 2, 3, 4, 0, 0, 1, 2, 3, 4, 5]
    assert trace.phase_T.tolist() == [0, 0, 0, 1, 1] + [0] * 7
    assert trace.step_T.tolist() == [0, 0, 0, 1, 2, 3] + [4] * 6
    assert trace.prompt_len_S.tolist() == [3, 1, 6]
    assert trace.domain_S.tolist() == ["code", "novel", "code"]


def test_decoded_rows_stand_behind_their_prompt(tmp_path, rng):
    trace = imported("npz", written(tmp_path / "x.npz", plain(rng)), **OPTIONS | {"phase": "decode"})
    assert trace.position_T.tolist() == [3, 4, 5, 6, 7, 1, 6, 7, 8, 9, 10, 11]
    assert trace.step_T.tolist() == list(range(12))
    assert trace.header.notes["left_out"] == ["array names"]


def test_layers_that_contradict_the_file_are_refused(tmp_path, rng):
    path = written(tmp_path / "x.npz", plain(rng))
    assert imported("npz", path, **OPTIONS | {"layers": "1-2,5"}).header.model.layer_ids == (1, 2, 5)
    with pytest.raises(InputError, match="layer_ids are not those of --layers; allowed: the same, or no --layers"):
        imported("npz", path, **OPTIONS | {"layers": "1-3"})


def test_scores_can_be_left_out_and_arrays_have_other_names(tmp_path, rng):
    arrays = plain(rng)
    renamed = {"ids": arrays["experts"], "cuts": arrays["offsets"], "scores": arrays["probs"]}
    names = ("experts=ids", "offsets=cuts")
    path = written(tmp_path / "x.npz", renamed)
    trace = imported("npz", path, experts=8, phase="prefill", score_kind="none", arrays=names, layers="0,3-4")
    assert trace.scores_TLK is None
    assert not trace.header.ranked
    assert trace.header.model.layer_ids == (0, 3, 4)
    assert trace.step_T.tolist() == [0] * 5 + [1] + [2] * 6


def with_entry(name, at, value):
    def change(arrays):
        arrays[name] = arrays[name].copy()
        arrays[name][at] = value

    return change


MALFORMED = {
    "no experts": (lambda a: a.pop("experts"), "no array for 'experts'; it holds offsets, probs"),
    "no offsets": (lambda a: a.pop("offsets"), "no array for 'offsets'"),
    "an expert too many": (
        with_entry("experts", (4, 1, 0), 8),
        "experts: row 4, layer 2, slot 0: expert is 8, allowed -1..7 (1 such row)",
    ),
    "experts as fractions": (
        lambda a: a.update(experts=a["experts"] / 1),
        "experts are float64, allowed whole numbers",
    ),
    "experts without layers": (
        lambda a: a.update(experts=a["experts"][:, 0]),
        "shape (12, 2), allowed [rows, layers, k]",
    ),
    "no rows": (lambda a: a.update(experts=a["experts"][:0]), "shape (0, 3, 2)"),
    "an expert twice": (with_entry("experts", (7, 2), 3), "row 7, layer 2: experts are [3, 3], allowed: each at most"),
    "a copied layer": (
        lambda a: a.update(experts=np.repeat(np.tile(a["experts"][:, :1], (2, 1, 1)), 3, axis=1)),
        "layers 1 and 2 hold the same experts in all 24 rows",
    ),
    "offsets too short": (with_entry("offsets", 3, 11), "offsets run from 0 to 11, allowed 0 to 12, the rows"),
    "offsets from 1": (with_entry("offsets", 0, 1), "offsets run from 1 to 12"),
    "an empty sequence": (with_entry("offsets", 2, 5), "offsets[2] is 5, allowed above 5"),
    "offsets as fractions": (lambda a: a.update(offsets=a["offsets"] / 1), "offsets is float64 of shape (4,)"),
    "scores of another shape": (
        lambda a: a.update(probs=a["probs"][:, :, :1]),
        "probs is float16 of shape (12, 3, 1), allowed floating point of shape (12, 3, 2)",
    ),
    "a score that is no number": (with_entry("probs", (2, 1, 1), np.nan), "row 2, layer 1: score_1 is nan"),
    "scores that rise": (
        lambda a: a.update(probs=a["probs"][..., ::-1].copy()),
        "row 0, layer 0: score_1 is",
    ),
    "two arrays of scores": (lambda a: a.update(scores=a["probs"]), "holds scores and probs"),
    "a prompt longer than its rows": (
        with_entry("prompt_len", 1, 2),
        "sequence 1: prompt_len is 2, rows are 1, allowed with --phase both: at most as many",
    ),
    "a prompt length below zero": (with_entry("prompt_len", 1, -1), "prompt_len has -1..6, allowed 0..2147483647"),
    "prompts of another number": (
        lambda a: a.update(prompt_len=a["prompt_len"][:2]),
        "prompt_len is int64 of shape (2,), allowed whole numbers of shape (3,)",
    ),
    "layers of another number": (
        lambda a: a.update(layer_ids=a["layer_ids"][:2]),
        "layer_ids is int64 of shape (2,), allowed whole numbers of shape (3,)",
    ),
    "layers twice": (with_entry("layer_ids", 1, 1), "model.layer_ids has 1 after 1"),
    "domains of another number": (
        lambda a: a.update(names=a["names"][:2]),
        "names is <U5 of shape (2,), allowed text of shape (3,)",
    ),
    "objects": (lambda a: a.update(experts=np.array([{}])), "not a whole .npz file of plain arrays (Object arrays"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_files_are_refused(tmp_path, rng, name):
    change, message = MALFORMED[name]
    arrays = plain(rng)
    change(arrays)
    if name == "a copied layer":
        arrays = {"experts": arrays["experts"], "offsets": np.array([0, 24]), "layer_ids": arrays["layer_ids"]}
        options = {"experts": 8, "phase": "prefill"}
    else:
        options = OPTIONS | {"arrays": ("domain=names",)}
    path = written(tmp_path / "bad.npz", arrays)
    line = refusal("npz", path, **options)
    assert line.startswith(str(path))
    assert message in line


def test_what_is_no_npz_is_refused(tmp_path, rng):
    path = written(tmp_path / "x.npz", plain(rng))
    whole = path.read_bytes()
    np.save(tmp_path / "plain.npy", np.zeros(3))
    assert "one plain array" in refusal("npz", tmp_path / "plain.npy", **OPTIONS)
    assert "no such file" in refusal("npz", tmp_path / "absent.npz", **OPTIONS)
    assert "there twice, allowed: each file once" in refusal("npz", path, path, **OPTIONS)
    for content in (b"", whole[:100], whole[:-40], b"PK\3\4" + whole[4:200], b"text"):
        path.write_bytes(content)
        assert "not a whole .npz file" in refusal("npz", path, **OPTIONS)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"score_kind": None}, "holds 'probs'; needed: --score-kind"),
        ({"experts": None}, "npz: needed: --experts"),
        ({"phase": None}, "npz: needed: --phase"),
        ({"phase": "prefill"}, "prompt_len is 3, rows are 5, allowed with --phase prefill: equal numbers"),
        ({"phase": "encode"}, "--phase is 'encode', allowed prefill, decode, both"),
        ({"score_kind": "loss"}, "--score-kind is 'loss', allowed softmax"),
        ({"hidden_layers": 3}, "npz: --hidden-layers means nothing here; allowed: --model, --experts"),
        ({"arrays": ("expert=x",)}, "--array is 'expert=x', allowed FIELD=NAME with FIELD one of experts"),
        ({"arrays": ("experts=x",)}, "no array 'x'; it holds experts, offsets"),
        ({"layers": "1-2"}, "3 layers, but --layers names 2"),
        ({"experts": 1, "k": 1}, "expert is"),
        ({"k": 9}, "9 experts per token, allowed 1..8"),
    ],
)
def test_options_that_do_not_fit_are_refused(tmp_path, rng, options, message):
    assert message in refusal("npz", written(tmp_path / "x.npz", plain(rng)), **OPTIONS | options)


def test_an_unknown_kind_lists_the_known_ones(tmp_path):
    assert refusal("nzp", tmp_path).startswith("unknown kind 'nzp'; known: npz")


@pytest.mark.parametrize("text", ["", "a", "1-", "-3", "3-1", "1,1", "2,1", "1--2", "1,", "99999999999999999999"])
def test_layers_that_are_none_are_refused(text):
    with pytest.raises(Exception, match="--layers"):
        layer_numbers(text, 4)


def test_layers():
    assert layer_numbers("all", 3) == (0, 1, 2)
    assert layer_numbers("1-2,4", 5) == (1, 2, 4)
    assert Options(k=0, ranked=False).given == ["k", "ranked"]


def lru_hits(experts_TLK, offsets, slots):
    """Hits of an LRU cache per layer, emptied at each sequence's start; a token's experts in stored order."""
    hits = 0
    for start, stop in pairwise(offsets):
        for stream in experts_TLK[start:stop].transpose(1, 0, 2).reshape(experts_TLK.shape[1], -1).tolist():
            held = OrderedDict()
            for expert in stream:
                if expert in held:
                    hits += 1
                    held.move_to_end(expert)
                else:
                    held[expert] = None
                    if len(held) > slots:
                        held.popitem(last=False)
    return hits


def adjacent_reuse(experts_TLK, sequence_T):
    """Selections that the token before in the same sequence made too, in the same layer; and all that have one."""
    pair_T = sequence_T[1:] == sequence_T[:-1]
    after, before = experts_TLK[1:][pair_T], experts_TLK[:-1][pair_T]
    return int((after[..., None] == before[:, :, None, :]).any(-1).sum()), after.size


REFERENCES = {
    "law": (1299012, {8: 378775, 16: 608771, 32: 921061}, (375337, 1293864)),
    "intent": (1282632, {8: 332479, 16: 588818, 32: 887718}, (331317, 1262820)),
}


@pytest.mark.parametrize("task", REFERENCES)
def test_deepseek_v2_lite_gives_the_published_counts(task):
    accesses, hits, reuse = REFERENCES[task]
    path = needs_real("deepseek-v2-lite", f"{task}.npz")
    trace = imported("npz", path, experts=64, phase="prefill", model="DeepSeek-V2-Lite")
    assert trace.experts_TLK.size == accesses
    assert trace.header.model.layer_ids == tuple(range(1, 27))
    assert adjacent_reuse(trace.experts_TLK, trace.sequence_T) == reuse
    offsets = np.append(np.flatnonzero(trace.position_T == 0), trace.T)
    assert {slots: lru_hits(trace.experts_TLK, offsets, slots) for slots in hits} == hits


def test_gpt_oss_20b_comes_in_as_decode():
    path = needs_real("gpt-oss-20b", "mmlu_dev.npz")
    options = {"experts": 32, "phase": "decode", "score_kind": "selected", "ranked": True, "arrays": ("domain=names",)}
    trace = imported("npz", path, **options)
    assert (trace.T, trace.L, trace.K, trace.S) == (24629, 24, 4, 97)
    assert trace.phase_T.all()
    assert len(trace.passes) == trace.T
    first = np.append(0, np.flatnonzero(np.diff(trace.sequence_T)) + 1)
    assert (trace.position_T[first] == trace.prompt_len_S).all()
    np.testing.assert_allclose(trace.scores_TLK.sum(-1), 1, atol=0.004)
