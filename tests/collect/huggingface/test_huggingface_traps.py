"""Where a recording of a transformers model could be wrong and look right: odd routers, settings and checkpoints."""

import json
import shutil

import numpy as np
import pytest
import torch

pytest.importorskip("transformers", reason="the collector for Hugging Face models needs transformers")

from moe_families import FAMILIES, SIZES, built, expert_weights, randomised

from moe_replay.collect.huggingface import routers
from moe_replay.collect.huggingface.collector import record_prompts
from moe_replay.collect.huggingface.generation import Plan
from moe_replay.collect.huggingface.model_header import zero_experts
from moe_replay.collect.huggingface.model_loading import load_model
from moe_replay.collect.huggingface.prompts import Prompt, read_prompts
from moe_replay.traces.errors import InputError
from moe_replay.traces.file.trace_file import load_trace

PROMPTS = [Prompt((5, 6, 7, 8, 9, 10, 11, 12)), Prompt((20, 21, 22))]
WHOLE = ("full_attention",) * 3
ODD = {
    "gemma4": (
        "Gemma4TextConfig",
        {**SIZES, "num_experts": 8, "top_k_experts": 2, "moe_intermediate_size": 16, "enable_moe_block": True,
         "head_dim": 8, "global_head_dim": 8, "layer_types": list(WHOLE), "hidden_size_per_layer_input": 0,
         "vocab_size_per_layer_input": 64, "num_kv_shared_layers": 0},
    ),
    "deepseek-v4": (
        "DeepseekV4Config",
        {**SIZES, "num_key_value_heads": 1, "head_dim": 8, "n_routed_experts": 8, "num_experts_per_tok": 2,
         "moe_intermediate_size": 16, "mlp_layer_types": ["hash_moe", "moe", "moe"],
         "layer_types": ["sliding_attention"] * 3, "q_lora_rank": 8, "o_lora_rank": 8, "o_groups": 2,
         "qk_rope_head_dim": 4, "sliding_window": 32},
    ),
    "granite-shared": (
        "GraniteMoeSharedConfig",
        {**SIZES, "num_local_experts": 8, "num_experts_per_tok": 2, "shared_intermediate_size": 16},
    ),
    "longcat": (
        "LongcatFlashConfig",
        {"vocab_size": 64, "hidden_size": 32, "num_layers": 2, "num_hidden_layers": 4, "num_attention_heads": 4,
         "ffn_hidden_size": 24, "q_lora_rank": 8, "kv_lora_rank": 8, "qk_nope_head_dim": 8, "qk_rope_head_dim": 8,
         "head_dim": 8, "v_head_dim": 8, "qk_head_dim": 16, "moe_topk": 2, "n_routed_experts": 8, "zero_expert_num": 2,
         "expert_ffn_hidden_size": 16, "max_position_embeddings": 64},
    ),
}  # fmt: skip


def odd(family):
    """A tiny model of one of the odd families; a table of experts by token, where it has one, is drawn."""
    import transformers

    kind, settings = ODD[family]
    model = randomised(transformers.AutoModelForCausalLM.from_config(getattr(transformers, kind)(**settings)))
    draws = torch.Generator().manual_seed(1)
    for name, table in model.named_buffers():
        if "tid2eid" in name:
            table.copy_(torch.stack([torch.randperm(8, generator=draws)[:2] for _ in table]))
    model.generation_config.eos_token_id = None
    return model


@pytest.fixture
def recorded(tmp_path):
    """A function that records prompts and returns the trace."""
    data = tmp_path / "prompts.jsonl"
    data.write_text("{}")

    def record(model, prompts=PROMPTS, **plan):
        out = tmp_path / f"{len(list(tmp_path.iterdir()))}.trace.parquet"
        record_prompts(model, "model", prompts, data, Plan(**{"new_tokens": 0, **plan}), out)
        return load_trace(out)

    return record


@torch.no_grad()
def check_took_part(run, blocks, trace, experts):
    """Change each expert: the output of tokens that recorded it changes; of one never recorded, none does."""
    before = run()
    for layer, block in enumerate(blocks):
        for expert in range(experts):
            ran_T = (trace.experts_TLK[:, layer, : trace.header.model.used_k] == expert).any(1)
            weights = expert_weights(block, expert)
            kept = [each.clone() for each in weights]
            for each in weights:
                each.mul_(-3)
            changed_T = (run() != before).any(1).numpy()
            for each, old in zip(weights, kept, strict=True):
                each.copy_(old)
            assert changed_T[ran_T].all(), (layer, expert)
            assert ran_T.any() or not changed_T.any(), (layer, expert)


def blocks_of(model, part=None):
    return [router.block for router in routers.find_routers(model, part)]


@pytest.mark.parametrize(
    ("family", "kind", "layers", "shared", "expert_bytes"),
    [
        ("gemma4", "softmax", (0, 1, 2), 0, 3 * 32 * 16 * 4),
        ("deepseek-v4", "logit", (0, 1, 2), 1, 3 * 32 * 24 * 4),
        ("granite-shared", "softmax", (0, 1, 2), 1, 3 * 32 * 24 * 4),
        ("longcat", "softmax", (0, 1), 0, 3 * 32 * 16 * 4),
    ],
)
def test_odd_routers_are_read_for_what_they_decide(recorded, family, kind, layers, shared, expert_bytes):
    """Gemma 4 gives probabilities, DeepSeek-V4 hashes tokens, Granite shares outside its block, LongCat has no-ops."""
    model = odd(family)
    trace = recorded(model, PROMPTS[:1])
    about = trace.header.model
    assert (trace.header.score_kind, about.layer_ids, about.used_k) == (kind, layers, 2)
    assert (about.shared_experts, about.expert_bytes) == (shared, expert_bytes)
    assert (about.experts, about.zero_experts) == ((10, 2) if family == "longcat" else (8, 0))
    token_ids = torch.tensor([PROMPTS[0].token_ids])
    check_took_part(lambda: model(token_ids).logits[0], blocks_of(model), trace, 8)


def block_of(*experts):
    """A MoE block whose experts are modules of their own."""
    block = torch.nn.Module()
    block.experts = torch.nn.ModuleList(experts)
    return block


def test_experts_without_weights_are_counted_where_they_are_modules_too():
    real, nothing = torch.nn.Linear(2, 2), torch.nn.Identity()
    assert zero_experts(block_of(real, real, real), 3) == 0
    assert zero_experts(block_of(real, real, nothing), 3) == 1
    with pytest.raises(InputError, match="expert 0 has no weights but later ones do, allowed: the last ones only"):
        zero_experts(block_of(nothing, real, real), 3)


def test_probabilities_in_the_place_of_logits_are_recorded_as_they_are(recorded):
    """Taking their softmax once more, or calling them logits, would flatten every later re-gating."""
    model, seen = odd("gemma4"), []
    router = routers.find_routers(model)[1].module
    trace = recorded(model, PROMPTS[:1])
    with torch.no_grad():
        handle = router.register_forward_hook(lambda _, __, output: seen.append(output[0]))
        model(torch.tensor([PROMPTS[0].token_ids]))
        handle.remove()
    expected = seen[0].sort(dim=1, descending=True).values.numpy()
    np.testing.assert_allclose(trace.scores_TLK[:, 1], expected, rtol=1e-4)


def test_a_hash_router_follows_its_table(recorded):
    model = odd("deepseek-v4")
    trace = recorded(model)
    table = next(buffer for name, buffer in model.named_buffers() if "tid2eid" in name).numpy()
    assert not trace.header.ranked
    np.testing.assert_array_equal(np.sort(trace.experts_TLK[:, 0]), np.sort(table[trace.token_id_T]))


def test_a_router_of_unknown_form_and_a_block_without_one_are_refused(recorded, monkeypatch):
    forms = routers.FORMS
    monkeypatch.setattr(routers, "FORMS", ())
    with pytest.raises(InputError, match=r"MixtralTopKRouter\) returns .*float.*int64.*: a form that is not known"):
        recorded(built("mixtral"))
    monkeypatch.setattr(routers, "FORMS", forms)
    monkeypatch.setattr(routers, "UNDECLARED", ())
    with pytest.raises(InputError, match=r"layers\.0\.mlp .*its experts have no router that is known"):
        recorded(odd("deepseek-v4"))


def test_one_token_is_enough_to_tell_sigmoid_from_softmax(recorded):
    """With K = 1 and one token any score is proportional to the weight."""
    import transformers

    settings = {**SIZES, **FAMILIES["llama4"][1], "num_experts_per_tok": 1}
    model = randomised(transformers.AutoModelForCausalLM.from_config(transformers.Llama4TextConfig(**settings)))
    assert recorded(model, [Prompt((5,))]).header.score_kind == "sigmoid"


@pytest.mark.parametrize("setting", [{"use_cache": False}, {"prompt_lookup_num_tokens": 3}])
def test_a_models_own_settings_do_not_change_what_a_row_is(recorded, setting):
    """Without a cache every call computes all tokens again; drafted tokens are computed and thrown away."""
    model = built("mixtral")
    model.generation_config.eos_token_id = None
    prompt = [Prompt((9, 8, 9, 8, 9, 8, 9, 8))]  # repeats itself, so that there is something to draft
    plain = recorded(model, prompt, new_tokens=4)
    for name, value in setting.items():
        setattr(model.generation_config, name, value)
    assert recorded(model, prompt, new_tokens=4).digest == plain.digest
    assert plain.position_T.tolist() == list(range(8 + 3))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A checkpoint as save_pretrained leaves it."""
    path = tmp_path_factory.mktemp("checkpoint")
    built("mixtral").save_pretrained(path)
    return path


def without(word):
    """Returns a function that takes the weights whose name holds a word out of a checkpoint."""

    def change(path):
        from safetensors import torch as files

        weights = files.load_file(path / "model.safetensors")
        kept = {name: each for name, each in weights.items() if word not in name}
        assert len(kept) < len(weights)
        files.save_file(kept, path / "model.safetensors", metadata={"format": "pt"})

    return change


def cut_short(path):
    whole = (path / "model.safetensors").read_bytes()
    (path / "model.safetensors").write_bytes(whole[:5000])


def with_setting(**changed):
    """Returns a function that changes a checkpoint's configuration."""

    def change(path):
        settings = json.loads((path / "config.json").read_text())
        (path / "config.json").write_text(json.dumps({**settings, **changed}))

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("gate.weight"), r"lacks the weights model\.layers\.0\.mlp\.gate\.weight \(3 such\)"),
        (without("experts"), r"lacks the weights model\.layers\.0\.mlp\.experts"),
        (cut_short, "Error while deserializing header"),
        (with_setting(num_local_experts="eight"), "expected int, got str"),
        (with_setting(model_type="nothing"), "does not recognize this architecture"),
        (with_setting(model_type="nothing", auto_map={"AutoConfig": "own.Config"}), "contains custom code"),
    ],
    ids=["no-routers", "no-experts", "cut-short", "wrong-type", "unknown-model", "own-code"],
)
def test_damaged_checkpoints_are_refused_and_nothing_is_drawn_at_random(folder, tmp_path, change, message):
    path = tmp_path / "changed"
    shutil.copytree(folder, path)
    change(path)
    with pytest.raises(InputError, match=message):
        load_model(str(path), "float32", torch.device("cpu"))


class Letters:
    """A tokenizer: one token per letter."""

    def __call__(self, text):
        return {"input_ids": [ord(letter) for letter in text]}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("[" * 200_000, "line 1: is no JSON"),
        (f'{{"token_ids": [{"9" * 5000}]}}', "line 1: is no JSON"),
        ('{"text": "\\ud800"}', "line 1: is no JSON"),
        ('{"text": "a", "label": 2147483648}', r"line 1: label is 2147483648, allowed a whole number 0\.\.2147483647"),
    ],
    ids=["deep", "endless", "half-a-pair", "label"],
)
def test_lines_that_python_stumbles_over_are_refused(tmp_path, line, message):
    path = tmp_path / "p.jsonl"
    path.write_text(line + "\n")
    with pytest.raises(InputError, match=message):
        read_prompts(path, Letters(), None, None)


def test_separators_within_a_string_are_text(tmp_path):
    """JSON allows U+2028, U+0085 and others unescaped; a byte order mark and Windows line ends are no text."""
    path = tmp_path / "p.jsonl"
    path.write_bytes('\ufeff{"text": "a\u2028b"}\r\n{"text": "c\u0085"}\r\n'.encode())
    tokens = [prompt.token_ids for prompt in read_prompts(path, Letters(), None, None)]
    assert tokens == [(97, 0x2028, 98), (99, 0x85)]
