"""`import sglang-recorder`: three forms come in with logical ids, others are refused, and nothing is executed."""

from pathlib import Path

import numpy as np
import pytest
from importing import imported, refusal, selections

torch = pytest.importorskip("torch")

OPTIONS = {"experts": 6, "k": 2, "layers": "1-2"}
# 8 physical slots per layer; in layer 1 slot p holds expert (p + 1) % 6, in layer 2 expert p % 6: two have replicas.
MAP = np.array([np.arange(8) % 6, (np.arange(8) + 1) % 6, np.arange(8) % 6])


def saved(path, content):
    torch.save(content, path)
    return path


def physical(rng, tokens, padded=0):
    """Ids [3 layers, tokens + padding, 8 columns]: two distinct logical experts, layer 0 dense, -1 elsewhere."""
    ids = np.full((3, tokens + padded, 8), -1, np.int32)
    ids[1:, :tokens, :2] = selections(rng, tokens, 2, 2, 6).transpose(1, 0, 2)
    return ids


def token_record(rng, number, mode, lengths, start=0, padded=0):
    tokens = sum(lengths)
    return {
        "forward_pass_id": number,
        "rank": 0,
        "gatherer_key": "primary",
        "input_ids": torch.arange(50, 50 + tokens),
        "positions": torch.tensor([start + at for length in lengths for at in range(length)]),
        "extend_seq_lens": list(lengths) if mode == 1 else None,
        "forward_mode": mode,
        "topk_ids_of_layer": torch.tensor(physical(rng, tokens, padded)),
        "global_physical_count": torch.zeros(3, 8, dtype=torch.int32),
    }


def tokens_file(rng, **extra):
    """A prefill of requests of 3 and 20 tokens, then a decode of both, padded to 4 rows."""
    records = [token_record(rng, 7, 1, (3, 20)), token_record(rng, 9, 2, (1, 1), start=3, padded=2)]
    return {"records": records, "last_physical_to_logical_map": torch.tensor(MAP)} | extra


def pass_record(rng, number, rank):
    counts = np.zeros((3, 8), np.int32)
    counts[1:] = rng.multinomial(40, np.ones(8) / 8, 2)
    return {
        "forward_pass_id": number,
        "rank": rank,
        "gatherer_key": "primary",
        "global_physical_count": torch.tensor(counts),
    }


def passes_file(rng, rank):
    return {"records": [pass_record(rng, n, rank) for n in (4, 5)], "last_physical_to_logical_map": torch.tensor(MAP)}


def stat_file(rng):
    counts = np.zeros((4, 3, 6), np.int32)
    counts[:, 1:] = rng.multinomial(40, np.ones(6) / 6, (4, 2))
    return {"rank": 0, "logical_count": torch.tensor(counts), "average_utilization_rate_over_window": None}


def test_per_token(tmp_path, rng):
    content = tokens_file(rng)
    trace = imported("sglang-recorder", saved(tmp_path / "x.pt", content), **OPTIONS)
    first, second = (record["topk_ids_of_layer"].numpy() for record in content["records"])
    for at, layer in enumerate((1, 2)):
        assert (trace.experts_TLK[:23, at] == MAP[layer][first[layer, :, :2]]).all()
        assert (trace.experts_TLK[23:, at] == MAP[layer][second[layer, :2, :2]]).all()
    assert trace.header.model.layer_ids == (1, 2)
    assert trace.sequence_T.tolist() == [0] * 3 + [1] * 20 + [2, 3]
    assert trace.position_T.tolist() == [0, 1, 2, *range(20), 3, 3]
    assert trace.step_T.tolist() == [7] * 23 + [9] * 2
    assert trace.phase_T.tolist() == [0] * 23 + [1] * 2
    assert trace.token_id_T[:3].tolist() == [50, 51, 52]


def test_per_pass(tmp_path, rng):
    contents = [passes_file(rng, rank) for rank in (0, 1)]
    paths = [saved(tmp_path / f"{rank}.pt", content) for rank, content in enumerate(contents)]
    loads = imported("sglang-recorder", *reversed(paths), **OPTIONS)
    assert loads.load_SRMLE.shape == (2, 2, 1, 2, 6)
    assert (loads.iteration_S.tolist(), loads.rank_R.tolist()) == ([4, 5], [0, 1])
    for r, content in enumerate(contents):
        for s, record in enumerate(content["records"]):
            for at, layer in enumerate((1, 2)):
                counts_P = record["global_physical_count"][layer].numpy()
                expected = [counts_P[MAP[layer] == expert].sum() for expert in range(6)]
                assert loads.load_SRMLE[s, r, 0, at].tolist() == expected


def test_stat(tmp_path, rng):
    content = stat_file(rng)
    loads = imported("sglang-recorder", saved(tmp_path / "x.pt", content), **OPTIONS)
    assert (loads.load_SRMLE[:, 0, 0] == content["logical_count"].numpy()[:, 1:]).all()
    assert loads.iteration_S.tolist() == [0, 1, 2, 3]


def test_a_file_of_something_else_says_what_torch_found(tmp_path):
    (tmp_path / "x.pt").write_text("layer,expert")
    line = refusal("sglang-recorder", tmp_path / "x.pt", **OPTIONS)
    assert line.endswith("(Unsupported operand 108)")
    torch.save({"logical_count": Path("x")}, tmp_path / "y.pt")
    line = refusal("sglang-recorder", tmp_path / "y.pt", **OPTIONS)
    assert "Unsupported global: GLOBAL pathlib" in line


@pytest.mark.parametrize("used", [[0, 1, 2, 3], [2, 3, 6], [8]])
def test_unused_entries_of_the_buffer_are_no_iterations(tmp_path, rng, used):
    """The ring buffer is written whole: entries of zeros are left out and counted, the others keep their numbers."""
    counts = np.zeros((9, 3, 6), np.int32)
    counts[used, 1:] = rng.multinomial(40, np.ones(6) / 6, (len(used), 2))
    loads = imported("sglang-recorder", saved(tmp_path / "x.pt", {"logical_count": torch.tensor(counts)}), **OPTIONS)
    assert loads.iteration_S.tolist() == used
    assert loads.load_SRMLE.sum() == counts.sum()
    assert loads.used_S.all()
    assert loads.notes["left_out"] == [f"{9 - len(used)} of 9 buffer entries, which hold no counts"]


def test_a_buffer_of_zeros_was_never_used(tmp_path):
    path = saved(tmp_path / "x.pt", {"logical_count": torch.zeros(4, 3, 6, dtype=torch.int32)})
    said = refusal("sglang-recorder", path, **OPTIONS)
    assert said.endswith("every layer holds only zeros: nothing was recorded")


def in_record(at, **changes):
    def change(content):
        content["records"][at].update(changes)

    return change


def set_id(index, value):
    def change(content):
        content["records"][1]["topk_ids_of_layer"][index] = value

    return change


TOKENS = {
    "experts in rows of padding": (set_id((1, 3, 0), 4), "experts in 1 rows behind the 2 input_ids: stale padding"),
    "more experts than k": (set_id((1, 0, 2), 4), "experts in columns from 2 on, allowed -1 there: stale padding"),
    "padding in a token": (
        set_id((2, 1, 1), -1),
        "row 24, layer 2: experts are [0, -1], allowed: an expert in every slot",
    ),
    "a slot too many": (set_id((2, 1, 1), 8), "physical ids: row 24, layer 2, slot 1: expert is 8, allowed -1..7"),
    "an expert in the dense layer": (set_id((0, 0, 0), 3), "layer 0 is not in --layers, but holds experts"),
    "two replicas of one expert": (set_id((2, 0, slice(2)), torch.tensor([1, 7])), "experts are [1, 1], allowed: each"),
    "fewer positions": (in_record(0, positions=torch.arange(3)), "23 input_ids, 3 positions, allowed equally many"),
    "lengths of another sum": (
        in_record(0, extend_seq_lens=[3, 19]),
        "extend_seq_lens is [3, 19], allowed numbers >= 1",
    ),
    "no lengths": (in_record(0, extend_seq_lens=None), "extend_seq_lens is object of 0 dimensions"),
    "another mode": (in_record(0, forward_mode=6), "forward_mode is 6, allowed 1 (extend), 2 (decode), 3 (mixed), 4"),
    "passes backwards": (in_record(1, forward_pass_id=7), "record 1: pass 7 of rank 0 after pass 7 of rank 0"),
    "a rank below zero": (in_record(0, rank=-1), "record 0: rank is -1, allowed 0..32767"),
    "another rank": (in_record(1, rank=1), "pass 9 of rank 1 after pass 7 of rank 0, allowed ascending passes of one"),
    "positions backwards": (
        in_record(0, positions=torch.arange(22, -1, -1)),
        "row 1: position is 21, allowed above 22",
    ),
    "positions as fractions": (in_record(0, positions=torch.rand(23)), "positions is float32 of 1 dimensions"),
    "a token below zero": (in_record(0, input_ids=torch.arange(-1, 22)), "input_ids has -1..21, allowed 0.."),
    "fewer rows than tokens": (
        in_record(0, topk_ids_of_layer=torch.zeros(3, 22, 8, dtype=torch.int32)),
        "topk_ids_of_layer has shape (3, 22, 8), allowed (3, >= 23, >= 1)",
    ),
    "records of another mode": (
        lambda c: c["records"].append({"forward_pass_id": 10}),
        "records without topk_ids_of_layer or global_physical_count",
    ),
    "no map": (lambda c: c.pop("last_physical_to_logical_map"), "last_physical_to_logical_map is missing"),
    "a map to another expert": (
        lambda c: c.update(last_physical_to_logical_map=torch.tensor(MAP + 1)),
        "last_physical_to_logical_map: layer 0, slot 5 is 6, allowed 0..5",
    ),
    "a map without an expert": (
        lambda c: c.update(last_physical_to_logical_map=torch.tensor(np.minimum(MAP, 4))),
        "layer 0 has no slot for expert 5",
    ),
    "a map of fewer layers": (
        lambda c: c.update(last_physical_to_logical_map=torch.tensor(MAP[:2])),
        "shape (3, 23, 8), allowed (2, >= 23, >= 1)",
    ),
    "an empty map": (
        lambda c: c.update(last_physical_to_logical_map=torch.zeros(0, 8, dtype=torch.int32)),
        "last_physical_to_logical_map: is empty",
    ),
}


@pytest.mark.parametrize("name", TOKENS)
def test_per_token_files_that_cannot_be_are_refused(tmp_path, rng, name):
    change, message = TOKENS[name]
    content = tokens_file(rng)
    change(content)
    path = saved(tmp_path / "bad.pt", content)
    line = refusal("sglang-recorder", path, **OPTIONS)
    assert line.startswith(str(path))
    assert message in line


def test_copied_layers_are_refused(tmp_path, rng):
    content = tokens_file(rng, last_physical_to_logical_map=torch.tensor(np.tile(MAP[0], (3, 1))))
    for record in content["records"]:
        record["topk_ids_of_layer"][2] = record["topk_ids_of_layer"][1]
    path = saved(tmp_path / "x.pt", content)
    assert "layers 1 and 2 hold the same experts in all 25 rows" in refusal("sglang-recorder", path, **OPTIONS)


COUNTS = {
    "a pass missing": (lambda c: c["records"].pop(), "no record of iteration 5, rank 1"),
    "a pass twice": (in_record(1, forward_pass_id=4), "record 1: pass 4 of rank 1 was in"),
    "a rank too large": (in_record(0, rank=2**40), "rank is 1099511627776, allowed 0..32767"),
    "another gatherer": (in_record(1, gatherer_key="other"), "gatherer_key is other and primary, allowed one"),
    "fewer slots": (
        in_record(1, global_physical_count=torch.zeros(3, 7, dtype=torch.int32)),
        "global_physical_count has shape (3, 7), allowed (3, 8) as last_physical_to_logical_map",
    ),
    "below zero": (
        in_record(1, global_physical_count=torch.full((3, 8), -1, dtype=torch.int32)),
        "count is -1, allowed >= 0",
    ),
    "counts in the dense layer": (
        in_record(1, global_physical_count=torch.full((3, 8), 5, dtype=torch.int32)),
        "layer 0 is not in --layers, but has counts",
    ),
    "layers that differ": (
        in_record(1, global_physical_count=torch.tensor([[0] * 8, [5] * 8, [6] * 8])),
        "iteration 5, rank 1, microbatch 0, layer 2: 48 selections, allowed 40 as in layer 1",
    ),
}


@pytest.mark.parametrize("name", COUNTS)
def test_per_pass_files_that_cannot_be_are_refused(tmp_path, rng, name):
    change, message = COUNTS[name]
    content = passes_file(rng, 1)
    change(content)
    paths = [saved(tmp_path / "0.pt", passes_file(rng, 0)), saved(tmp_path / "1.pt", content)]
    assert message in refusal("sglang-recorder", *paths, **OPTIONS)


def test_stat_files_that_cannot_be_are_refused(tmp_path, rng):
    path = saved(tmp_path / "x.pt", stat_file(rng))
    assert "logical_count has 6 experts, but --experts is 7" in refusal(
        "sglang-recorder", path, **OPTIONS | {"experts": 7}
    )
    assert "layer 0 is in --layers, but has no counts" in refusal(
        "sglang-recorder", path, **OPTIONS | {"layers": "all"}
    )
    assert "a multiple of 3, those of a token" in refusal("sglang-recorder", path, **OPTIONS | {"k": 3})
    assert "sglang-recorder: needed: --k" in refusal("sglang-recorder", path, experts=6, layers="all")
    saved(path, {"logical_count": torch.zeros(0, 3, 6, dtype=torch.int32)})
    assert "shape (0, 3, 6), allowed none of them 0" in refusal("sglang-recorder", path, **OPTIONS)
    saved(path, {"logical_count": "many"})
    assert "logical_count is <U4 of 0 dimensions, allowed whole numbers of 3" in refusal(
        "sglang-recorder", path, **OPTIONS
    )


def test_sets_of_files_that_do_not_fit_are_refused(tmp_path, rng):
    stat, tokens = saved(tmp_path / "s.pt", stat_file(rng)), saved(tmp_path / "t.pt", tokens_file(rng))
    other = saved(tmp_path / "u.pt", tokens_file(rng))
    assert "files of per_token and stat, allowed one mode" in refusal("sglang-recorder", stat, tokens, **OPTIONS)
    assert "rank 0 was in" in refusal("sglang-recorder", tokens, other, **OPTIONS)
    assert "a file given twice" in refusal("sglang-recorder", stat, stat, **OPTIONS)
    assert "--k is 9, allowed 1..8" in refusal("sglang-recorder", tokens, **OPTIONS | {"k": 9, "experts": 6})


class Harmful:
    """What would leave a file behind if it were unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_what_is_no_file_of_the_recorder_is_refused_and_never_executed(tmp_path, rng):
    path = tmp_path / "x.pt"
    assert "no such file" in refusal("sglang-recorder", path, **OPTIONS)
    saved(path, {"records": Harmful(tmp_path / "executed")})
    assert "not a whole .pt file of tensors and plain values" in refusal("sglang-recorder", path, **OPTIONS)
    assert not (tmp_path / "executed").exists()
    whole = saved(path, stat_file(rng)).read_bytes()
    for content in (b"", b"text", whole[:200], whole[:-30]):
        path.write_bytes(content)
        assert "not a whole .pt file" in refusal("sglang-recorder", path, **OPTIONS)
    for content, message in (
        ([1], "holds a list, allowed a dictionary"),
        ({}, "neither logical_count nor records"),
        ({"records": []}, "neither logical_count nor records"),
        ({"records": [3]}, "neither logical_count nor records"),
    ):
        assert message in refusal("sglang-recorder", saved(path, content), **OPTIONS)


def fused(content, columns=2):
    """The same file with a shared expert fused: id 6, in one more slot of the map and of every row."""
    content["last_physical_to_logical_map"] = torch.tensor(np.concatenate([MAP, np.full((3, 1), 6)], 1))
    for record in content["records"]:
        if "topk_ids_of_layer" in record:
            ids = record["topk_ids_of_layer"]
            ids[1:, :, columns] = torch.where(ids[1:, :, 0] >= 0, 8, -1)
        else:
            counts = record["global_physical_count"]
            record["global_physical_count"] = torch.cat([counts, counts.sum(1, keepdim=True) // 2], 1)
    return content


@pytest.mark.parametrize("mode", ["per_token", "per_pass", "stat"])
def test_a_fused_shared_expert_is_refused_or_left_out(tmp_path, mode):
    def content():
        rng = np.random.default_rng(3)
        if mode == "per_token":
            return tokens_file(rng) | {"records": [token_record(rng, 7, 1, (30, 20))]}
        return stat_file(rng) if mode == "stat" else passes_file(rng, 0)

    plain = imported("sglang-recorder", saved(tmp_path / "x.pt", content()), **OPTIONS)
    changed = content()
    if mode == "stat":
        counts = changed["logical_count"]
        changed["logical_count"] = torch.cat([counts, counts.sum(2, keepdim=True) // 2], 2)
    else:
        changed = fused(changed)
    path = saved(tmp_path / "y.pt", changed)
    line = refusal("sglang-recorder", path, layers="1-2", experts=7, k=3)
    assert "it looks like a shared expert; allowed: --shared-slots N" in line
    found = imported("sglang-recorder", path, **OPTIONS, shared_slots=1)
    name = "experts_TLK" if mode == "per_token" else "load_SRMLE"
    assert (getattr(found, name) == getattr(plain, name)).all()
    kept = imported("sglang-recorder", path, layers="1-2", experts=7, k=3, shared_slots=0)
    assert (kept.header.model if mode == "per_token" else kept.model).used_k == 3


def test_a_full_buffer_does_not_tell_the_order_of_its_passes(tmp_path, rng):
    """So may one with an entry of zeros, an idle pass, before its last; with unused ones behind it does."""
    content = stat_file(rng)
    for idle, told in ((None, True), (1, True), (3, False)):
        if idle is not None:
            content["logical_count"][idle] = 0
        loads = imported("sglang-recorder", saved(tmp_path / "x.pt", content), **OPTIONS)
        assert ("order of these is not known" in loads.notes.get("iterations", "")) == told


def test_ranks_that_hold_the_same_counts_are_refused(tmp_path, rng):
    """Without data parallelism every rank counts the same tokens: both together would count them twice."""
    first = passes_file(rng, 0)
    second = first | {"records": [record | {"rank": 1} for record in first["records"]]}
    paths = [saved(tmp_path / f"{rank}.pt", content) for rank, content in enumerate((first, second))]
    assert "ranks 0 and 1 hold the same counts everywhere" in refusal("sglang-recorder", *paths, **OPTIONS)
    assert imported("sglang-recorder", paths[1], **OPTIONS).rank_R.tolist() == [1]
