"""Costs of a MoE layer by its configuration alone: the class's own computation, true sizes, tables that simulate."""

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

pytest.importorskip("transformers", reason="layers of Hugging Face configs need transformers")

import transformers

import moe_replay.collect.commands.execution_commands  # noqa: F401 - registers its commands
from moe_replay.collect.commands.app import app
from moe_replay.collect.execution.calibration import check_tokens_fit
from moe_replay.collect.real_layers import own_experts
from moe_replay.collect.real_layers.config_layer import ConfigLayer
from moe_replay.collect.real_layers.model_configs import described_block
from moe_replay.simulate.config.memory_config import MemoryConfig
from moe_replay.traces.errors import InputError
from moe_replay.traces.runs.cost_table import TRANSFER, load_costs

CPU = torch.device("cpu")
SIZES = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4,
         "num_key_value_heads": 4, "intermediate_size": 24}  # fmt: skip
ROUTED = {"moe_intermediate_size": 16, "num_experts_per_tok": 2}
LATENT = {"kv_lora_rank": 8, "q_lora_rank": 8, "qk_nope_head_dim": 8, "qk_rope_head_dim": 8, "v_head_dim": 8,
          "n_routed_experts": 8, "n_group": 2, "topk_group": 1, "first_k_dense_replace": 1}  # fmt: skip
LOCAL = {"num_local_experts": 8, "num_experts_per_tok": 2}
# name: (configuration class, its own settings, width inside an expert, values of an expert, MoE layers)
CONFIGS = {
    "mixtral": ("MixtralConfig", LOCAL, 24, 3 * 32 * 24, 3),
    "qwen3-moe": ("Qwen3MoeConfig", {**ROUTED, "num_experts": 8}, 16, 3 * 32 * 16, 3),
    "qwen2-moe-shared-gate": (
        "Qwen2MoeConfig", {**ROUTED, "num_experts": 8, "shared_expert_intermediate_size": 16}, 16, 3 * 32 * 16, 3
    ),
    "olmoe": ("OlmoeConfig", {"num_experts": 8, "num_experts_per_tok": 2}, 24, 3 * 32 * 24, 3),
    "deepseek-v3": ("DeepseekV3Config", {**ROUTED, **LATENT, "n_shared_experts": 1}, 16, 3 * 32 * 16, 2),
    "gpt-oss": ("GptOssConfig", {**LOCAL, "head_dim": 8, "layer_types": ["full_attention"] * 3}, 24,
                3 * 32 * 24 + 2 * 24 + 32, 3),
    "ernie": ("Ernie4_5_MoeConfig", {"moe_num_experts": 8, "moe_k": 2, "moe_intermediate_size": 16,
              "moe_num_shared_experts": 1, "moe_layer_start_index": 1}, 16, 3 * 32 * 16, 2),
    "switch": ("SwitchTransformersConfig", {"d_model": 32, "d_ff": 24, "d_kv": 8, "num_heads": 4, "num_experts": 8,
               "num_layers": 4, "num_decoder_layers": 4, "num_sparse_encoder_layers": 2,
               "num_sparse_decoder_layers": 2}, 24, 2 * 32 * 24, 4),
}  # fmt: skip


@pytest.fixture
def folder_of(tmp_path):
    """Writes a configuration by the name of one of `CONFIGS` and returns its folder."""

    def written(name, **changed):
        kind, own, *_ = CONFIGS[name]
        sizes = {"vocab_size": 64} if name == "switch" else SIZES
        getattr(transformers, kind)(**{**sizes, **own, **changed}).save_pretrained(tmp_path / name)
        return tmp_path / name

    return written


@pytest.mark.parametrize("name", CONFIGS)
def test_an_expert_alone_computes_what_the_models_block_does(name, folder_of):
    """The block's own class, its experts back in place, against the experts measured one by one."""
    layer = ConfigLayer(described_block(str(folder_of(name)), "float32"), CPU)
    (experts,), (gate,) = layer.experts, layer.gates
    seen = {}
    experts.own.register_forward_hook(lambda _, given, output: seen.update(given=given, output=output))
    x_NM = torch.randn((40, 32), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        gate.block.experts, without = experts.own, gate.block.experts
        gate.block(x_NM.unsqueeze(0))
        choice = gate.router.choice(gate.last)
        gate.block.experts = without
        assert torch.equal(gate.logits(x_NM), choice.logits_NE)
        wanted_NM, found_NM = seen["output"].reshape(40, 32), torch.zeros(40, 32)
        for expert, run in enumerate(experts.runners()):
            rows_A, slots_A = (choice.experts_NK == expert).nonzero(as_tuple=True)
            found_NM.index_add_(0, rows_A, run(x_NM[rows_A]) * choice.weights_NK[rows_A, slots_A, None])
    torch.testing.assert_close(found_NM, wanted_NM, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", CONFIGS)
def test_sizes_are_those_of_the_configuration(name, folder_of):
    _, _, hidden, values, layers = CONFIGS[name]
    layer = ConfigLayer(described_block(str(folder_of(name) / "config.json")), CPU)
    config, (experts,) = layer.config, layer.experts
    assert (config.experts, config.k, config.width, config.hidden) == (8, 1 if name == "switch" else 2, 32, hidden)
    assert experts.expert_bytes == 2 * values  # bfloat16, where a configuration names no type
    assert config.about()["moe_layers"] == layers
    assert config.about()["name"] == name


@pytest.mark.parametrize(
    ("kind", "megabytes"),  # 3 * width * hidden * 2 bytes, by the defaults of the classes
    [("Qwen3MoeConfig", 3 * 2048 * 768 * 2 / 1e6), ("DeepseekV3Config", 3 * 7168 * 2048 * 2 / 1e6)],
)
def test_a_layer_at_its_true_width_with_few_held_experts(kind, megabytes, tmp_path):
    """DeepSeek-V3's layer has 256 experts of 88 MB, 22.5 GB: two with weights say what all cost."""
    getattr(transformers, kind)().save_pretrained(tmp_path)
    layer = ConfigLayer(described_block(str(tmp_path)), CPU, held=1)
    (experts,) = layer.experts
    assert experts.expert_bytes / 1e6 == megabytes
    assert len(experts.runners()) == len(experts) == layer.config.about()["experts"] > 100
    assert layer.config.about()["held_experts"] == 1


def run(*words):
    return CliRunner().invoke(app, ["costs", "--device", "cpu", *map(str, words)])


def test_the_table_serves_any_layer_and_says_what_it_is_of(folder_of, tmp_path):
    out = tmp_path / "x.costs.parquet"
    done = run("--model", folder_of("qwen3-moe"), "--sizes", "1,5", "--repetitions", 2, "--out", out)
    assert done.exit_code == 0, done.output
    assert "one of 3 MoE layers: 8 experts of 0.003072 MB, 2 a token" in done.output
    table = load_costs(out)
    assert table.serves_any_layer
    assert table.dense_layers == []  # the head of a stack is no layer of the model
    assert {size: len(times) for size, times in table.repetitions(0, 1).items()} == {1: 2 * 2 * 8, 5: 2 * 2 * 8}
    assert table.header["expert_bytes"] == 3072
    assert table.header["model"]["weights"] == "random"


def test_slots_measure_what_a_transfer_takes(folder_of, tmp_path):
    out = tmp_path / "x.costs.parquet"
    done = run("--model", folder_of("gpt-oss"), "--sizes", "1,3", "--repetitions", 1, "--slots", 2, "--bandwidth", 2,
               "--out", out)  # fmt: skip
    assert done.exit_code == 0, done.output
    table = load_costs(out)
    assert ((table.columns["layer"] == TRANSFER[0]) & (table.columns["block"] == TRANSFER[1])).any()
    link = MemoryConfig(slots=2, expert_bytes=4768, link_bytes_per_s=2e9, link_latency_ns=100_000).link_fields
    assert table.transfer_ns(link) >= 100_000


def refusal(*words):
    return str(run(*words, "--out", "no.parquet").exception)


def test_what_has_no_meaning_is_refused(folder_of, tmp_path):
    folder = folder_of("mixtral")
    assert "--checkpoint, --shape and --model: allowed exactly one of them" in refusal()
    assert "exactly one of them" in refusal("--model", folder, "--shape", "olmoe")
    assert "have a meaning only with --model" in refusal("--shape", "olmoe", "--dtype", "float32")
    assert "--held-experts and --slots" in refusal("--model", folder, "--held-experts", 2, "--slots", 2)
    assert "unknown type of weights 'int4'; known:" in refusal("--model", folder, "--dtype", "int4")
    (tmp_path / "config.json").write_text('{"model_type": "mixtral", ')
    assert "config.json" in refusal("--model", tmp_path / "config.json")
    assert "is no folder here, and the Hugging Face hub does not give it" in refusal("--model", tmp_path / "nowhere")
    dense = transformers.LlamaConfig(hidden_size=32, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2)
    dense.save_pretrained(tmp_path / "dense")
    assert "no MoE router that transformers knows of" in refusal("--model", tmp_path / "dense")


def test_layers_that_fit_no_memory_are_refused_with_their_size(folder_of):
    refused = refusal("--model", folder_of("mixtral", hidden_size=2**16, intermediate_size=2**20))
    assert "--held-experts 8: bytes of weights:" in refused
    assert "would take about 3.07e+03 GiB" in refused


def test_batches_whose_tokens_fit_no_memory_are_refused(folder_of):
    config = ConfigLayer(described_block(str(folder_of("mixtral"))), CPU).config
    with pytest.raises(InputError, match=r"--sizes 1000000000: bytes of 12,000,000,000 tokens: .* would take about"):
        check_tokens_fit(config, 10**9, CPU)


def test_experts_in_a_form_that_is_not_known_are_refused(folder_of, monkeypatch):
    described = str(folder_of("mixtral"))
    monkeypatch.setattr(own_experts, "GATES", (own_experts.scaled_swish,))
    with pytest.raises(InputError, match="MixtralExperts computes for one expert is in no form that is known"):
        ConfigLayer(described_block(described), CPU)


@pytest.mark.parametrize("limited", [True, False])
def test_limits_that_only_large_inputs_reach_are_noticed(folder_of, monkeypatch, limited):
    """Without its limit an expert of gpt-oss is right for all usual inputs."""
    form = own_experts.scaled_swish if limited else unlimited
    monkeypatch.setattr(own_experts, "GATES", (form,))
    described = described_block(str(folder_of("gpt-oss")))
    if limited:
        assert len(ConfigLayer(described, CPU).experts[0]) == 8
        return
    with pytest.raises(InputError, match="in no form that is known"):
        ConfigLayer(described, CPU)


def unlimited(experts, gate_NH, up_NH):
    return (up_NH + 1) * gate_NH * torch.sigmoid(gate_NH * experts.alpha)


def test_measured_times_are_of_every_expert(folder_of, tmp_path):
    out = tmp_path / "x.costs.parquet"
    assert run("--model", folder_of("olmoe"), "--sizes", 2, "--repetitions", 1, "--out", out).exit_code == 0
    columns = load_costs(out).columns
    assert np.unique(columns["block"]).tolist() == list(range(9))
    assert (columns["service_ns"] > 0).all()


def test_a_gpu_takes_the_same_way(folder_of, tmp_path, cuda):
    out = tmp_path / "x.costs.parquet"
    words = ["--model", folder_of("deepseek-v3"), "--sizes", "1,2", "--repetitions", "1", "--out", out]
    done = CliRunner().invoke(app, ["costs", "--device", "cuda", *map(str, words)])
    assert done.exit_code == 0, done.output
    assert load_costs(out).serves_any_layer
    assert cuda.calls["non_blocking"]
