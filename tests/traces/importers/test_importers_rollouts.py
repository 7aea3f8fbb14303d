"""Dumps of training: rollouts of slime and verl, loads of Megatron-Core; nothing in a .pt file ever runs."""

import os

import numpy as np
import pytest
from importing import imported, refusal, selections

torch = pytest.importorskip("torch")


def sample(experts, response, **more):
    return {"tokens": list(range(100, 101 + len(experts))), "response_length": response} | more


@pytest.fixture
def two(rng):
    return [selections(rng, 9, 3, 4, 32, np.int32), selections(rng, 6, 3, 4, 32, np.int32)]


@pytest.mark.parametrize("form", ["numpy", "tensors", "lists", "columns", "flat", "big-endian"])
def test_a_sample_is_a_sequence(tmp_path, two, form):
    made = [np.asarray(each) for each in two]
    held = {
        "numpy": lambda e: e, "tensors": torch.tensor, "lists": lambda e: e.tolist(), "columns": lambda e: e,
        "flat": lambda e: e.reshape(len(e), -1), "big-endian": lambda e: e.astype(">i2"),
    }[form]  # fmt: skip
    samples = [
        sample(e, r, rollout_routed_experts=held(e), status="completed") for e, r in zip(made, (4, 3), strict=True)
    ]
    content = {"rollout_id": 3, "samples": samples}
    if form == "columns":
        content = {"rollout_id": 3, "rollout_data": {
            "tokens": [torch.tensor(each["tokens"]) for each in samples], "response_lengths": [4, 3],
            "rollout_routed_experts": [each["rollout_routed_experts"] for each in samples],
        }}  # fmt: skip
    torch.save(content, tmp_path / "rollout_3.pt")
    trace = imported("slime", tmp_path / "rollout_3.pt", experts=32, k=4 if form == "flat" else None)
    np.testing.assert_array_equal(trace.experts_TLK, np.concatenate(two))
    assert trace.phase_T.tolist() == [0] * 6 + [1] * 3 + [0] * 4 + [1] * 2
    assert trace.prompt_len_S.tolist() == [6, 4]
    assert trace.token_id_T.tolist() == [*range(100, 109), *range(100, 106)]


def test_slime_refuses_what_does_not_fit(tmp_path, two):
    path = tmp_path / "rollout.pt"
    good = sample(two[0], 4, rollout_routed_experts=two[0])
    for change, says in (
        ({"rollout_routed_experts": two[0][:-1]}, "8 rows of experts, allowed 9 for 10 tokens"),
        ({"rollout_routed_experts": None}, "is None, as of an aborted sample; allowed: --leave-out aborted"),
        ({"rollout_routed_experts": two[0].astype(float)}, "allowed whole numbers [rows, layers, k]"),
        ({"rollout_routed_experts": two[0][:, :2]}, "rows are [layers, k] (2, 4), allowed (3, 4)"),
        ({"response_length": 11}, "-1 prompt tokens of 10"),
        ({"response_length": "4"}, "response_length is '4', allowed a whole number"),
        ({"tokens": "text"}, "tokens are no list of token ids"),
        ({"tokens": [-1] * 10}, "allowed 10 of 0.."),
    ):
        torch.save({"samples": [good, good | change]}, path)
        assert says in refusal("slime", path, experts=32)
        assert "sample 1" in refusal("slime", path, experts=32)
    torch.save({"samples": [good, good | {"rollout_routed_experts": None}]}, path)
    made = imported("slime", path, experts=32, leave_out=("aborted",))
    assert (made.S, made.header.notes["left_out"]) == (1, ["1 of 2 samples, which were aborted"])
    torch.save({"weights": 1}, path)
    assert "no list of samples" in refusal("slime", path, experts=32)
    torch.save({"samples": [good]}, path)
    assert "expert is" in refusal("slime", path, experts=8)


def test_dense_layers_hold_zeros_and_are_named_away(tmp_path, two):
    rows = two[0].copy()
    rows[:, 0] = 0
    torch.save({"samples": [sample(rows, 4, rollout_routed_experts=rows)]}, tmp_path / "r.pt")
    assert "layer 0 holds only zeros, as a dense layer does; allowed: --layers" in refusal(
        "slime", tmp_path / "r.pt", experts=32
    )
    assert imported("slime", tmp_path / "r.pt", experts=32, layers="1-2").header.model.layer_ids == (1, 2)


class Harmful:
    """Runs a command where it is unpickled."""

    def __reduce__(self):
        return os.mkdir, ("it-ran",)


@pytest.mark.parametrize("kind", ["slime", "verl", "table", "counts"])
def test_nothing_in_a_file_runs(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    for content in (
        {"samples": [Harmful()]}, Harmful(), {"a": np.array([Harmful()], object)}, {"a": np.array(["x"], object)},
        {"a": np.array(["text"])}, {"a": np.zeros(2, "V8")},
    ):  # fmt: skip
        torch.save(content, "x.pt")
        assert "not a whole .pt file" in refusal(
            kind, tmp_path / "x.pt", experts=4, **{"k": 2} if kind == "counts" else {}
        )
    assert not (tmp_path / "it-ran").exists()


def padded(two, fill=0):
    """A batch of 12 places: prompts of 5 and 4 end at place 7, responses begin there."""
    experts = np.full((2, 12, 3, 4), fill, np.int64)
    mask = np.zeros((2, 12), np.int64)
    ids = np.zeros((2, 12), np.int64)
    for row, (rows, prompt) in enumerate(zip(two, (5, 4), strict=True)):
        tokens = min(len(rows) + 1, prompt + 5)
        experts[row, 7 - prompt : 7 - prompt + tokens - 1] = rows[: tokens - 1]
        mask[row, 7 - prompt : 7 - prompt + tokens] = 1
        ids[row, 7 - prompt : 7 - prompt + tokens] = 1 + np.arange(tokens)
    return experts, mask, ids


@pytest.mark.parametrize("said", ["responses", "response_mask", "whole response_mask", "prompts", "under batch"])
def test_a_padded_batch_without_its_padding(tmp_path, two, said):
    experts, mask, ids = padded(two)
    content = {
        "routed_experts": torch.tensor(experts),
        "attention_mask": torch.tensor(mask),
        "input_ids": torch.tensor(ids),
    }
    whole = mask * (np.arange(12) >= 7)
    content |= {
        "responses": {"responses": torch.zeros(2, 5, dtype=torch.int64)},
        "response_mask": {"response_mask": torch.tensor(whole[:, 7:])},
        "whole response_mask": {"response_mask": torch.tensor(whole)},
        "prompts": {"prompts": torch.zeros(2, 7, dtype=torch.int64)},
        "under batch": {"responses": torch.zeros(2, 5, dtype=torch.int64)},
    }[said]
    torch.save({"batch": content} if said == "under batch" else content, tmp_path / "b.pt")
    trace = imported("verl", tmp_path / "b.pt", experts=32)
    lengths = mask.sum(1) - 1
    np.testing.assert_array_equal(trace.experts_TLK, np.concatenate([e[:n] for e, n in zip(two, lengths, strict=True)]))
    assert trace.prompt_len_S.tolist() == [5, 4]
    assert trace.token_id_T.tolist() == [*range(1, 1 + lengths[0]), *range(1, 1 + lengths[1])]


def test_verl_refuses_what_does_not_fit(tmp_path, two):
    experts, mask, ids = padded(two)
    path = tmp_path / "b.pt"
    good = {"routed_experts": experts, "attention_mask": mask, "responses": ids[:, 7:]}
    holed = mask.copy()
    holed[0, 4] = 0
    under = experts.copy()
    under[1, 0, 1] = [3, 5, 1, 2]
    for change, says in (
        ({"attention_mask": None}, "a batch axis without a mask"),
        ({"attention_mask": holed}, "row 0 has tokens in 2 pieces"),
        ({"attention_mask": mask * 0}, "row 0 has no tokens"),
        ({"attention_mask": mask * 2}, "allowed 0 and 1 of shape (2, 12)"),
        ({"routed_experts": under}, "row 1: place 0 is masked, but holds experts"),
        ({"routed_experts": experts[0]}, "allowed whole numbers [batch, length, layers, k]"),
        ({"responses": None}, "nothing says where responses begin"),
        ({"responses": ids[:1]}, "allowed (2, <= 12)"),
        ({"routed_experts": None}, "allowed routed_experts"),
    ):
        content = {name: each for name, each in (good | change).items() if each is not None}
        torch.save(content, path)
        assert says in refusal("verl", path, experts=32)


def dump(path, loads, layers, rank=0, size=1, counts=None, **more):
    """What Megatron-Core's recorder writes; `loads` [L, forwards, E]."""
    arrays = {
        "dump_version": "mcore_ep_load_dump_v1", "loads": loads.astype(np.int32), "layer_numbers": np.int32(layers),
        "forward_counts": np.int32(counts if counts is not None else [loads.shape[1]] * len(layers)),
        "ep_group_ranks": np.arange(size), "ep_rank": np.int32(rank), "ep_size": np.int32(size),
        "global_rank": np.int32(rank), "num_global_physical_experts": np.int32(loads.shape[2]),
        "num_local_physical_experts": np.int32(loads.shape[2] // size),
    }  # fmt: skip
    np.savez(path, **(arrays | more))


def test_loads_of_megatron(tmp_path, rng):
    loads = rng.multinomial(40, [1 / 8] * 8, (2, 3, 4))  # rank, layer, forward, expert
    paths = [tmp_path / f"mcore_ep_loads_rank{r}.npz" for r in range(2)]
    for rank, path in enumerate(paths):
        dump(path, loads[rank], [2, 3, 4], rank, 2)
    made = imported("megatron", *paths, k=2)
    np.testing.assert_array_equal(made.load_SRMLE[:, :, 0], loads.transpose(2, 0, 1, 3))
    assert made.model.layer_ids == (2, 3, 4)
    assert "allowed: all 2 ranks" in refusal("megatron", paths[0], k=2)
    assert "8 physical experts, but --experts is 6" in refusal("megatron", *paths, k=2, experts=6)
    assert "the same bytes" in refusal("megatron", paths[0], paths[0], k=2)


def test_what_was_never_written_is_left_out(tmp_path, rng):
    """The buffer is not initialised: behind a layer's own count it holds whatever was in memory."""
    loads = rng.multinomial(40, [1 / 8] * 8, (2, 4))
    garbage = loads.copy()
    garbage[1, 3] = -123456
    dump(tmp_path / "p.npz", garbage, [5, 6], counts=[4, 3])
    made = imported("megatron", tmp_path / "p.npz", k=2)
    np.testing.assert_array_equal(made.load_SRMLE[:, 0, 0], loads[:, :3].transpose(1, 0, 2))
    assert made.notes["left_out"] == ["1 forwards that only some layers recorded"]


def test_stages_of_a_pipeline_hold_other_layers(tmp_path, rng):
    loads = rng.multinomial(40, [1 / 8] * 8, (4, 2))  # layer, forward, expert
    dump(tmp_path / "a.npz", loads[2:], [3, 4], 0, global_rank=np.int32(1))
    dump(tmp_path / "b.npz", loads[:2], [1, 2], 0)
    made = imported("megatron", tmp_path / "a.npz", tmp_path / "b.npz", k=2)
    np.testing.assert_array_equal(made.load_SRMLE[:, 0, 0], loads.transpose(1, 0, 2))
    assert made.model.layer_ids == (1, 2, 3, 4)
    dump(tmp_path / "b.npz", loads[:2], [2, 3], 0)
    assert "stages share some layers" in refusal("megatron", tmp_path / "a.npz", tmp_path / "b.npz", k=2)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"dump_version": "v2"}, "dump_version is 'v2'"),
        ({"layer_numbers": np.int32([4, 3])}, "ascending layers"),
        ({"layer_numbers": np.int32([1])}, "loads has shape"),
        ({"forward_counts": np.int32([9, 9])}, "allowed 1..3 forwards"),
        ({"forward_counts": np.int32([0, 3])}, "allowed 1..3 forwards"),
        ({"num_global_physical_experts": np.int32(9)}, "allowed (2, 3, 9)"),
        ({"ep_rank": np.array([0])}, "ep_rank is int64 of shape (1,)"),
        ({"loads": np.full((2, 3, 8), -1)}, "allowed whole numbers >= 0"),
    ],
)
def test_megatron_refuses_what_does_not_fit(tmp_path, rng, change, says):
    loads = change.pop("loads", rng.multinomial(40, [1 / 8] * 8, (2, 3)))
    dump(tmp_path / "p.npz", loads, [1, 2], **change)
    assert says in refusal("megatron", tmp_path / "p.npz", k=2)
