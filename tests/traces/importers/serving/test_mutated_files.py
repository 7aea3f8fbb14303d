"""Mutated and mixed-up files of all engines: refused in one line, or loaded with nothing but what was in them.

`MOE_REPLAY_FUZZ=5000` tries so many; else some hundreds.
"""

import json
import os
from collections import Counter

import numpy as np
import pytest
from engine_mutations import (
    EXPERTS,
    LAYERS,
    Case,
    K,
    content,
    damaged_bytes,
    mutated,
    recorder_files,
    responses_of,
    write_lines,
    write_torch,
)
from importing import imported, safetensors, selections

from moe_replay.traces.errors import InputError
from moe_replay.traces.importers.importer_names import KINDS

pytest.importorskip("torch")

pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")  # one line says what is wrong, and nothing beside it

TIMES = int(os.environ.get("MOE_REPLAY_FUZZ", "600"))
STATED = {"experts": EXPERTS, "layers": "all"}
ROLLOUTS = {"experts": EXPERTS, "k": K, "layers": "0-2"}
SIZES = STATED | {"k": K, "hidden_layers": LAYERS}
# What each kind would be told of a file that is another's.
OPTIONS = {
    "npz": {"experts": EXPERTS, "phase": "prefill"}, "vllm": STATED, "sglang": SIZES,
    "sglang-recorder": STATED | {"k": K},
    "flame-moe": {"sequence_tokens": 4, "score_kind": "none"}, "smartmoe": {}, "tensorrt-llm": {}, "eplb": {"k": K},
    "table": {"experts": EXPERTS, "phase": "prefill"}, "counts": {"k": K, "experts": EXPERTS},
    "llama-cpp": {"experts": EXPERTS, "k": K, "phase": "prefill"}, "megatron": {"k": K}, "slime": ROLLOUTS,
    "verl": ROLLOUTS,
}  # fmt: skip
# Kinds that read several programs' files; what they load of another's must be what is there.
GENERIC = ("npz", "table", "counts", "llama-cpp")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("engines")


@pytest.fixture(scope="module")
def sources(folder):
    """What is written, by name: kind, options, contents before they are written, one for each file."""
    rng = np.random.default_rng(11)
    torch_files = {mode: recorder_files(rng, mode) for mode in ("tokens", "passes")}
    stat = rng.multinomial(30, np.ones(EXPERTS) / EXPERTS, (6, LAYERS)).astype(np.int32)
    stat[4:] = 0
    return {
        "vllm": ("vllm", STATED, [responses_of("vllm", rng)]),
        "sglang": ("sglang", SIZES, [responses_of("sglang", rng)]),
        "recorder-tokens": ("sglang-recorder", STATED | {"k": K}, torch_files["tokens"]),
        "recorder-passes": ("sglang-recorder", STATED | {"k": K}, torch_files["passes"]),
        "slime": ("slime", OPTIONS["slime"], [rollout(rng)]),
        "verl": ("verl", OPTIONS["verl"], [padded(rng)]),
        "recorder-stat": ("sglang-recorder", STATED | {"k": K}, [{"rank": 0, "logical_count": stat}]),
    }


def rollout(rng):
    """Samples of slime: tokens, and rows for all but the last."""
    rows = [selections(rng, tokens - 1, LAYERS, K, EXPERTS, np.int32) for tokens in (9, 7, 12)]
    said = [{"tokens": list(range(100, 101 + len(each))), "response_length": 3} for each in rows]
    return {"samples": [each | {"rollout_routed_experts": held} for each, held in zip(said, rows, strict=True)]}


def padded(rng):
    """A batch of verl: two sequences of 6 and 8 tokens, padded on both sides, their last rows too."""
    mask = np.zeros((2, 10), np.int64)
    mask[0, 2:8], mask[1, 1:9] = 1, 1
    rows = selections(rng, 20, LAYERS, K, EXPERTS, np.int32).reshape(2, 10, LAYERS, K)
    rows[~mask.astype(bool)] = 0
    rows[0, 7] = rows[1, 8] = 0  # the last token is never routed
    return {"routed_experts": rows, "attention_mask": mask, "responses": np.arange(8).reshape(2, 4)}


@pytest.fixture(scope="module")
def cases(folder, sources):
    """Whole files of every kind, and what they hold."""
    rng = np.random.default_rng(12)
    made = {
        name: (kind, options, written(folder, name, contents)) for name, (kind, options, contents) in sources.items()
    }
    np.savez(
        folder / "x.npz", experts=selections(rng, 40, LAYERS, K, EXPERTS), offsets=[0, 15, 40], layer_ids=[1, 2, 5]
    )
    made["npz"] = ("npz", OPTIONS["npz"], (folder / "x.npz",))
    (folder / "trt").mkdir()
    (folder / "trt" / "meta_info.json").write_text(json.dumps({"num_experts": EXPERTS, "num_experts_per_token": K}))
    for rank in range(2):
        (folder / "trt" / f"rank{rank}.safetensors").write_bytes(
            safetensors(
                {f"{at}_{layer}": rng.multinomial(40, np.ones(EXPERTS) / EXPERTS) for at in (7, 8) for layer in (3, 4)}
            )
        )
    made["tensorrt-llm"] = ("tensorrt-llm", {}, (folder / "trt",))
    np.savez(folder / "eplb.npz", weight=rng.multinomial(60, np.ones(EXPERTS) / EXPERTS, LAYERS).astype(np.float32))
    made["eplb"] = ("eplb", {"k": K}, (folder / "eplb.npz",))
    rows = selections(rng, 12, LAYERS, K, EXPERTS).tolist()
    table = [
        {"sequence": 0, "token": at, "layer": layer, "experts": rows[at][layer]} for at, layer in np.ndindex(12, LAYERS)
    ]
    write_lines(folder / "table.jsonl", table)
    made["table"] = ("table", OPTIONS["table"], (folder / "table.jsonl",))
    load = rng.multinomial(40, np.ones(EXPERTS) / EXPERTS, LAYERS)
    lines = ["layer_id,expert_id,count", *(f"{layer},{e},{load[layer, e]}" for layer, e in np.ndindex(load.shape))]
    (folder / "counts.csv").write_text("\n".join(lines) + "\n")
    made["counts"] = ("counts", OPTIONS["counts"], (folder / "counts.csv",))
    return {
        name: Case(name, kind, paths, options, content(imported(kind, *paths, **options)))
        for name, (kind, options, paths) in made.items()
    }


def written(folder, name, contents):
    """Write the contents of a source; return the paths."""
    paths = []
    for at, each in enumerate(contents):
        paths.append(folder / (f"{name}.{at}.jsonl" if isinstance(each, list) else f"{name}.{at}.pt"))
        (write_lines if isinstance(each, list) else write_torch)(paths[-1], each)
    return tuple(paths)


def tried(kind, paths, options):
    """What was loaded, or None where it was refused in one line; any other error fails the test."""
    try:
        return imported(kind, *paths, **options)
    except InputError as error:
        line = str(error)
    assert line.isprintable()
    return None


def test_one_change_gives_the_same_rows_fewer_or_a_refusal(folder, sources, cases):
    rng = np.random.default_rng(int(os.environ.get("MOE_REPLAY_FUZZ_SEED", "1")))
    names, ended = [*sources], Counter()
    for _ in range(TIMES // 2):
        name = names[int(rng.integers(len(names)))]
        kind, options, contents = sources[name]
        at = int(rng.integers(len(contents)))
        changed, known = mutated(contents[at], rng)
        paths = list(cases[name].paths)
        paths[at] = written(folder, f"changed-{name}", [changed])[0]
        made = tried(kind, paths, options)
        ended[name, made is not None] += 1
        if made is not None and known:
            assert not content(made) - cases[name].held, (name, changed)
    assert min(ended[name, False] for name in names) > 0


def test_damaged_bytes_end_in_a_line_or_in_sound_rows(folder, cases):
    """Of archives with checksums nothing but the same content; of others rows of the same sizes."""
    rng = np.random.default_rng(2)
    names = [*cases]
    for _ in range(TIMES // 2):
        case = cases[names[int(rng.integers(len(names)))]]
        files = [path for given in case.paths for path in (sorted(given.iterdir()) if given.is_dir() else [given])]
        path = files[int(rng.integers(len(files)))]
        other = cases[names[int(rng.integers(len(names)))]].paths[0]
        whole = path.read_bytes()
        path.write_bytes(damaged_bytes(whole, b"{}" * 500 if other.is_dir() else other.read_bytes(), rng))
        try:
            made = tried(case.kind, case.paths, case.options)
        finally:
            path.write_bytes(whole)
        if made is not None and case.name in ("npz", "eplb"):
            assert content(made) == case.held
        elif made is not None and hasattr(made, "experts_TLK"):
            assert made.experts_TLK.shape[1:] == (LAYERS, K)


def test_files_of_one_engine_are_no_other_engines(cases, tmp_path):
    """Every kind is given every other's files; only a form that several engines share may load, with the same rows."""
    (tmp_path / "notes.txt").write_text("layer,expert\n0,1\n")
    (tmp_path / "empty").write_bytes(b"")
    strays = [(tmp_path / "notes.txt",), (tmp_path / "empty",), (tmp_path,), (tmp_path / "none",)]
    assert {*OPTIONS} == {*KINDS}
    for kind, options in OPTIONS.items():
        for paths in strays:
            assert tried(kind, paths, options) is None
        for case in cases.values():
            if case.kind == kind:
                continue
            made = tried(kind, case.paths, options)
            assert made is None or kind in GENERIC, f"{kind} read the files of {case.name}"
            if made is not None:
                assert rows_or_counts(content(made)) == rows_or_counts(case.held), (kind, case.name)
            mixed = [*case.paths, *next(each.paths for each in cases.values() if each.kind != case.kind)]
            assert tried(case.kind, mixed, case.options) is None


def rows_or_counts(held):
    """What was loaded without places and phases, which other files do not tell alike: rows, or counts of experts."""
    if all(len(key) == 5 for key in held):
        found = Counter()
        for (_, _, _, layer, expert), count in held.items():
            found[layer, expert] += count
        return found
    return Counter(key[-1] for key in held.elements())
