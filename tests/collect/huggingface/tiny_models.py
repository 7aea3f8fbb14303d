"""A tiny model of every model type of transformers that has MoE routers: random weights, by configuration alone.

A configuration's own default is taken where nothing here says otherwise: SMALL by the name of a setting, OWN by model
type. A model type that is missing in OWN is built as well; where its settings do not fit each other, OWN mends them.
"""

import functools
from pathlib import Path

import torch

SMALL = {
    "vocab_size": 64, "unpadded_vocab_size": 64, "hidden_size": 32, "d_model": 32, "intermediate_size": 24, "d_ff": 24,
    "d_kv": 8, "num_hidden_layers": 3, "num_layers": 3, "num_attention_heads": 4, "num_heads": 4,
    "num_key_value_heads": 4, "max_position_embeddings": 64, "head_dim": 8, "num_experts": 8, "num_local_experts": 8,
    "n_routed_experts": 8, "moe_num_experts": 8, "expert_num": 8, "num_experts_per_tok": 2, "num_experts_per_token": 2,
    "moe_k": 2, "moe_topk": 2, "moe_top_k": 2, "top_k_experts": 2, "moe_intermediate_size": 16,
    "expert_ffn_hidden_size": 16,
    "shared_expert_intermediate_size": 16, "shared_intermediate_size": 16, "moe_shared_expert_intermediate_size": 16,
    "kv_lora_rank": 8, "q_lora_rank": 8, "qk_nope_head_dim": 8, "qk_rope_head_dim": 8, "v_head_dim": 8,
    "qk_head_dim": 16, "o_lora_rank": 8, "o_groups": 2, "first_k_dense_replace": 1, "pad_token_id": 0,
    "bos_token_id": 1, "eos_token_id": 2, "n_group": 2, "topk_group": 1, "num_dense_layers": 1, "ffn_hidden_size": 24,
    "dense_intermediate_size": 24, "global_head_dim": 8, "index_head_dim": 8, "index_n_heads": 2, "index_topk": 16,
    "linear_num_key_heads": 2, "linear_num_value_heads": 2, "linear_key_head_dim": 8, "linear_value_head_dim": 8,
    "depth": 1, "out_hidden_size": 32, "num_position_embeddings": 16, "patch_size": 4, "image_size": 16,
    "temporal_patch_size": 1, "spatial_merge_size": 1, "sliding_window": 16,
}  # fmt: skip
GROUPS = ("n_group", "topk_group")  # 1 remains 1
FULL = {"layer_types": ["full_attention"] * 3}
MIXED = {"layer_types": ["linear_attention", "full_attention", "full_attention"]}
SPARSE = {"mlp_layer_types": ["dense", "sparse", "sparse"]}
ROUTED = {"num_experts_per_tok": 2}
GEMMA4 = {
    "enable_moe_block": True, "num_experts": 8, "top_k_experts": 2, "moe_intermediate_size": 16,
    "hidden_size_per_layer_input": 0, "vocab_size_per_layer_input": 64, "layer_types": ["full_attention"] * 3,
}  # fmt: skip
QWEN4 = {
    "layer_types": ["linear_attention", "indexed_attention", "indexed_attention"], "indexer_n_heads": 2,
    "indexer_kv_heads": 1, "indexer_head_dim": 8, "indexer_budget": 16, "indexer_compress_ratio": 4,
}  # fmt: skip
LOOP = {"n_layers_per_attn_res_block": 1, "loop_layer_index_start": 1, "loop_layer_index_end": 2, "loop_num_passes": 2}
DOTS3 = {"head_dim": 16}
OWN: dict[str, dict] = {
    "bailing_hybrid": {**MIXED, "n_group": 2, "topk_group": 1, "num_experts_per_tok": 2},
    "beam": SPARSE,
    "dbrx": {
        "d_model": 32, "n_heads": 4, "n_layers": 3, "max_seq_len": 64,
        "attn_config": {"kv_n_heads": 2, "rope_theta": 10000.0, "clip_qkv": 8.0},
        "ffn_config": {"hidden_size": 32, "ffn_hidden_size": 16, "moe_num_experts": 8, "moe_top_k": 2},
    },
    "deepseek_ocr2": {
        "text_config": {**ROUTED, **SPARSE},
        "vision_config": {"sam_config": {"downsample_channels": [16, 16], "output_channels": 8}},
    },
    "deepseek_v2": {**ROUTED, "n_group": 2, "topk_group": 1, "topk_method": "group_limited_greedy"},
    "diffusion_gemma": {"text_config": GEMMA4},
    "doge": {"is_moe": True, "num_experts": 16},
    "dots1": {**ROUTED, "n_routed_experts": 8, "n_shared_experts": 1},
    "dots3_note": {
        "text_config": DOTS3, "vision_config": {"adapter_in_dim": 32, "adapter_out_dim": 32, "adapter_merge_size": 1},
        "audio_config": {"adapter_input_size": 32, "adapter_out_dim": 32},
    },
    "dots3_note_text": DOTS3,
    "ernie4_5_vl_moe": {
        "text_config": {
            "moe_intermediate_size": [16, 16],
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]},
        },
    },
    "gemma4": {"text_config": GEMMA4, "vision_config": None, "audio_config": None},
    "gemma4_text": GEMMA4,
    "glm4v_moe": {"text_config": {"rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 0]}}},
    "glm5_next": {"text_config": {"qk_rope_head_dim": 0, **SPARSE}},
    "granitemoehybrid": {"mamba_n_heads": 4, "mamba_d_head": 16, "mamba_d_state": 16, **MIXED},
    "hunyuan_v1_moe": {"head_dim": 8, "num_experts": 8},
    "hy_v4_vl": {"text_config": {"rope_parameters": {"rope_type": "default", "mrope_section": [2, 1, 1]}}},
    "inkling2": {"vision_config": {"text_hidden_size": 32}},
    "inkling2_loop": {"vision_config": {"text_hidden_size": 32}, "text_config": LOOP},
    "inkling2_loop_text": LOOP,
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1, "use_mamba_kernels": False},
    "kimi_linear": MIXED,
    "lfm2_moe": FULL,
    "inkling_mm_model": {
        "vision_config": {"patch_size": 4, "temporal_patch_size": 2, "text_hidden_size": 32, "num_hidden_layers": 2},
        "audio_config": {"text_hidden_size": 32},
    },
    "longcat_flash": {"zero_expert_num": 2},
    "mimo_v2_flash": {"num_key_value_heads": 2},
    "mistral4": {"head_dim": 16},
    "muse_spark": {
        "text_config": {"moe_hidden_size": 16},
        "out_hidden_size": 32,
        "audio_config": {"num_hidden_layers": 1, "patch_sizes": [4], "hidden_sizes": [8], "depths": [1]},
    },
    "qwen3_5_moe": {"text_config": MIXED},
    "qwen3_5_moe_text": MIXED,
    "qwen3_next": MIXED,
    "qwen3_omni_moe_thinker": {
        "audio_config": {"encoder_layers": 1, "encoder_attention_heads": 4, "encoder_ffn_dim": 16, "output_dim": 32},
        "vision_start_token_id": 60,
    },
    "qwen4_exp": {"text_config": QWEN4},
    "qwen4_exp_text": QWEN4,
    "step3p7": {"text_config": {**SPARSE, **FULL, "sliding_window": 16}},
    "switch_transformers": {
        "num_decoder_layers": 4, "num_layers": 4, "num_sparse_encoder_layers": 2, "num_sparse_decoder_layers": 2,
        "decoder_start_token_id": 0, "expert_capacity": 3,
    },
    "nllb-moe": {
        "encoder_layers": 2, "decoder_layers": 2, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16,
        "encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_sparse_step": 1, "decoder_sparse_step": 1,
    },
    "zaya": {"num_experts_per_tok": 1},
}  # fmt: skip
BIASED = ("correction", "expert_bias", "balancing", "gate", "router")  # in names of biases that routers have
TASKS = ("CausalLM", "ImageTextToText", "Seq2SeqLM")


@functools.cache
def declaring() -> frozenset[str]:
    """The model types' modules in which a class declares routers, told by their text: importing them takes a minute."""
    import transformers

    folder = Path(transformers.__file__).parent / "models"
    return frozenset(
        path.parent.name for path in folder.glob("*/modeling_*.py") if '"router_logits":' in path.read_text()
    )


@functools.cache
def model_types() -> dict[str, str]:
    """The task of every model type that has routers and generates text behind tokens."""
    from transformers.models.auto import configuration_auto, modeling_auto

    tables = {
        "CausalLM": modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        "ImageTextToText": modeling_auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
        "Seq2SeqLM": modeling_auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
    }
    found = {}
    for name in configuration_auto.CONFIG_MAPPING_NAMES:
        tasks = [task for task in TASKS if name in tables[task]]
        if tasks and configuration_auto.model_type_to_module_name(name) in declaring():
            found[name] = tasks[0]
    return found


def tiny_model(model_type: str, **own: object) -> torch.nn.Module:
    """The tiny model of a model type in evaluation mode, its weights drawn; `own` are further settings."""
    import transformers
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    transformers.logging.set_verbosity_error()
    kind = getattr(transformers, CONFIG_MAPPING_NAMES[model_type])
    settings = merged(merged(shrunk(kind().to_dict()), OWN.get(model_type, {})), own)
    build = getattr(transformers, f"AutoModelFor{model_types()[model_type]}")
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        model = build.from_config(kind(**settings)).float()
    return drawn(model)


def shrunk(settings: dict) -> dict:
    """The settings of SMALL among those of a configuration, and of those within it."""
    found = {}
    for name, value in settings.items():
        if isinstance(value, dict) and name.endswith("config"):
            found[name] = shrunk(value)
        elif name in SMALL and value is not None and not isinstance(value, list | dict | bool):
            found[name] = min(SMALL[name], value) if name in GROUPS else SMALL[name]
    return found


def merged(settings: dict, own: dict) -> dict:
    """Settings with others in their place, those within a configuration one by one."""
    found = dict(settings)
    for name, value in own.items():
        inner = found.get(name)
        found[name] = merged(inner, value) if isinstance(inner, dict) and name.endswith("config") else value
    return found


def drawn(model: torch.nn.Module) -> torch.nn.Module:
    """The model with large random weights, so that every expert matters, and biases of routers other than zero."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, 0.3, generator=generator)
        for name, values in (*model.named_buffers(), *model.named_parameters()):
            if "bias" in name and any(
                word in name for word in ("correction", "expert_bias", "balancing", "gate", "router")
            ):
                values.normal_(0, 0.3, generator=generator)
            if "tid2eid" in name:  # DeepSeek-V4's table of experts by token
                values.copy_(torch.stack([torch.randperm(8, generator=generator)[:2] for _ in values]))
    model.generation_config.eos_token_id = None
    return model.eval()
