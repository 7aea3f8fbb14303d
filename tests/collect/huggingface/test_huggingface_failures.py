"""Whatever transformers or torch raises is one line that says what it said, and leaves nothing half-written."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

pytest.importorskip("transformers", reason="the collector for Hugging Face models needs transformers")

from moe_families import SIZES, built, randomised, switch_transformer

from moe_replay.collect.huggingface import collector
from moe_replay.collect.huggingface.collector import record_prompts
from moe_replay.collect.huggingface.generation import Plan
from moe_replay.collect.huggingface.model_loading import (
    NoTokenizer,
    load_model,
    load_tokenizer,
    one_line,
    told_in_one_line,
)
from moe_replay.collect.huggingface.prompts import Prompt, read_prompts
from moe_replay.collect.huggingface.routers import find_routers
from moe_replay.traces.errors import InputError
from moe_replay.traces.file.trace_file import load_trace
from moe_replay.traces.file.trace_writer import parts_folder

PROMPTS = [Prompt((5, 6, 7, 8, 9)), Prompt((20, 21)), Prompt((30, 31, 32, 33, 34, 35, 36))]


def record(model, tmp_path, prompts=PROMPTS, **plan):
    data, out = tmp_path / "prompts.jsonl", tmp_path / f"{len(list(tmp_path.iterdir()))}.trace.parquet"
    data.write_text("{}")
    record_prompts(model, "model", prompts, data, Plan(**{"batch": 2, "new_tokens": 0, **plan}), out)
    return load_trace(out)


def by_token(trace, values):
    return values[np.lexsort((trace.position_T, trace.sequence_T))]


@pytest.mark.parametrize("part", ["encoder", "decoder"])
def test_padding_takes_no_experts_capacity(tmp_path, part):
    """A Switch Transformer whose experts take three tokens of a sequence drops the same tokens in any batch."""
    model = switch_transformer()
    lengths = (9, 4, 7, 12)
    draws = np.random.default_rng(4)
    prompts = [Prompt(tuple(draws.integers(3, 64, length).tolist())) for length in lengths]
    alone = record(model, tmp_path, prompts, batch=1, part=part, new_tokens=3)
    assert ((alone.experts_TLK < 0).any()) == (part == "encoder")
    for batch in (2, 4):
        together = record(model, tmp_path, prompts, batch=batch, part=part, new_tokens=3)
        for name in ("experts_TLK", "token_id_T", "position_T"):
            np.testing.assert_array_equal(
                by_token(together, getattr(together, name)), by_token(alone, getattr(alone, name))
            )
        np.testing.assert_allclose(
            by_token(together, together.scores_TLK), by_token(alone, alone.scores_TLK), rtol=1e-3
        )


def test_padding_in_front_of_prompts_is_refused_where_experts_have_a_capacity(tmp_path, monkeypatch):
    model = built("mixtral")
    probe = collector.probe

    def with_capacity(*arguments):
        watch = probe(*arguments)
        watch.choices[:] = [choice._replace(may_drop=True) for choice in watch.choices]
        return watch

    monkeypatch.setattr(collector, "probe", with_capacity)
    with pytest.raises(InputError, match="padding in front of a prompt would take: allowed: --batch 1"):
        record(model, tmp_path)
    assert record(model, tmp_path, batch=1).T == 14
    assert record(model, tmp_path, PROMPTS[:1]).T == 5  # nothing to pad


def raising(error, after):
    """A hook that raises in the call of this number."""
    calls = []

    def hook(*_):
        calls.append(1)
        if len(calls) > after:
            raise error

    return hook


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("the cache\nhas no layers"), "ValueError: the cache has no layers"),
        (RuntimeError("CUDA error: " + "x " * 500), "RuntimeError: CUDA error: x x"),
        (KeyError("layers"), "KeyError: 'layers'"),
        (AssertionError(), "AssertionError"),
        (torch.OutOfMemoryError("tried to allocate 4 GiB"), "4 GiB; allowed: a smaller --batch, or another --device"),
    ],
    ids=["line break", "long", "key", "nothing said", "out of memory"],
)
@pytest.mark.parametrize("after", [0, 2, 5, 7], ids=["probe", "padding tried", "first batch", "its decoding"])
def test_an_error_while_the_model_runs_is_one_line_and_leaves_nothing(tmp_path, error, said, after):
    model = built("mixtral")
    model.register_forward_pre_hook(raising(error, after))
    with pytest.raises(InputError) as refused:
        record(model, tmp_path, new_tokens=4)
    line = str(refused.value)
    assert said in line
    assert line.startswith("running the model: " if after < 5 else "running prompts 0 to 1: ")
    assert line.isprintable()
    assert len(line) < 400
    assert [path.name for path in tmp_path.iterdir()] == ["prompts.jsonl"]


def test_an_error_in_a_later_batch_says_which_and_keeps_what_is_finished(tmp_path):
    model = built("mixtral")
    model.register_forward_pre_hook(raising(ValueError("no"), 4))
    with pytest.raises(InputError, match="running prompts 2 to 2: ValueError: no; 7 tokens of the prompts before"):
        record(model, tmp_path)
    assert load_trace(parts_folder(tmp_path / "0.trace.parquet")).T == 7


def test_an_error_in_a_router_is_one_line_too(tmp_path):
    model = built("mixtral")
    find_routers(model)[1].module.register_forward_pre_hook(raising(IndexError("expert 9"), 3))
    with pytest.raises(InputError, match="running prompts 0 to 1: IndexError: expert 9"):
        record(model, tmp_path)


def test_a_full_disk_is_no_error_of_the_model(tmp_path):
    model = built("mixtral")
    model.register_forward_pre_hook(raising(OSError("No space left on device"), 1))
    with pytest.raises(OSError, match="No space left"):
        record(model, tmp_path)


def test_what_this_project_refuses_stays_as_it_is():
    with pytest.raises(InputError, match=r"^as it is$"), told_in_one_line("place"):
        raise InputError("as it is")


def test_long_errors_are_cut_between_words():
    line = one_line(ValueError("word " * 200))
    assert line.startswith("ValueError: word word")
    assert line.endswith("word ...")
    assert len(line) < 330


def test_tokenizers_that_cannot_be_loaded_or_used_say_why(tmp_path):
    (tmp_path / "tokenizer.json").write_text("{")
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    found = load_tokenizer(str(tmp_path))
    assert isinstance(found, NoTokenizer)
    path = tmp_path / "p.jsonl"
    path.write_text('{"text": "a"}\n')
    with pytest.raises(InputError, match=r"line 1: text: the model has no tokenizer \(\w+"):
        read_prompts(path, found, None, None)

    def broken(text):
        raise RuntimeError("no such token")

    with pytest.raises(InputError, match=r"line 1: text does not fit the model's tokenizer \(no such token\)"):
        read_prompts(path, broken, None, None)


def vision_language():
    """A model that reads images beside text."""
    import transformers

    text = {**SIZES, "num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "head_dim": 8}
    text["rope_parameters"] = {"rope_type": "default", "mrope_section": [2, 1, 1], "rope_theta": 10000.0}
    vision = {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 32,
              "deepstack_visual_indexes": [0]}  # fmt: skip
    config = transformers.Qwen3VLMoeConfig(text_config=text, vision_config=vision)
    return randomised(transformers.AutoModelForImageTextToText.from_config(config))


def test_a_model_that_reads_images_too_records_prompts_of_text(tmp_path):
    model = vision_language()
    model.save_pretrained(tmp_path / "model")
    again = load_model(str(tmp_path / "model"), "float32", torch.device("cpu"))
    trace = record(again, tmp_path)
    assert (trace.T, trace.L, trace.E) == (14, 3, 8)
    np.testing.assert_array_equal(trace.experts_TLK, record(model, tmp_path).experts_TLK)


def test_a_model_without_a_class_for_text_is_named(tmp_path):
    import transformers

    config = transformers.ViTConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
    transformers.ViTModel(config).save_pretrained(tmp_path / "model")
    with pytest.raises(InputError, match="transformers has no model for ViTConfig among CausalLM, ImageTextToText"):
        load_model(str(tmp_path / "model"), "float32", torch.device("cpu"))


def test_the_command_ends_with_one_line_and_status_2(tmp_path):
    """A checkpoint whose settings fit its weights, but with which no token can be computed."""
    built("mixtral").save_pretrained(tmp_path / "model")
    settings = json.loads((tmp_path / "model" / "config.json").read_text())
    (tmp_path / "model" / "config.json").write_text(json.dumps({**settings, "num_attention_heads": 3}))
    (tmp_path / "p.jsonl").write_text('{"token_ids": [5, 6]}\n')
    words = ["route", "--model", "model", "--data", "p.jsonl", "--out", "x.trace.parquet"]
    environment = {"PYTHONPATH": str(collector.__file__).rsplit("/collect/", 1)[0], "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [sys.executable, "-m", "collect", *words], capture_output=True, text=True, cwd=tmp_path, env=environment
    )
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.strip().splitlines()[-1].startswith("collect: ")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "p.jsonl"]
