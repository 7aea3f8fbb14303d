"""The collector for transformers models: what it records is what ran, family by family."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

pytest.importorskip("transformers", reason="the collector for Hugging Face models needs transformers")

from moe_families import FAMILIES, built, expert_weights, switch_transformer

from moe_replay.collect.huggingface.collector import record_prompts
from moe_replay.collect.huggingface.generation import Plan
from moe_replay.collect.huggingface.prompts import NoTokenizer, Prompt, read_prompts
from moe_replay.collect.huggingface.routers import find_routers
from moe_replay.traces.errors import InputError
from moe_replay.traces.file.trace_file import load_trace
from moe_replay.traces.file.trace_writer import parts_folder

LENGTHS = (5, 9, 3, 7)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A file for the header's digest."""
    path = tmp_path_factory.mktemp("data") / "prompts.jsonl"
    path.write_text("{}")
    return path


def prompts(lengths=LENGTHS):
    draws = np.random.default_rng(0)
    return [Prompt(tuple(draws.integers(3, 64, length).tolist()), f"d{n % 2}", n) for n, length in enumerate(lengths)]


def recorded(model, tmp_path, data, name="model", lengths=LENGTHS, **plan):
    out = tmp_path / f"{len(list(tmp_path.iterdir()))}.trace.parquet"
    record_prompts(model, name, prompts(lengths), data, Plan(**{"batch": 3, "new_tokens": 0, **plan}), out)
    return load_trace(out)


@torch.no_grad()
def hidden_of(model, prompt):
    """The logits of every position of one prompt alone."""
    return model(torch.tensor([prompt.token_ids])).logits[0]


@pytest.mark.parametrize("family", FAMILIES)
def test_recorded_experts_are_exactly_those_whose_weights_took_part(family, tmp_path, data):
    """Changing an expert changes the logits of the tokens that recorded it, and of none before the first of them."""
    model = built(family)
    _, _, layers, shared, score_kind, ranked = FAMILIES[family]
    trace = recorded(model, tmp_path, data, family, lengths=(6,))
    header = trace.header
    assert (header.model.layer_ids, header.model.shared_experts) == (layers, shared)
    assert (header.score_kind, header.ranked, header.model.used_k, trace.E) == (score_kind, ranked, 2, 8)
    recorded_slots = 8 if ranked else 2
    assert recorded_slots == trace.K
    prompt = prompts((6,))[0]
    before = hidden_of(model, prompt)
    for layer, router in enumerate(find_routers(model)):
        for expert in range(8):
            ran_T = (trace.experts_TLK[:, layer, :2] == expert).any(1)
            weights = expert_weights(router.block, expert)
            kept = [each.clone() for each in weights]
            for each in weights:
                each.mul_(-3)
            change_T = (hidden_of(model, prompt) - before).abs().amax(1).numpy()
            for each, old in zip(weights, kept, strict=True):
                each.copy_(old)
            if not ran_T.any():
                assert (change_T == 0).all()  # to the bit
                continue
            assert (change_T[: ran_T.argmax()] < 1e-5).all()  # later layers' batches change, and with them rounding
            assert (change_T[ran_T] > 1e-3).all()


@pytest.mark.parametrize("family", ["mixtral", "qwen2-moe", "deepseek-v3", "gpt-oss", "llama4", "jamba"])
def test_padding_and_decode_record_what_a_prompt_alone_would(family, tmp_path, data):
    """Three prompts of different lengths side by side, decoded, against the whole texts one by one."""
    model = built(family)
    model.generation_config.eos_token_id = None
    trace = recorded(model, tmp_path, data, family, new_tokens=5)
    rows = sum(LENGTHS) + 4 * len(LENGTHS)
    assert rows == trace.T  # the token generated last has no row
    assert trace.prompt_len_S.tolist() == list(LENGTHS)
    assert trace.domain_S.tolist() == ["d0", "d1", "d0", "d1"]
    for sequence, prompt in enumerate(prompts()):
        own = trace.sequence_T == sequence
        text = tuple(trace.token_id_T[own].tolist())
        assert text[: len(prompt.token_ids)] == prompt.token_ids
        np.testing.assert_array_equal(trace.position_T[own], np.arange(own.sum()))
        np.testing.assert_array_equal(trace.phase_T[own], np.arange(own.sum()) >= len(prompt.token_ids))
        out = tmp_path / f"alone{sequence}.trace.parquet"
        record_prompts(model, family, [Prompt(text)], data, Plan(batch=1, new_tokens=0), out)
        alone = load_trace(out)
        np.testing.assert_array_equal(trace.experts_TLK[own][:, :, :2], alone.experts_TLK[:, :, :2])
        np.testing.assert_allclose(trace.scores_TLK[own], alone.scores_TLK, rtol=2e-3, atol=2e-4)
        np.testing.assert_allclose(trace.norm_TL[own], alone.norm_TL, rtol=1e-3)


def test_rows_of_sequences_that_ended_are_not_recorded(tmp_path, data):
    """The token a sequence draws at once is made its end: it is computed beside the others, but is no row."""
    model = built("mixtral")
    model.generation_config.eos_token_id = None
    free = recorded(model, tmp_path, data, new_tokens=6, lengths=(5, 9))
    decoded = [free.token_id_T[(free.sequence_T == s) & (free.phase_T == 1)].tolist() for s in (0, 1)]
    end = next(token for token in decoded[0] if token not in decoded[1])
    model.generation_config.eos_token_id = end
    trace = recorded(model, tmp_path, data, new_tokens=6, lengths=(5, 9))
    kept = [trace.token_id_T[(trace.sequence_T == s) & (trace.phase_T == 1)].tolist() for s in (0, 1)]
    assert kept == [decoded[0][: decoded[0].index(end)], decoded[1]]


def test_switch_transformer_records_dropped_tokens_as_empty(tmp_path, data):
    model = switch_transformer()
    trace = recorded(model, tmp_path, data, lengths=(12, 12), part="encoder")
    assert trace.header.model.layer_ids == (1, 3)
    dropped = trace.experts_TLK[:, :, 0] < 0
    assert dropped.any()
    for layer in range(2):
        for sequence in (0, 1):
            experts = trace.experts_TLK[trace.sequence_T == sequence, layer, 0]
            assert np.bincount(experts[experts >= 0]).max() <= 3
    decoder = recorded(model, tmp_path, data, lengths=(4, 4), part="decoder", new_tokens=3)
    assert (decoder.phase_T == 1).all()
    assert decoder.position_T.max() <= 2
    with pytest.raises(InputError, match="--part encoder or decoder is needed here"):
        recorded(model, tmp_path, data)


def test_an_interrupted_recording_keeps_its_finished_parts(tmp_path, data):
    model, out = built("mixtral"), tmp_path / "cut.trace.parquet"

    def cut(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        record_prompts(model, "m", prompts(), data, Plan(batch=2, new_tokens=0, flush_rows=4), out, cut)
    kept = load_trace(parts_folder(out))
    assert kept.prompt_len_S.tolist() == list(LENGTHS[:2])


def test_sampling_is_repeatable_and_candidates_are_checked(tmp_path, data):
    model = built("mixtral")
    first, again, other = (
        recorded(model, tmp_path, data, new_tokens=6, sample=True, seed=seed).digest for seed in (1, 1, 2)
    )
    assert first == again != other
    assert recorded(model, tmp_path, data, candidates=3).K == 3
    assert recorded(model, tmp_path, data, candidates="chosen").K == 2
    with pytest.raises(InputError, match=r"--candidates 9: allowed 2\.\.8"):
        recorded(model, tmp_path, data, candidates=9)
    with pytest.raises(InputError, match=r"--candidates 9: allowed 2\.\.8"):
        recorded(built("deepseek-v3"), tmp_path, data, candidates=9)
    with pytest.raises(InputError, match="--candidates all: experts have a capacity, so that some tokens get none"):
        recorded(switch_transformer(), tmp_path, data, part="encoder", candidates="all")


@pytest.mark.parametrize("family", [name for name, (*_, ranked) in FAMILIES.items() if not ranked])
def test_all_scores_of_a_router_that_ranks_by_something_else_are_behind_its_choice(family, tmp_path, data):
    """The chosen as without candidates; then the others, best score first, each with its own score."""
    model, seen = built(family), []
    layer = find_routers(model)[1]
    chosen, whole = (recorded(model, tmp_path, data, family, candidates=each) for each in ("chosen", "all"))
    assert (whole.header.ranked, whole.header.chosen_first, whole.K) == (False, True, 8)
    assert whole.at_k(2).digest == chosen.digest
    four, two = (recorded(model, tmp_path, data, family, candidates=each) for each in (4, 2))
    np.testing.assert_array_equal(four.experts_TLK, whole.experts_TLK[:, :, :4])
    assert two.digest == chosen.digest
    assert (np.sort(whole.experts_TLK, axis=2) == np.arange(8)).all()
    assert (np.diff(whole.scores_TLK[:, :, 2:], axis=2) <= 0).all()
    handle = layer.module.register_forward_hook(lambda _, __, output: seen.append(layer.choice(output).logits_NE))
    hidden_of(model, prompts()[0])
    handle.remove()
    score = torch.sigmoid if FAMILIES[family][4] == "sigmoid" else lambda logits: logits.softmax(1)
    by_expert = np.take_along_axis(whole.scores_TLK[:5, 1], np.argsort(whole.experts_TLK[:5, 1], axis=1), 1)
    np.testing.assert_allclose(by_expert, score(seen[0]).numpy(), rtol=1e-4)


def test_a_dense_model_and_prompts_that_do_not_fit_are_refused(tmp_path, data):
    import transformers

    dense = transformers.AutoModelForCausalLM.from_config(
        transformers.LlamaConfig(vocab_size=64, hidden_size=16, intermediate_size=16, num_hidden_layers=1,
                                 num_attention_heads=2)
    )  # fmt: skip
    with pytest.raises(InputError, match="LlamaForCausalLM: no MoE router that transformers knows of"):
        recorded(dense, tmp_path, data)
    model = built("mixtral")
    with pytest.raises(InputError, match="prompt 0: 60 tokens and 10 new ones, allowed 64"):
        recorded(model, tmp_path, data, lengths=(60,), new_tokens=10)
    with pytest.raises(InputError, match=r"prompt 0: token 64, allowed 0\.\.63"):
        record_prompts(model, "m", [Prompt((64,))], data, Plan(), tmp_path / "x.trace.parquet")


def collect(*words):
    command = [sys.executable, "-m", "collect", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True)


class Letters:
    """A tokenizer: one token per letter."""

    def __call__(self, text):
        return {"input_ids": [ord(letter) for letter in text]}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2: is no JSON"),
        ("[1]", "line 2: has none of text, prompt, messages, token_ids"),
        ('{"text": "a", "prompt": "b"}', "line 2: has text and prompt of"),
        ('{"text": "a", "tone": 1}', "line 2: unknown key 'tone'; known: text"),
        ('{"text": 3}', "line 2: text is 3, allowed text"),
        ('{"text": ""}', "line 2: text holds no tokens"),
        ('{"token_ids": [1, -1]}', "line 2: token_ids holds something else"),
        ('{"text": "a", "label": "x"}', "line 2: label is 'x', allowed a whole number"),
        ('{"messages": []}', "line 2: messages do not fit the model's chat template"),
    ],
)
def test_bad_prompts_are_refused_with_their_line(tmp_path, line, message):
    path = tmp_path / "p.jsonl"
    path.write_text('{"text": "good"}\n' + line + "\n")
    with pytest.raises(InputError, match=message):
        read_prompts(path, Letters(), None, None)


def test_prompts_are_read_cut_and_limited(tmp_path):
    path = tmp_path / "p.jsonl"
    lines = [{"text": "abc", "domain": "x", "label": 4}, {"token_ids": [5, 6]}, {"prompt": "z"}]
    path.write_text("\n\n".join(map(json.dumps, lines)))
    assert read_prompts(path, Letters(), 2, 2) == [Prompt((97, 98), "x", 4), Prompt((5, 6))]
    with pytest.raises(InputError, match=r"line 1: text: the model has no tokenizer \(gone\); allowed without one"):
        read_prompts(path, NoTokenizer("gone"), None, None)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model and its tokenizer on disk, as save_pretrained leaves them."""
    import tokenizers
    import transformers

    path = tmp_path_factory.mktemp("tiny-mixtral")
    built("mixtral").save_pretrained(path)
    words = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({w: n for n, w in enumerate("abcdefgh", 3)} | {"?": 0}, "?")
    )
    words.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    transformers.PreTrainedTokenizerFast(tokenizer_object=words, unk_token="?").save_pretrained(path)
    return path


def test_the_command_records_a_folder(folder, tmp_path):
    data, out = tmp_path / "p.jsonl", tmp_path / "x.trace.parquet"
    data.write_text('{"text": "a b c d", "domain": "x"}\n{"text": "h g"}\n{"token_ids": [9, 8, 7]}\n')
    said = collect("route", "--model", folder, "--data", data, "--out", out, "--max-new-tokens", 3, "--batch", 2)
    assert said.returncode == 0, said.stderr
    trace = load_trace(out)
    assert trace.token_id_T[trace.sequence_T == 0][:4].tolist() == [3, 4, 5, 6]
    assert trace.prompt_len_S.tolist() == [4, 2, 3]
    assert trace.header.model.name == folder.name
    assert trace.header.provenance["packages"]["transformers"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "--checkpoint or --model: exactly one of them is needed"),
        (["--model", "nowhere", "--checkpoint", "x.pt"], "exactly one of them is needed"),
        (["--model", "{empty}", "--data", "{data}"], "--model"),
        (["--model", "{model}", "--data", "absent.jsonl"], "absent.jsonl: cannot be read"),
        (["--model", "{model}", "--data", "{data}", "--k", "2"], "--k means nothing beside --model"),
        (["--model", "{model}", "--data", "{data}", "--dtype", "int3"], "unknown dtype 'int3'; known: auto"),
        (["--model", "{model}", "--data", "{data}", "--candidates", "few"], "--candidates few: allowed a number"),
        (
            ["--model", "{model}", "--data", "{data}", "--part", "decoder"],
            "--part decoder: the model has one part only",
        ),
    ],
)
def test_bad_calls_end_with_one_line_and_status_2(folder, tmp_path, options, message):
    data, empty = tmp_path / "p.jsonl", tmp_path / "empty"
    data.write_text('{"token_ids": [9, 8, 7]}\n')
    empty.mkdir()
    words = [word.format(model=folder, data=data, empty=empty) for word in options]
    said = collect("route", "--out", tmp_path / "x.trace.parquet", *words)
    assert said.returncode == 2
    *bar, line = said.stderr.strip().splitlines()
    assert message in line
    assert all(each.startswith("Loading weights") for each in bar)
