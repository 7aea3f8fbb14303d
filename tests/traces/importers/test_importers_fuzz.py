"""Hundreds of mutated and mixed-up files over all importers: each ends in one line, or in something sound.

Mutations of texts change what a person or a patch changes: lines lost, repeated or swapped, numbers, names, types.
"""

import json
import shlex
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import test_importers_command as commands
import test_importers_llama_cpp as llama
from importing import imported, selections

from moe_replay.traces.errors import InputError
from moe_replay.traces.importers.guessing.kind_guess import guessed
from moe_replay.traces.load_trace import LoadTrace
from moe_replay.traces.placements.expert_placement import ExpertPlacement

TIMES = 60
WORDS = [
    "",
    "nan",
    "-1",
    "1e9",
    "99999999999999999999",
    "x",
    "null",
    "[]",
    "{}",
    "0.5",
    '"',
    ",",
    "\n",
    "é",
    "true",
    "3",
]


def said(kind):
    """The files and options of a kind's example."""
    values = shlex.split(commands.COMMANDS[kind][1])
    files = values[2 : values.index(next(value for value in values if value.startswith("--")))]
    named = {name[2:].replace("-", "_"): value for name, value in pairwise(values) if name.startswith("--")}
    options = {name: int(value) if value.isdecimal() else value for name, value in named.items() if name != "out"}
    return [Path(file) for file in files], options | {"ranked": None}


def mutated_text(text, rng):
    """A text with one thing changed that could be changed by hand."""
    lines = text.splitlines(keepends=True)
    at, other = (int(each) for each in rng.integers(len(lines), size=2))
    kind = int(rng.integers(6))
    if kind == 0:
        del lines[at]
    elif kind == 1:
        lines.insert(other, lines[at])
    elif kind == 2:
        lines[at], lines[other] = lines[other], lines[at]
    elif kind == 3:
        cut = int(rng.integers(len(lines[at]) + 1))
        lines[at] = lines[at][:cut]
    else:
        start = int(rng.integers(len(lines[at]) + 1))
        stop = min(start + int(rng.integers(4)), len(lines[at]))
        lines[at] = lines[at][:start] + WORDS[int(rng.integers(len(WORDS)))] + lines[at][stop:]
    return "".join(lines)


def mutated_bytes(content, rng):
    """Bytes with a few changed, cut out, repeated, or put in."""
    at, size = int(rng.integers(len(content))), int(rng.integers(1, 64))
    kind = int(rng.integers(4))
    if kind == 0:
        return content[:at] + content[at + size :]
    if kind == 1:
        return content[: at + size] + content[at:]
    if kind == 2:
        return content[:at]
    return content[:at] + rng.bytes(size) + content[at + size :]


def is_sound(made, options):
    """What an import may return: all that it holds is checked on construction, so only its sizes are left to ask."""
    if isinstance(made, LoadTrace):
        return made.load_SRMLE.min() >= 0 and made.load_LE.sum() % made.model.used_k == 0
    if isinstance(made, ExpertPlacement):
        return True
    return made.T > 0 and made.experts_TLK.max() < options.get("experts", made.header.model.experts)


@pytest.mark.parametrize("kind", commands.COMMANDS)
def test_mutated_files_end_in_a_line_or_in_something_sound(tmp_path, monkeypatch, rng, kind):
    monkeypatch.chdir(tmp_path)
    commands.COMMANDS[kind][0](rng)
    files, options = said(kind)
    path = Path(commands.FILES[kind])
    whole = path.read_bytes()
    text = whole.decode() if path.suffix in (".csv", ".json", ".jsonl", ".log") else None
    refused = unprintable = 0
    for _ in range(TIMES):
        path.write_bytes(mutated_text(text, rng).encode() if text else mutated_bytes(whole, rng))
        try:
            assert is_sound(imported(kind, *files, **options), options)
        except InputError as error:
            refused += 1
            unprintable += not str(error).isprintable()
        try:
            guessed([path])
        except InputError as error:
            unprintable += not str(error).isprintable()
    assert refused > TIMES // 4
    assert not unprintable


@pytest.mark.parametrize("kind", commands.COMMANDS)
def test_files_of_other_kinds_are_no_load_of_this_one(tmp_path, monkeypatch, rng, kind):
    """Every kind is given every other kind's file, under its own name and under this kind's."""
    monkeypatch.chdir(tmp_path)
    _, options = said(kind)
    lines = []
    for other, (make, _) in commands.COMMANDS.items():
        if other == kind:
            continue
        folder = tmp_path / other
        folder.mkdir()
        monkeypatch.chdir(folder)
        make(rng)
        files, _ = said(other)
        for path in (files[0], Path(f"renamed{Path(commands.FILES[kind]).suffix}")):
            if path.name.startswith("renamed"):
                path.write_bytes(Path(commands.FILES[other]).read_bytes())
            try:
                # A table reads what llama.cpp's forms hold, counts read what EPLB's arrays hold: the same numbers.
                assert is_sound(imported(kind, path, **options), options)
            except InputError as error:
                lines.append(str(error))
    assert all(line.isprintable() for line in lines)


def altered(held, rng, change):
    """The rows of the table's example after a change that makes them wrong."""
    rows = [dict(each) for each in held]
    at = int(rng.integers(len(rows)))
    change(rows, at, rng)
    return rows


CHANGES = {
    "a row lost": lambda rows, at, rng: rows.pop(at),
    "a row twice": lambda rows, at, rng: rows.insert(int(rng.integers(len(rows))), dict(rows[at])),
    "an expert lost": lambda rows, at, rng: rows[at].update(topk_ids=rows[at]["topk_ids"][:-1]),
    "an expert twice": lambda rows, at, rng: rows[at].update(topk_ids=[rows[at]["topk_ids"][0]] * 2),
    "an id too large": lambda rows, at, rng: rows[at].update(topk_ids=[64, 1]),
    "an id below": lambda rows, at, rng: rows[at].update(topk_ids=[-2, 1]),
    "no whole id": lambda rows, at, rng: rows[at].update(topk_ids=[0.5, 1]),
    "a null": lambda rows, at, rng: rows[at].update(topk_ids=None),
    "a null in a list": lambda rows, at, rng: rows[at].update(topk_ids=[None, 1]),
    "no token": lambda rows, at, rng: rows[at].pop("token_idx"),
    "another layer": lambda rows, at, rng: rows[at].update(layer=rows[at]["layer"] + 1),
    "another request": lambda rows, at, rng: rows[at].update(req_id="r9"),
    "a token too far": lambda rows, at, rng: rows[at].update(token_idx=rows[at]["token_idx"] + 7),
    "no score": lambda rows, at, rng: rows[at].update(topk_weights=[0.5]),
    "an impossible score": lambda rows, at, rng: rows[at].update(topk_weights=[7.5, 0.1]),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_is_wrong_in_one_row_is_always_refused(tmp_path, monkeypatch, rng, change):
    monkeypatch.chdir(tmp_path)
    commands.table(rng)
    path = Path("moe_routes.jsonl")
    held = [json.loads(line) for line in path.read_text().splitlines()]
    options = {"experts": 64, "phase": "prefill", "score_kind": "sigmoid", "k": 2}
    whole = imported("table", path, **options)
    for _ in range(8):
        rows = altered(held, rng, CHANGES[change])
        path.write_text("\n".join(map(json.dumps, rows)))
        with pytest.raises(InputError):
            imported("table", path, **options)
    order = rng.permutation(len(held))
    first = [at for at, each in enumerate(held) if each["req_id"] == "r0"][:1]
    path.write_text("\n".join(json.dumps(held[at]) for at in [*first, *(at for at in order if at not in first)]))
    np.testing.assert_array_equal(imported("table", path, **options).experts_TLK, whole.experts_TLK)


@pytest.mark.parametrize("form", ["imatrix", "records", "several npz"])
def test_other_forms_of_a_kind_too(tmp_path, rng, form):
    """GGUF, binary records and a request's file with its counts beside it, whose kinds have another form above."""
    if form == "imatrix":
        path, kind, options = tmp_path / "i.gguf", "llama-cpp", {"k": 2}
        llama.imatrix(path, {layer: rng.multinomial(80, [1 / 8] * 8) for layer in (1, 2)})
    elif form == "records":
        path, kind, options = tmp_path / "t.bin", "llama-cpp", {"k": 2, "experts": 16}
        llama.records(path, llama.blocks(selections(rng, 11, 3, 2, 16, np.int64)))
    else:
        path, kind, options = tmp_path / "r.npz", "npz", {"experts": 16, "phase": "both"}
        np.savez(path, routed_experts=selections(rng, 9, 2, 2, 16))
        path.with_suffix(".json").write_text('{"prompt_tokens": 7, "completion_tokens": 3}')
    whole, refused = path.read_bytes(), 0
    for _ in range(TIMES):
        path.write_bytes(mutated_bytes(whole, rng))
        try:
            assert is_sound(imported(kind, path, **options), options)
        except InputError as error:
            refused += str(error).isprintable()
    assert refused > TIMES // 4
