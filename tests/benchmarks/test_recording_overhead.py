"""What recording costs a forward call of a transformers model, beside the same call without hooks.

    python -m pytest tests/benchmarks/test_recording_overhead.py -o addopts="" -s

Model: a Mixtral of 8 layers, d = 256, 32 experts of 256 hidden units, top-4, random weights; a call is a prefill of 8
prompts of 128 tokens. Recording keeps all 32 experts of every token and layer, their scores and the norms of the
layers' inputs, and writes finished parts to disk as it goes, so writing counts too. Target: at most 5 % on one core.
Both run in turn, first one first, then the other, so that other load on the machine meets both alike; the ratio is
that of the medians, its spread the quartiles of the ratios of single pairs. A slow machine fails nothing here;
recording fewer rows than were computed does.
"""

import time

import numpy as np
import pytest
import torch

pytest.importorskip("transformers", reason="the collector for Hugging Face models needs transformers")

from moe_replay.collect.huggingface.generation import Plan, end_tokens
from moe_replay.collect.huggingface.model_header import model_header
from moe_replay.collect.huggingface.probing import probe
from moe_replay.collect.huggingface.prompts import Prompt
from moe_replay.collect.huggingface.router_recording import Batch, Recording
from moe_replay.traces.file.trace_file import load_trace
from moe_replay.traces.file.trace_writer import TraceWriter

BATCH, TOKENS, LAYERS, EXPERTS, K, PAIRS = 8, 128, 8, 32, 4, 15
TARGET_PERCENT = 5.0
VOCABULARY = 1024


def make_model():
    """Return the model with random weights, in evaluation mode."""
    from transformers import AutoModelForCausalLM, MixtralConfig

    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(
        MixtralConfig(
            vocab_size=VOCABULARY, hidden_size=256, intermediate_size=256, num_hidden_layers=LAYERS,
            num_attention_heads=8, num_key_value_heads=8, num_local_experts=EXPERTS, num_experts_per_tok=K,
            max_position_embeddings=256,
        )
    ).eval()  # fmt: skip


class Recorded:
    """Forward calls under the collector's hooks, each a batch of its own in one recording."""

    def __init__(self, model, input_BS, writer, watch, header):
        self.model, self.input_BS = model, input_BS
        self.prompts = [Prompt(tuple(row)) for row in input_BS.tolist()]
        self.recording = Recording(watch.module, watch.routers, header, writer, end_tokens(model), EXPERTS)
        self.calls = 0

    def __call__(self):
        with self.recording:
            first = self.calls * BATCH
            self.recording.start(Batch(first, self.prompts, np.full(BATCH, TOKENS)))
            forward(self.model, self.input_BS)
        self.calls += 1


@torch.no_grad()
def forward(model, input_BS):
    """Return the logits of a prefill."""
    return model(input_ids=input_BS, use_cache=False).logits


def seconds_of(call):
    """Return (wall clock, processor) seconds of one call."""
    wall, processor = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - wall, time.process_time() - processor


def paired(plain, recorded):
    """Return seconds [2, PAIRS, 2]: without and with recording, pair by pair, by wall clock and processor."""
    seconds = np.zeros((2, PAIRS, 2))
    for pair in range(PAIRS):
        for which in (0, 1) if pair % 2 else (1, 0):
            seconds[which, pair] = seconds_of((plain, recorded)[which])
    return seconds


def overhead_percent(seconds):
    """Return, for both clocks, [lower quartile of single pairs, ratio of the medians, upper quartile] in percent."""
    plain, recorded = seconds
    middle = 100 * (np.median(recorded, 0) / np.median(plain, 0) - 1)
    low, high = np.percentile(100 * (recorded / plain - 1), [25, 75], axis=0)
    return {
        clock: [round(float(each[at]), 2) for each in (low, middle, high)]
        for at, clock in enumerate(("wall_clock_percent", "processor_percent"))
    }


def test_recording_overhead(benchmark, tmp_path):
    torch.set_num_threads(1)
    model, draws = make_model(), np.random.default_rng(0)
    input_BS = torch.from_numpy(draws.integers(3, VOCABULARY, (BATCH, TOKENS)))
    data, out = tmp_path / "prompts.jsonl", tmp_path / "overhead.trace.parquet"
    data.write_text("{}")
    plan = Plan(batch=BATCH, new_tokens=0)
    watch = probe(model, plan, Prompt(tuple(input_BS[0].tolist())))
    header = model_header(model, "benchmark", watch, plan, EXPERTS, data)
    with TraceWriter(out, header, plan.flush_rows) as writer:
        recorded = Recorded(model, input_BS, writer, watch, header)
        forward(model, input_BS), recorded()  # both warm
        seconds = paired(lambda: forward(model, input_BS), recorded)
        benchmark.pedantic(recorded, rounds=3)
    trace = load_trace(out)
    assert trace.experts_TLK.shape == (recorded.calls * BATCH * TOKENS, LAYERS, EXPERTS)
    assert recorded.calls == PAIRS + 4
    assert (np.sort(trace.experts_TLK, axis=2) == np.arange(EXPERTS)).all()
    summary = {
        **overhead_percent(seconds), "pairs": PAIRS, "target_percent": TARGET_PERCENT,
        "plain_s": round(float(np.median(seconds[0, :, 0])), 4), "rows": trace.T,
    }  # fmt: skip
    benchmark.extra_info.update(summary)
    print(f"\n{summary}")
