"""The language model: windows and cache agree, training resumes, served traces hold what was computed."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from cut_off import CutOffError, cut_off_at

from moe_replay.collect.datasets.text_corpus import SEPARATOR, Corpus, Domain
from moe_replay.collect.datasets.text_sources import Document
from moe_replay.collect.models.language_model import Cache, LanguageConfig, LanguageModel, Rows
from moe_replay.collect.recording.continuous_batching import Request, draw_requests, serve
from moe_replay.collect.recording.language_recording import Recorder, language_header, record_decode, record_prefill
from moe_replay.collect.recording.score_rounding import rounded
from moe_replay.collect.studies.language_quality import measure_bits
from moe_replay.collect.training.language_training import LanguageTraining, restore_language, train_language
from moe_replay.traces.errors import InputError
from moe_replay.traces.file.trace_file import load_trace
from moe_replay.traces.file.trace_writer import parts_folder

CONFIG = LanguageConfig(layers=3, experts=6, k=2, width=16, hidden=8, heads=2, window=32)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def corpus():
    """Two domains with letters of their own."""
    draws = np.random.default_rng(0)

    def documents(name, letters, count):
        return tuple(Document(f"{name}{n}", bytes(draws.choice(list(letters), 60).tolist())) for n in range(count))

    return Corpus(
        tuple(Domain(name, documents(name, text, 40), documents(f"{name}-", text, 20))
              for name, text in (("vowels", b"aeiou"), ("digits", b"0123456789"))), {},
    )  # fmt: skip


@pytest.fixture(scope="module")
def model():
    return LanguageModel(CONFIG, 3).eval()


def some_bytes(count, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).integers(1, 256, count))


@torch.inference_mode()
def test_windows_side_by_side_equal_windows_alone(model):
    both = some_bytes(2 * 20)
    together, _ = model(both, 2)
    alone = torch.cat([model(part)[0] for part in both.split(20)])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)


@torch.inference_mode()
def test_a_byte_never_sees_what_follows(model):
    text = some_bytes(20)
    changed = text.clone()
    changed[12:] = some_bytes(8, seed=1)
    torch.testing.assert_close(model(text)[0][:12], model(changed)[0][:12], atol=1e-5, rtol=1e-5)
    assert (model(text)[0][12:] - model(changed)[0][12:]).abs().max() > 1e-3


@torch.inference_mode()
@pytest.mark.parametrize("cuts", [[20], [1] * 20, [7, 1, 1, 11], [3, 17]])
def test_the_cache_gives_what_one_pass_gives(model, cuts):
    """Two sequences, one shifted by 5 bytes against the other, in pieces of any size."""
    first, second = some_bytes(20), some_bytes(25, seed=1)
    cache, outputs = Cache(CONFIG, 2, CPU), {0: [], 1: []}
    head, _ = model(second[:5], rows=Rows(cache, [(1, 0, 5)]))
    outputs[1].append(head)
    start = 0
    for count in cuts:
        rows = Rows(cache, [(0, start, count), (1, start + 5, count)])
        logits, _ = model(torch.cat([first[start : start + count], second[start + 5 : start + 5 + count]]), rows=rows)
        outputs[0].append(logits[:count])
        outputs[1].append(logits[count:])
        start += count
    torch.testing.assert_close(torch.cat(outputs[0]), model(first)[0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(torch.cat(outputs[1]), model(second)[0], atol=1e-5, rtol=1e-5)


@torch.inference_mode()
def test_recording_changes_nothing_and_names_the_experts_that_ran(model):
    text, recorder = some_bytes(24), Recorder(model, 6)
    plain = model(text)[0]
    torch.testing.assert_close(model(text, select=recorder)[0], plain, atol=1e-6, rtol=1e-5)
    experts_TLK = recorder.take()["experts_TLK"][:, :, : CONFIG.k]
    layer = CONFIG.layers - 1
    with torch.no_grad():
        for expert in range(CONFIG.experts):
            kept = model.experts[layer].b2_EO[expert].clone()
            model.experts[layer].b2_EO[expert] += 10
            touched = (model(text)[0] - plain).abs().amax(1).numpy() > 1e-3
            model.experts[layer].b2_EO[expert] = kept
            np.testing.assert_array_equal(touched, (experts_TLK[:, layer] == expert).any(1))


def test_training_that_was_cut_off_resumes_to_the_same_bytes(corpus, tmp_path):
    plan = LanguageTraining(steps=6, batch=4)
    whole, _ = train_language(corpus, CONFIG, plan, CPU, tmp_path / "whole.pt", every_s=0)
    with pytest.raises(CutOffError):
        train_language(corpus, CONFIG, plan, CPU, tmp_path / "cut.pt", every_s=0, on_step=cut_off_at(4))
    with pytest.raises(InputError, match="3 of 6 steps are done"):
        restore_language(tmp_path / "cut.pt")
    resumed, about = train_language(corpus, CONFIG, plan, CPU, tmp_path / "cut.pt", every_s=0)
    assert about["history"][-1]["step"] == 6
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name
    other = Corpus(corpus.domains[:1], {})
    with pytest.raises(InputError, match="trained on another text"):
        restore_language(tmp_path / "cut.pt", other)


def test_training_goes_on_from_a_finished_one(corpus, tmp_path):
    plan = LanguageTraining(steps=3, batch=4)
    first, _ = train_language(corpus, CONFIG, plan, CPU, tmp_path / "first.pt")
    still = LanguageTraining(steps=2, batch=4, learning_rate=1e-12, weight_decay=0.0, seed=1)
    second, about = train_language(corpus, CONFIG, still, CPU, tmp_path / "second.pt", start=tmp_path / "first.pt")
    for name, tensor in first.state_dict().items():
        torch.testing.assert_close(tensor, second.state_dict()[name], atol=1e-8, rtol=1e-6)
    assert about["start"]["training"]["steps"] == 3
    assert restore_language(tmp_path / "second.pt", corpus)[1]["start"]["history"]["step"] == 3
    other = replace(CONFIG, experts=5)
    with pytest.raises(InputError, match=r"is of another model: experts is 6 there, 5 here"):
        train_language(corpus, other, still, CPU, tmp_path / "third.pt", start=tmp_path / "first.pt")


def test_training_learns_which_bytes_each_domain_has(corpus, tmp_path):
    """A text of letters drawn evenly has log2(letters) bits per byte, and no model can do better."""
    plan = LanguageTraining(steps=120, batch=8, learning_rate=1e-2)
    model, _ = train_language(corpus, CONFIG, plan, CPU, tmp_path / "model.pt")
    bits = {row["domain"]: row for row in measure_bits(model, corpus, 40) if row["model"] == "language model"}
    for name, letters in (("vowels", 5), ("digits", 10)):
        entropy = np.log2(letters)
        assert entropy - 0.15 < bits[name]["bits_per_byte"] < entropy + 0.5
        assert bits[name]["segments"] == min(40, 20 * 61 // CONFIG.window)


def served(model, requests, slots):
    recorder = Recorder(model, 6)
    steps = []
    for step in serve(model, requests, slots, 5, recorder):
        steps.append((step, recorder.take()))
    return steps


def test_serving_batches_sequences_of_different_lengths(model, monkeypatch):
    """Three requests on two slots, worked out by hand; no sequence draws the separator here."""
    monkeypatch.setattr("moe_replay.collect.recording.continuous_batching.SEPARATOR", -1)
    requests = [Request(0, "a", b"xyz", 3), Request(1, "b", b"uv", 1), Request(2, "a", b"w", 2)]
    log = [[(r.sequence, *rest) for r, *rest in step.members] for step, _ in served(model, requests, 2)]
    assert log == [
        [(0, 0, 3, 0), (1, 0, 2, 0)],  # both prompts; sequence 1 has its one byte
        [(0, 3, 1, 1), (2, 0, 1, 0)],  # sequence 2 joins in the freed slot
        [(0, 4, 1, 1), (2, 1, 1, 1)],  # both draw their last byte, which is never computed
    ]


def test_what_a_sequence_says_does_not_depend_on_its_company(model, corpus):
    requests = draw_requests(corpus, 5, (2, 8), (4, 12), CONFIG.window, np.random.default_rng(1))

    def texts(steps):
        said = {}
        for step, _ in steps:
            start = 0
            for request, _, count, _ in step.members:
                said.setdefault(request.sequence, []).extend(step.bytes_N[start : start + count].tolist())
                start += count
        return said

    assert texts(served(model, requests, 5)) == texts(served(model, requests, 1))


def test_a_separator_ends_a_sequence(model):
    with torch.no_grad():
        biased = LanguageModel(CONFIG, 3).eval()
        biased.head.bias[SEPARATOR] += 50
    ((step, _),) = served(biased, [Request(0, "a", b"xyz", 20)], 1)
    assert len(step.bytes_N) == 3


def test_recorded_decode_is_a_trace_of_what_one_pass_would_select(model, corpus, tmp_path):
    requests = draw_requests(corpus, 4, (2, 8), (4, 12), CONFIG.window, np.random.default_rng(2))
    recorder, out = Recorder(model, 4), tmp_path / "x.trace.parquet"
    header = language_header(model, {"training": {}}, corpus, CPU, 0, {})
    record_decode(model, requests, header, recorder, 3, 5, out)
    trace = load_trace(out)
    assert trace.K == 4
    assert set(np.unique(trace.phase_T)) == {0, 1}
    assert len({(trace.step_T == step).sum() for step in np.unique(trace.step_T)}) > 1
    for request in requests:
        own = trace.sequence_T == request.sequence
        assert (trace.phase_T[own] == 0).sum() == len(request.prompt)
        np.testing.assert_array_equal(trace.position_T[own], np.arange(own.sum()))
        with torch.inference_mode():
            model(torch.from_numpy(trace.token_id_T[own].astype(np.int64)), select=recorder)
        again = recorder.take()
        np.testing.assert_allclose(trace.norm_TL[own], again["norm_TL"], rtol=1e-4)
        assert (trace.experts_TLK[own] == again["experts_TLK"]).mean() > 0.99  # near ties may fall otherwise


def test_an_interrupted_prefill_recording_goes_on(model, corpus, tmp_path):
    header = language_header(model, {"training": {}}, corpus, CPU, 0, {})

    def record(out, advance=lambda: None):
        draws = np.random.default_rng(4)
        record_prefill(model, corpus, header, Recorder(model, 6), 5, 4, draws, out, advance)

    calls = []

    def cut():
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt

    record(tmp_path / "whole.trace.parquet")
    with pytest.raises(KeyboardInterrupt):
        record(tmp_path / "cut.trace.parquet", cut)
    finished = load_trace(parts_folder(tmp_path / "cut.trace.parquet"))
    assert finished.S == 2 * 4
    record(tmp_path / "cut.trace.parquet")
    whole, cut_off = load_trace(tmp_path / "whole.trace.parquet"), load_trace(tmp_path / "cut.trace.parquet")
    assert whole.digest == cut_off.digest
    assert whole.S == 2 * 5


def test_rounded_scores_keep_their_order_and_lose_at_most_half_a_step():
    scores = np.sort(np.random.default_rng(0).random((50, 32)).astype(np.float32))[:, ::-1]
    close = rounded(scores, 7)
    assert (np.diff(close) <= 0).all()
    assert (np.abs(close - scores) <= scores * 2**-8).all()
    assert ((close.view(np.uint32) & 0xFFFF) == 0).all()
    assert rounded(scores, 23) is scores


@pytest.mark.parametrize(
    ("sizes", "message"),
    [({"k": 7}, "k = 7, allowed 1..6"), ({"heads": 3}, "heads = 3"), ({"layers": 0}, "layers = 0, allowed 1")],
)
def test_sizes_that_do_not_fit_are_refused(sizes, message):
    with pytest.raises(InputError, match=message):
        LanguageConfig(**{"experts": 6, "k": 2, "width": 16, "heads": 2, **sizes})


def test_requests_longer_than_the_window_are_refused(corpus):
    with pytest.raises(InputError, match="allowed together up to the window, 32"):
        draw_requests(corpus, 3, (1, 30), (1, 3), 32, np.random.default_rng(0))
