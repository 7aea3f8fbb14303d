"""`python -m traces import`, one command per source as a user types it; `check` and `describe` take what it made."""

import base64
import io
import json
import shlex
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from importing import imported, selections

from moe_replay.traces.errors import InputError
from moe_replay.traces.importers.importer_names import KINDS

ROOT = Path(__file__).resolve().parents[3]


def npz(rng):
    np.savez("mine.npz", experts=selections(rng, 9, 2, 2, 64), offsets=[0, 4, 9])


def routed(rng):
    rows = selections(rng, 6, 3, 2, 64)
    rows[:, 0] = 0
    return rows


def vllm(rng):
    buffer = io.BytesIO()
    np.save(buffer, routed(rng))
    choice = {"routed_experts": base64.b64encode(buffer.getvalue()).decode()}
    usage = {"prompt_tokens": 4, "completion_tokens": 3}
    Path("responses.jsonl").write_text(json.dumps({"choices": [choice], "usage": usage}))


def sglang(rng):
    text = base64.b64encode(routed(rng).astype(np.int32).tobytes()).decode()
    meta = {"routed_experts": text, "prompt_tokens": 4, "completion_tokens": 3}
    Path("responses.jsonl").write_text(json.dumps({"meta_info": meta}))


def flame_moe(rng):
    folder = Path("actives/iter_100")
    folder.mkdir(parents=True)
    for layer in (2, 3):
        scores = np.sort(rng.dirichlet(np.ones(64), 8))[:, :-7:-1].astype(np.float16)
        indices = selections(rng, 8, 1, 6, 64, np.int16)[:, 0]
        columns = {"scores": pa.array(list(scores)), "indices": pa.array(list(indices))}
        pq.write_table(pa.table(columns), folder / f"layer_{layer:02d}.parquet")


def smartmoe(rng):
    Path("moe_trace").mkdir()
    for rank in (0, 1):
        rows = [f"{layer}:{rng.multinomial(40, [0.25] * 4, 2).astype(float).tolist()}" for layer in (0, 1)]
        Path(f"moe_trace/table_iter1_rank{rank}.log").write_text("\n".join(rows))


def tensorrt_llm(rng):
    Path("statistics").mkdir()
    Path("statistics/meta_info.json").write_text('{"num_experts": 4, "num_experts_per_token": 2}')
    header = json.dumps({"7_3": {"dtype": "I32", "shape": [4], "data_offsets": [0, 16]}}).encode()
    content = len(header).to_bytes(8, "little") + header + rng.multinomial(40, [0.25] * 4).astype("<i4").tobytes()
    Path("statistics/rank0.safetensors").write_bytes(content)


def sglang_recorder(rng):
    torch = pytest.importorskip("torch")
    counts = np.zeros((2, 3, 8), np.int32)
    counts[:, 1:] = rng.multinomial(40, [1 / 8] * 8, (2, 2))
    torch.save({"rank": 0, "logical_count": torch.tensor(counts)}, "expert_distribution_recorder_1.pt")


def eplb(rng):
    counts = rng.multinomial(40, [1 / 8] * 8, 2)
    np.savez("weight.npz", weight=counts.astype(np.float32), layer_ids=[1, 2])


def table(rng):
    """The example of a row per token and layer: names of columns are known."""
    rows = selections(rng, 9, 2, 2, 64)
    lines = [
        json.dumps({"req_id": f"r{t // 5}", "token_idx": t % 5 if t < 5 else t - 5, "layer": layer,
                    "topk_ids": rows[t, at].tolist(), "topk_weights": [0.5, 0.25]})
        for t in range(9) for at, layer in enumerate((8, 12))
    ]  # fmt: skip
    Path("moe_routes.jsonl").write_text("\n".join(lines))


def counts(rng):
    for rank in (0, 1):
        rows = [f"{n},{e},{c}" for n in (3, 4) for e, c in enumerate(rng.multinomial(40, [1 / 16] * 16)) if c]
        Path(f"counts_rank{rank}.csv").write_text("\n".join(["layer_id,expert_id,count", *rows]))


def llama_cpp(rng):
    rows = selections(rng, 6, 2, 2, 64)
    blocks = [rows[:4, layer] for layer in (0, 1)] + [rows[t, layer] for t in (4, 5) for layer in (0, 1)]
    lines = [f"{at % 2},{expert}" for at, block in enumerate(blocks) for expert in block.ravel()]
    Path("moe_trace.csv").write_text("\n".join(["layer,expert", *lines]))


def megatron(rng):
    loads = rng.multinomial(40, [1 / 8] * 8, (2, 3)).astype(np.int32)
    numbers = {"ep_rank": 0, "ep_size": 1, "global_rank": 0, "num_global_physical_experts": 8}
    np.savez(
        "mcore_ep_loads_rank0_1.npz", dump_version="mcore_ep_load_dump_v1", loads=loads, layer_numbers=[1, 2],
        forward_counts=[3, 3], ep_group_ranks=[0], **numbers,
    )  # fmt: skip


def slime(rng):
    torch = pytest.importorskip("torch")
    rows = selections(rng, 6, 2, 2, 64, np.int32)
    sample = {"tokens": list(range(7)), "response_length": 3, "rollout_routed_experts": rows}
    torch.save({"rollout_id": 3, "samples": [sample]}, "rollout_3.pt")


def verl(rng):
    torch = pytest.importorskip("torch")
    rows = torch.tensor(selections(rng, 12, 2, 2, 64, np.int64).reshape(2, 6, 2, 2))
    rows[:, -1] = 0
    parts = {"routed_experts": rows, "attention_mask": torch.ones(2, 6), "responses": torch.zeros(2, 3)}
    torch.save(parts, "batch.pt")


# What README says, kind by kind, and what makes the files of its line.
COMMANDS = {
    "npz": (npz, "import npz mine.npz --experts 64 --phase prefill --out x.trace.parquet"),
    "vllm": (vllm, "import vllm responses.jsonl --experts 64 --layers 1-2 --out x.trace.parquet"),
    "sglang": (
        sglang,
        "import sglang responses.jsonl --experts 64 --k 2 --hidden-layers 3 --layers 1-2 --out x.trace.parquet",
    ),
    "flame-moe": (
        flame_moe,
        "import flame-moe actives/iter_100 --sequence-tokens 4 --score-kind softmax --ranked --out x.trace.parquet",
    ),
    "smartmoe": (smartmoe, "import smartmoe moe_trace --out x.loads.parquet"),
    "tensorrt-llm": (tensorrt_llm, "import tensorrt-llm statistics --out x.loads.parquet"),
    "sglang-recorder": (
        sglang_recorder,
        "import sglang-recorder expert_distribution_recorder_1.pt --experts 8 --k 2 --layers 1-2 --out x.loads.parquet",
    ),
    "eplb": (eplb, "import eplb weight.npz --k 2 --out x.loads.parquet"),
    "table": (
        table,
        "import table moe_routes.jsonl --experts 64 --phase prefill --score-kind sigmoid --out x.trace.parquet",
    ),
    "counts": (counts, "import counts counts_rank0.csv counts_rank1.csv --experts 16 --k 2 --out x.loads.parquet"),
    "llama-cpp": (llama_cpp, "import llama-cpp moe_trace.csv --experts 64 --k 2 --out x.trace.parquet"),
    "megatron": (megatron, "import megatron mcore_ep_loads_rank0_1.npz --k 2 --out x.loads.parquet"),
    "slime": (slime, "import slime rollout_3.pt --experts 64 --out x.trace.parquet"),
    "verl": (verl, "import verl batch.pt --experts 64 --out x.trace.parquet"),
}


def test_every_kind_has_its_command():
    assert list(COMMANDS) == list(KINDS)


@pytest.mark.parametrize("kind", COMMANDS)
def test_guess_names_the_kind_and_its_command(traces, rng, kind):
    make, words = COMMANDS[kind]
    make(rng)
    values = shlex.split(words)
    files = values[2 : values.index(next(value for value in values if value.startswith("--")))]
    status, printed, errors = traces(f"import --guess {' '.join(files)}")
    assert (status, errors) == (0, "")
    assert printed.startswith(f"{files[0]}: {kind}: ")
    command = printed.splitlines()[1]
    assert f"import {kind} {' '.join(files)} " in command
    named = dict(pairwise(values))
    filled = " ".join(
        named.get(before, word) if word.isupper() and before.startswith("--") else word
        for before, word in pairwise(["", *command.split()[3:]])
    )
    assert traces(filled)[0] == 0  # what it prints, with the capitals filled in, imports the file


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "empty, so nothing tells what it is"),
        (b"name,age\nx,1\n", "csv with name, age: nothing tells which kind it is"),
        (b'{"timestamp": 0, "input_length": 1, "output_length": 1}\n', "a log of requests: see `traces arrivals`"),
        (b"PK\x03\x04nothing", "begins like a zip file, but is not whole"),
        (b"PAR1nothing", "not a whole Parquet file"),
        (b'{"a": ', "begins like JSON, but is not whole"),
    ],
)
def test_guess_says_where_nothing_tells(traces, content, says):
    Path("x.dat").write_bytes(content)
    status, printed, errors = traces("import --guess x.dat")
    assert (status, printed, errors.count("\n")) == (2, "", 1)
    assert says in errors
    assert traces("import --guess absent")[0] == 2


@pytest.mark.parametrize("kind", COMMANDS)
def test_what_is_imported_is_checked_and_described(traces, rng, kind):
    make, words = COMMANDS[kind]
    make(rng)
    status, printed, errors = traces(f"{words} --model mine")
    assert (status, errors) == (0, "")
    out = words.split()[-1]
    assert printed.startswith(f"{out}: ")
    status, checked, errors = traces(f"check {out}")
    assert (status, errors) == (0, "")
    assert checked.split("digest ")[1].split()[0] == printed.split("digest ")[1].split()[0]
    status, described, errors = traces(f"describe {out}")
    assert (status, errors) == (0, "")
    assert "mine: " in described
    assert f"imported from {kind}" in " ".join(described.split())


def test_the_same_command_makes_the_same_bytes(traces, rng):
    npz(rng)
    assert traces(COMMANDS["npz"][1])[0] == 0
    written = Path("x.trace.parquet").read_bytes()
    assert traces(COMMANDS["npz"][1])[0] == 0
    assert Path("x.trace.parquet").read_bytes() == written


FILES = {
    "npz": "mine.npz",
    "vllm": "responses.jsonl",
    "sglang": "responses.jsonl",
    "flame-moe": "actives/iter_100/layer_03.parquet",
    "smartmoe": "moe_trace/table_iter1_rank1.log",
    "tensorrt-llm": "statistics/rank0.safetensors",
    "sglang-recorder": "expert_distribution_recorder_1.pt",
    "eplb": "weight.npz",
    "table": "moe_routes.jsonl",
    "counts": "counts_rank1.csv",
    "llama-cpp": "moe_trace.csv",
    "megatron": "mcore_ep_loads_rank0_1.npz",
    "slime": "rollout_3.pt",
    "verl": "batch.pt",
}


@pytest.mark.parametrize("kind", COMMANDS)
def test_damaged_files_end_in_a_line_or_in_a_trace(tmp_path, monkeypatch, rng, kind):
    """These formats have few checksums, so that damage may go unseen; it never ends in a traceback."""
    monkeypatch.chdir(tmp_path)
    make, words = COMMANDS[kind]
    make(rng)
    values = shlex.split(words)
    named = {name[2:].replace("-", "_"): value for name, value in pairwise(values) if name.startswith("--")}
    options = {name: int(value) if value.isdecimal() else value for name, value in named.items() if name != "out"}
    path = Path(FILES[kind])
    sources = [Path(value) for value in values[2 : values.index(next(v for v in values if v.startswith("--")))]]
    whole, refused = path.read_bytes(), 0
    for at in rng.integers(len(whole), size=150).tolist():
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << int(rng.integers(8))]) + whole[at + 1 :])
        try:
            imported(kind, *sources, **options | {"ranked": None})
        except InputError as error:
            refused += str(error).isprintable()
    assert refused > 20


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("import npx mine.npz --out x", "unknown kind 'npx'; known: npz, vllm, sglang"),
        ("import npz mine.npz --out x", "npz: needed: --experts"),
        ("import npz mine.npz --experts 5 --phase prefill --out x", "mine.npz: experts: row"),
        ("import npz absent.npz --experts 64 --phase prefill --out x", "absent.npz: no such file"),
        ("import npz mine.npz --experts 64", "--out"),
        ("import npz", "Missing argument"),
    ],
)
def test_refusals_are_one_line_and_leave_no_file(traces, rng, words, says):
    npz(rng)
    status, printed, errors = traces(words)
    assert (status, printed, errors.count("\n")) == (2, "", 1)
    assert errors.startswith("traces: ")
    assert says in errors
    assert not Path("x").exists()


def test_a_load_trace_has_no_k_and_is_no_trace(traces, rng):
    smartmoe(rng)
    traces(COMMANDS["smartmoe"][1])
    assert "holds counts only, --k is allowed for traces of tokens" in traces("describe x.loads.parquet --k 1")[2]
    assert "holds 'loads', expected 'trace'" in traces("regate x.loads.parquet --k 1 --out y")[2]
