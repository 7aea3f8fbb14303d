"""Padding in front of a prompt must change nothing: where transformers lets it, batches are refused."""

import numpy as np
import pytest
import torch

pytest.importorskip("transformers", reason="the collector for Hugging Face models needs transformers")

from moe_families import LOCAL, SIZES, built, randomised

from moe_replay.collect.huggingface.collector import record_prompts
from moe_replay.collect.huggingface.generation import Plan
from moe_replay.collect.huggingface.padding import check_padding_changes_nothing
from moe_replay.collect.huggingface.prompts import Prompt
from moe_replay.collect.huggingface.routers import Choice, Router, find_routers
from moe_replay.traces.errors import InputError
from moe_replay.traces.file.trace_file import load_trace

PROMPTS = [Prompt((5, 6, 7, 8)), Prompt((20, 21)), Prompt((30, 31, 32, 33, 34, 35, 36))]


def record(model, tmp_path, prompts=PROMPTS, **plan):
    data, out = tmp_path / "prompts.jsonl", tmp_path / f"{len(list(tmp_path.iterdir()))}.trace.parquet"
    data.write_text("{}")
    record_prompts(model, "model", prompts, data, Plan(**{"batch": 3, "new_tokens": 3, **plan}), out)
    return load_trace(out)


def tiny(kind, **settings):
    import transformers

    config = getattr(transformers, kind)(**{**SIZES, **settings})
    return randomised(transformers.AutoModelForCausalLM.from_config(config))


def linear_attention():
    """A MiniMax of which two layers have linear attention, whose state takes in padding once it decodes."""
    return tiny(
        "MiniMaxConfig", **LOCAL, head_dim=8, layer_types=["linear_attention", "full_attention", "linear_attention"]
    )


def test_a_model_that_padding_changes_is_recorded_prompt_by_prompt(tmp_path):
    model = linear_attention()
    with pytest.raises(InputError, match="padding in front of a prompt changes what this model computes for what is"):
        record(model, tmp_path)
    alone = record(model, tmp_path, batch=1)
    assert record(model, tmp_path, new_tokens=0).T == 13  # prompts alone are as they should be
    same_length = [Prompt(prompt.token_ids[:2]) for prompt in PROMPTS]
    together, one_by_one = (record(model, tmp_path, same_length, batch=batch) for batch in (3, 1))
    order = np.lexsort((together.position_T, together.sequence_T))
    np.testing.assert_array_equal(together.experts_TLK[order], one_by_one.experts_TLK)
    assert alone.T > 13


@pytest.mark.parametrize(("kind", "dtype"), [("mixtral", torch.bfloat16), ("deepseek-v3", torch.float32)])
def test_rounding_is_no_change(tmp_path, kind, dtype):
    assert record(built(kind).to(dtype), tmp_path).T > 13


def test_a_model_that_does_not_mask_padding_is_refused_for_prompts(tmp_path):
    model = built("mixtral")

    def without_mask(module, positional, named):
        return positional, {**named, "attention_mask": None}

    model.model.register_forward_pre_hook(without_mask, with_kwargs=True)
    with pytest.raises(InputError, match=r"changes what this model computes for a prompt \(router logits by"):
        record(model, tmp_path)
    assert record(model, tmp_path, PROMPTS[:1]).T > 4


def test_what_is_tried_is_half_a_prompt_beside_the_whole():
    routers, runs = find_routers(built("mixtral")), []

    def run(prompts):
        runs.append([len(prompt.token_ids) for prompt in prompts])
        for router in routers:
            router.module(torch.ones(len(prompts) * max(runs[-1]), 32))
        return torch.zeros(len(prompts), max(runs[-1]) + 1)

    check_padding_changes_nothing(routers, [Prompt((1, 2)), Prompt(tuple(range(40)))], run)
    assert runs == [[8], [8, 16]]


def test_a_router_that_leaves_padding_out_is_refused(tmp_path, monkeypatch):
    model, read = built("mixtral"), Router.choice

    def without_the_first(router, output):
        choice = read(router, output)
        return Choice(*(each[1:] for each in choice[:3]))

    monkeypatch.setattr(Router, "choice", without_the_first)
    with pytest.raises(InputError, match="decided for 3 tokens, allowed: all 4 of a forward call, padding too"):
        record(model, tmp_path, PROMPTS[:1], batch=1)


def test_shared_experts_are_read_under_their_other_names(tmp_path):
    model = tiny("AriaTextConfig", moe_num_experts=8, moe_topk=2, moe_num_shared_experts=2)
    assert record(model, tmp_path).header.model.shared_experts == 2


@pytest.mark.parametrize("batch", [1, 3])
def test_a_router_that_decides_on_nan_is_refused(tmp_path, batch):
    model = built("mixtral")
    find_routers(model)[1].module.weight.data[3] = float("nan")
    with pytest.raises(
        InputError, match=r"layers\.1\.mlp\.gate has logits that are NaN, allowed: finite weights, a wider"
    ):
        record(model, tmp_path, batch=batch)
