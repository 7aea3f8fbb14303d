"""`import tensorrt-llm`: statistics in safetensors come in as they are; damaged and impossible ones are refused."""

import json

import numpy as np
import pytest
from importing import imported, refusal, safetensors

META = {"num_experts": 8, "num_experts_per_token": 2}


def counts(rng):
    """Two iterations of layers 3, 4 and 11; every layer has 40 selections."""
    return {f"{i}_{layer}": rng.multinomial(40, rng.dirichlet(np.ones(8))) for i in (100, 101) for layer in (3, 4, 11)}


@pytest.fixture
def folder(tmp_path, rng):
    """Statistics of two ranks, and what is in them."""
    ranks = [counts(rng), counts(rng)]
    (tmp_path / "meta_info.json").write_text(json.dumps(META))
    for rank, tensors in enumerate(ranks):
        (tmp_path / f"rank{rank}.safetensors").write_bytes(safetensors(tensors))
    return tmp_path, ranks


def test_statistics_come_in_as_they_are(folder):
    path, ranks = folder
    loads = imported("tensorrt-llm", path, model="mine")
    assert loads.load_SRMLE.shape == (2, 2, 1, 3, 8)
    assert (loads.iteration_S.tolist(), loads.rank_R.tolist()) == ([100, 101], [0, 1])
    assert (loads.model.layer_ids, loads.model.used_k) == ((3, 4, 11), 2)
    for r, tensors in enumerate(ranks):
        for s, iteration in enumerate((100, 101)):
            for at, layer in enumerate((3, 4, 11)):
                assert (loads.load_SRMLE[s, r, 0, at] == tensors[f"{iteration}_{layer}"]).all()
    (path / "rank1.safetensors").write_bytes(safetensors(ranks[1], "I64"))
    assert imported("tensorrt-llm", path, model="mine").digest == loads.digest


def test_counts_of_slots_become_those_of_experts(folder, tmp_path):
    """Eight slots of six experts, two of them twice: their counts are added; the map is of each MoE layer."""
    path, ranks = folder
    logical_LP = np.array([[0, 1, 2, 3, 4, 5, 0, 1], [5, 4, 3, 2, 1, 0, 5, 4], [0, 0, 0, 1, 2, 3, 4, 5]])
    np.savez(tmp_path / "map.npz", phy2log=logical_LP)
    loads = imported("tensorrt-llm", path, id_map=tmp_path / "map.npz", experts=6)
    assert loads.load_SRMLE.shape == (2, 2, 1, 3, 6)
    for r, tensors in enumerate(ranks):
        for s, iteration in enumerate((100, 101)):
            for at, layer in enumerate((3, 4, 11)):
                wanted = np.bincount(logical_LP[at], tensors[f"{iteration}_{layer}"], 6)
                assert loads.load_SRMLE[s, r, 0, at].tolist() == wanted.tolist()
    assert "map.npz" in loads.notes["ids"]
    told = {"id_map": tmp_path / "map.npz"}
    assert "needed: --experts" in refusal("tensorrt-llm", path, **told)
    assert "--experts means nothing here" in refusal("tensorrt-llm", path, experts=6)
    np.savez(tmp_path / "map.npz", phy2log=logical_LP[:, 1:])
    assert "counts of 8 slots, but the map has 7" in refusal("tensorrt-llm", path, experts=6, **told)
    np.savez(tmp_path / "map.npz", phy2log=logical_LP[:2])
    assert "the map has 2 layers, allowed 3" in refusal("tensorrt-llm", path, experts=6, **told)


def test_plain_counts_of_slots_become_those_of_experts(tmp_path, rng):
    counts_LP = rng.multinomial(60, np.full(8, 1 / 8), 2)
    np.savez(tmp_path / "c.npz", counts=counts_LP)
    np.save(tmp_path / "map.npy", np.array([0, 1, 2, 3, 4, 5, 0, 1]))
    loads = imported("counts", tmp_path / "c.npz", k=2, experts=6, id_map=tmp_path / "map.npy")
    assert loads.load_LE.tolist() == [np.bincount([0, 1, 2, 3, 4, 5, 0, 1], row, 6).tolist() for row in counts_LP]
    assert "needed: --experts" in refusal("counts", tmp_path / "c.npz", k=2, id_map=tmp_path / "map.npy")


def test_iterations_without_counts_stay_and_are_told(folder):
    """Their numbers are the source's own: an idle iteration is one, and `describe` names it."""
    path, ranks = folder
    for rank, tensors in enumerate(ranks):
        emptied = {name: values * (not name.startswith("100_")) for name, values in tensors.items()}
        (path / f"rank{rank}.safetensors").write_bytes(safetensors(emptied))
    loads = imported("tensorrt-llm", path)
    assert loads.iteration_S.tolist() == [100, 101]
    assert loads.used_S.tolist() == [False, True]


def test_statistics_of_zeros_recorded_nothing(folder):
    path, ranks = folder
    for rank, tensors in enumerate(ranks):
        zeros = {name: values * 0 for name, values in tensors.items()}
        (path / f"rank{rank}.safetensors").write_bytes(safetensors(zeros))
    assert refusal("tensorrt-llm", path).endswith("every count is zero: nothing was recorded")


def test_the_header_may_have_metadata(folder):
    path, ranks = folder
    content = safetensors(ranks[1])
    length = int.from_bytes(content[:8], "little")
    header = json.dumps({"__metadata__": {"format": "pt"}, **json.loads(content[8 : 8 + length])}).encode()
    (path / "rank1.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + content[8 + length :])
    assert imported("tensorrt-llm", path).load_SRMLE.sum() == 2 * 2 * 3 * 40


def without(tensors, name):
    return {key: values for key, values in tensors.items() if key != name}


MALFORMED = {
    "empty": (lambda t: b"", "header of 0 bytes in a file of 0"),
    "cut in the header": (lambda t: safetensors(t)[:50], "in a file of 50, allowed a whole safetensors file"),
    "cut in the data": (lambda t: safetensors(t)[:-4], "tensor '101_11': data_offsets are [160, 192], allowed within"),
    "bytes behind the data": (lambda t: safetensors(t) + b"1234", "tensors fill 192 of 196 bytes"),
    "no JSON": (lambda t: (4).to_bytes(8, "little") + b"{{{{", "the header is not JSON"),
    "no object": (lambda t: (2).to_bytes(8, "little") + b"[]", "the header is list, allowed an object"),
    "no tensors": (lambda t: safetensors({}), "no tensors"),
    "another name": (lambda t: safetensors({**t, "weight": [0] * 8}), "tensor 'weight', allowed names"),
    "a layer twice": (lambda t: safetensors({**t, "100_03": t["100_3"]}), "iteration 100, layer 3 is there twice"),
    "fractions": (lambda t: safetensors(t, dtype="F32"), "dtype is 'F32', allowed I64, I32"),
    "no dtype": (lambda t: safetensors(t, dtype=None), "dtype is None"),
    "two dimensions": (lambda t: safetensors(t, shape=[2, 4]), "shape is [2, 4], allowed one dimension"),
    "a wrong shape": (lambda t: safetensors(t, shape=[9]), "32 bytes, allowed 36 for 9 of I32"),
    "offsets backwards": (lambda t: safetensors(t, data_offsets=[8, 4]), "data_offsets are [8, 4]"),
    "offsets below zero": (lambda t: safetensors(t, data_offsets=[-32, 0]), "data_offsets are [-32, 0]"),
    "fewer experts": (
        lambda t: safetensors({name: values[:7] for name, values in t.items()}),
        "tensor '100_3': 7 counts, allowed 8, num_experts in meta_info.json",
    ),
    "below zero": (lambda t: safetensors({**t, "100_4": [-1, 41, *[0] * 6]}), "count is -1, allowed >= 0"),
    "a layer missing once": (lambda t: safetensors(without(t, "101_4")), "no tensor '101_4', allowed: every layer"),
    "a layer missing": (
        lambda t: safetensors(without(without(t, "101_4"), "100_4")),
        "iterations [100, 101] of layers [3, 11], allowed [100, 101] of [3, 4, 11] as in other ranks",
    ),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_files_are_refused(folder, name):
    path, ranks = folder
    change, message = MALFORMED[name]
    (path / "rank1.safetensors").write_bytes(change(ranks[1]))
    line = refusal("tensorrt-llm", path)
    assert line.startswith(f"{path / 'rank1.safetensors'}: ")
    assert message in line


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"100_4": [41, *[0] * 7]},
            "iteration 100, rank 1, microbatch 0, layer 4: 41 selections, allowed 40 as in layer 3",
        ),
        ({f"100_{layer}": [41, *[0] * 7] for layer in (3, 4, 11)}, "41 selections in a layer, allowed a multiple of 2"),
    ],
)
def test_layers_that_do_not_line_up_are_refused(folder, change, message):
    path, ranks = folder
    (path / "rank1.safetensors").write_bytes(safetensors({**ranks[1], **change}))
    assert message in refusal("tensorrt-llm", path)


def test_copied_layers_are_refused(folder):
    path, ranks = folder
    for rank, tensors in enumerate(ranks):
        copied = {name: tensors[name.replace("_4", "_11")] for name in tensors}
        (path / f"rank{rank}.safetensors").write_bytes(safetensors(copied))
    assert "layers 4 and 11 hold the same counts everywhere" in refusal("tensorrt-llm", path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not whole JSON"),
        ("[]", "num_experts is None"),
        ('{"num_experts": 0, "num_experts_per_token": 1}', "num_experts is 0, allowed 1..32767"),
        ('{"num_experts": 8, "num_experts_per_token": 9}', "num_experts_per_token is 9, allowed 1..8"),
        ('{"num_experts": "8"}', "num_experts is '8'"),
    ],
)
def test_meta_info_that_cannot_be_is_refused(folder, content, message):
    path, _ = folder
    (path / "meta_info.json").write_text(content)
    assert message in refusal("tensorrt-llm", path)


def test_folders_that_do_not_fit_are_refused(folder):
    path, _ = folder
    assert "no such file, allowed the folder" in refusal("tensorrt-llm", path / "rank0.safetensors")
    assert "tensorrt-llm: --experts means nothing here" in refusal("tensorrt-llm", path, experts=8)
    (path / "rank0.safetensors").unlink()
    assert "rank0.safetensors is missing beside rank1" in refusal("tensorrt-llm", path)
    (path / "rank1.safetensors").unlink()
    assert "no statistics" in refusal("tensorrt-llm", path)


def test_ranks_that_saw_the_same_tokens_and_shared_experts_are_refused(folder):
    path, ranks = folder
    (path / "rank1.safetensors").write_bytes((path / "rank0.safetensors").read_bytes())
    assert "ranks 0 and 1 hold the same counts everywhere" in refusal("tensorrt-llm", path)
    (path / "rank1.safetensors").unlink()
    shared = {name: np.append(values, values.sum() // 2) for name, values in ranks[0].items()}
    (path / "rank0.safetensors").write_bytes(safetensors(shared))
    (path / "meta_info.json").write_text(json.dumps({"num_experts": 9, "num_experts_per_token": 3}))
    assert "expert 8 was selected by every token in all 3 layers" in refusal("tensorrt-llm", path)
    loads = imported("tensorrt-llm", path, shared_slots=1)
    assert loads.load_LE[0].tolist() == sum(ranks[0][f"{i}_3"] for i in (100, 101)).tolist()
    assert "--shared-slots 3, allowed fewer than 3" in refusal("tensorrt-llm", path, shared_slots=3)
