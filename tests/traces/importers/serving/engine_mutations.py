"""Engines' files of known content, and mutations of them whose right result is known: the same, less, or a refusal."""

import copy
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from engine_responses import FORMS, generate, raw, usage, vllm
from importing import selections

LAYERS, K, EXPERTS = 3, 2, 16
STRANGE = (None, True, -1, 0, 1, 7, 2**40, 1.5, "", "x", "7", "AAAA", [], [[]], {}, [None], [[1, 2], [3]], {"a": 1})
TOKEN_ROWS = ("vllm", "sglang", "recorder-tokens", "npz")


@dataclass(frozen=True)
class Case:
    """A kind's files and options; `held` is what they hold, as `content` tells it of what was loaded."""

    name: str
    kind: str
    paths: tuple[Path, ...]
    options: dict
    held: Counter


def content(made):
    """What was loaded, whatever its order: rows with their places, or counts with theirs. Phases of requests too."""
    if hasattr(made, "load_SRMLE"):
        at = np.argwhere(made.load_SRMLE)
        layer_ids = np.array(made.model.layer_ids)
        named = [
            (int(made.iteration_S[s]), int(made.rank_R[r]), int(m), int(layer_ids[lay]), int(e))
            for s, r, m, lay, e in at
        ]
        return Counter({place: int(made.load_SRMLE[tuple(index)]) for place, index in zip(named, at, strict=True)})
    phases = made.phase_T.tolist() if made.token_id_T is None else [None] * made.T
    rows = zip(made.position_T.tolist(), phases, made.experts_TLK.reshape(made.T, -1).tolist(), strict=True)
    return Counter((position, phase, tuple(row)) for position, phase, row in rows)


def conversation(rng):
    """Rows, prompt and generated tokens of four sequences."""
    lengths = [(7, 4), (5, 6), (9, 2), (6, 5)]
    return [
        (selections(rng, prompt + made - 1, LAYERS, K, EXPERTS, np.int64), prompt, made) for prompt, made in lengths
    ]


def responses_of(kind, rng):
    """Responses in JSON Lines: every form once, several choices, token ids."""
    forms = [*FORMS.values()]
    held = conversation(rng)
    found = []
    for at, (rows, prompt, made) in enumerate(held):
        body = forms[(at + int(rng.integers(len(forms)))) % len(forms)](
            rows, str(rng.choice(["uint8", "int32", "int64"]))
        )
        if kind == "sglang":
            body = {"routed_experts": raw(rows)} if at % 2 else body
            found.append(generate(body, prompt, made, routed_experts_start_len=0))
        else:
            body |= {"token_ids": list(range(made))} if at % 2 else {}
            found.append(vllm(body | {"finish_reason": "stop"}, **usage(prompt, made)))
    if kind == "vllm":
        same = [selections(rng, 9, LAYERS, K, EXPERTS, np.int64), selections(rng, 11, LAYERS, K, EXPERTS, np.int64)]
        found.append(vllm(*({"routed_experts": rows.tolist()} for rows in same), **usage(6, 4 + 6)))
    return found


def recorder_files(rng, mode):
    """Passes of two ranks under expert parallelism with a map of 18 slots; torch tensors are made when written."""
    slots = np.stack([rng.permutation(np.append(np.arange(EXPERTS), [0, 1])) for _ in range(LAYERS)])
    files = []
    for rank in range(2):
        records = []
        for number, length in enumerate((5, 2, 3), 1):
            record = {"forward_pass_id": number, "rank": rank, "gatherer_key": "primary"}
            if mode == "tokens":
                ids = np.full((LAYERS, length, 8), -1, np.int32)
                for layer in range(LAYERS):
                    picked = np.argsort(rng.random((length, EXPERTS)), axis=1)[:, :K]
                    ids[layer, :, :K] = [[np.flatnonzero(slots[layer] == e)[0] for e in row] for row in picked]
                record |= {
                    "input_ids": list(range(10, 10 + length)), "positions": np.arange(length),
                    "forward_mode": 1 if number == 1 else 2, "extend_seq_lens": [length] if number == 1 else None,
                    "topk_ids_of_layer": ids,
                    "rids": [f"a{rank}"] if number == 1 else [f"{number}{rank}{at}" for at in range(length)],
                }  # fmt: skip
            else:
                record["global_physical_count"] = rng.multinomial(20 + 2 * number, np.ones(18) / 18, LAYERS).astype(
                    np.int32
                )
            records.append(record)
        files.append({"records": records, "last_physical_to_logical_map": slots.astype(np.int64)})
    return files


def entries(value, path=()):
    """Every place in nested lists and objects, rows of experts as one."""
    yield path
    if isinstance(value, dict):
        for key, each in value.items():
            yield from entries(each, (*path, key))
    elif isinstance(value, list) and len(value) < 12 and not (value and isinstance(value[0], (list, int))):
        for at, each in enumerate(value):
            yield from entries(each, (*path, at))


# Places whose other value is another file, and no damage: no reader can tell.
FREE = ("forward_mode", "rids", "gatherer_key", "input_ids", "finish_reason", "forward_pass_id", "rank", "responses")


def mutated(whole, rng):
    """A copy with one change, and whether its result is known: the same content, less of it, or a refusal."""
    changed = copy.deepcopy(whole)
    places = [place for place in entries(changed) if place]
    place = places[int(rng.integers(len(places)))]
    parent = changed
    for key in place[:-1]:
        parent = parent[key]
    key, known = place[-1], not any(each in FREE for each in place)
    choice = int(rng.integers(5))
    if choice == 0:
        del parent[key]
    elif choice == 1 and isinstance(parent, list) and len(parent) > 1:
        parent[key], parent[0] = parent[0], parent[key]
    elif choice == 2 and isinstance(parent, list):
        parent.insert(key, copy.deepcopy(parent[key]))
        known = False  # a response that came twice may be two
    elif isinstance(parent[key], np.ndarray):
        parent[key] = changed_array(parent[key], rng)
    elif choice == 3 and isinstance(parent[key], (str, list)) and len(parent[key]) > 1:
        parent[key] = parent[key][: int(rng.integers(len(parent[key])))]
    elif choice == 3 and type(parent[key]) is int:
        parent[key] += int(rng.choice([-2, -1, 1, 2]))
    else:
        parent[key] = copy.deepcopy(STRANGE[int(rng.integers(len(STRANGE)))])
    return changed, known


def changed_array(values, rng):
    """An array of another size, shape or type."""
    axis = int(rng.integers(values.ndim))
    return [
        lambda: np.delete(values, -1, axis),
        lambda: np.concatenate([values, values], -1),
        lambda: values.astype(float) + 0.5,
        lambda: values[None],
        lambda: values.ravel() if values.ndim > 1 else values[:, None],
        lambda: values - 100,
        lambda: values.astype(np.int64) + 2**33 * (np.arange(values.size) == 0).reshape(values.shape),
        lambda: np.zeros((0,) * values.ndim, values.dtype),
    ][int(rng.integers(8))]()


def write_lines(path, contents):
    path.write_text("\n".join(json.dumps(each) for each in contents))


def write_torch(path, whole):
    """Write with torch.save, arrays as tensors."""
    import torch

    def tensors(value):
        if isinstance(value, dict):
            return {key: tensors(each) for key, each in value.items()}
        if isinstance(value, list):
            return [tensors(each) for each in value]
        return torch.from_numpy(np.ascontiguousarray(value)) if isinstance(value, np.ndarray) else value

    torch.save(tensors(whole), path)


def damaged_bytes(data, other, rng):
    """The bytes of a file with some flipped, cut, doubled, lost, or another file's in their place."""
    at, length = int(rng.integers(len(data))), int(rng.integers(1, 60))
    if (choice := int(rng.integers(6))) == 0:
        flipped = bytearray(data)
        for place in rng.integers(len(data), size=int(rng.integers(1, 4))):
            flipped[place] ^= 1 << int(rng.integers(8))
        return bytes(flipped)
    return [
        data[:at], data[at:], data[:at] + data[at + length :], data[: at + length] + data[at:],
        data[:at] + other[at : at + length] + data[at + length :],
    ][choice - 1]  # fmt: skip
