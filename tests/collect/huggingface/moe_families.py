"""Tiny, randomly initialised models of the MoE families of transformers, and their experts' weights."""

import torch

SIZES = {
    "vocab_size": 64, "hidden_size": 32, "intermediate_size": 24, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 4, "max_position_embeddings": 64, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
TWO = {"num_experts_per_tok": 2}
LOCAL = {"num_local_experts": 8, **TWO}
ROUTED = {"num_experts_per_tok": 2, "moe_intermediate_size": 16}
LATENT = {
    "kv_lora_rank": 8, "qk_nope_head_dim": 8, "qk_rope_head_dim": 8, "v_head_dim": 8, "head_dim": 8,
    "n_routed_experts": 8, "first_k_dense_replace": 1,
}  # fmt: skip
GROUPS = {"n_group": 2, "topk_group": 1}
FULL = {"layer_types": ["full_attention"] * 3}

# family: (configuration class, its own settings, the numbers of its MoE layers, shared experts, score kind, ranked)
FAMILIES = {
    "mixtral": ("MixtralConfig", LOCAL, (0, 1, 2), 0, "softmax", True),
    "qwen2-moe": (
        "Qwen2MoeConfig",
        {**ROUTED, "num_experts": 8, "shared_expert_intermediate_size": 16, "mlp_only_layers": [1]},
        (0, 2), 1, "softmax", True,
    ),
    "qwen3-moe": ("Qwen3MoeConfig", {**ROUTED, "num_experts": 8}, (0, 1, 2), 0, "softmax", True),
    "olmoe": ("OlmoeConfig", {"num_experts": 8, **TWO}, (0, 1, 2), 0, "softmax", True),
    "deepseek-v2": (
        "DeepseekV2Config",
        {**ROUTED, **LATENT, **GROUPS, "topk_method": "group_limited_greedy", "q_lora_rank": None,
         "n_shared_experts": 2},
        (1, 2), 2, "softmax", False,
    ),
    "deepseek-v3": (
        "DeepseekV3Config", {**ROUTED, **LATENT, **GROUPS, "q_lora_rank": 8, "n_shared_experts": 1},
        (1, 2), 1, "sigmoid", False,
    ),
    "gpt-oss": (
        "GptOssConfig", {**LOCAL, "head_dim": 8, **FULL},
        (0, 1, 2), 0, "softmax", True,
    ),
    "llama4": (
        "Llama4TextConfig",
        {**LOCAL, "intermediate_size_mlp": 24, "head_dim": 8,
         "interleave_moe_layer_step": 1, "no_rope_layers": [1, 1, 1]},
        (0, 1, 2), 1, "sigmoid", True,
    ),
    "glm4-moe": (
        "Glm4MoeConfig",
        {**ROUTED, "n_routed_experts": 8, "first_k_dense_replace": 1, "n_group": 1, "topk_group": 1, "head_dim": 8},
        (1, 2), 1, "sigmoid", False,
    ),
    "granite-moe": ("GraniteMoeConfig", LOCAL, (0, 1, 2), 0, "softmax", True),
    "phi-moe": ("PhimoeConfig", LOCAL, (0, 1, 2), 0, "logit", True),
    "ernie-4.5-moe": (
        "Ernie4_5_MoeConfig",
        {"moe_num_experts": 8, "moe_k": 2, "moe_intermediate_size": 16, "moe_num_shared_experts": 1,
         "moe_layer_start_index": 1},
        (1, 2), 1, "softmax", False,
    ),
    "lfm2-moe": (
        "Lfm2MoeConfig", {**ROUTED, "num_experts": 8, "num_dense_layers": 1, **FULL}, (1, 2), 0, "sigmoid", False,
    ),
    "minimax-m2": ("MiniMaxM2Config", {**LOCAL, "head_dim": 8}, (0, 1, 2), 0,
                   "sigmoid", False),
    "dots1": (
        "Dots1Config",
        {**ROUTED, "n_routed_experts": 8, "first_k_dense_replace": 1, "n_group": 1, "topk_group": 1,
         "n_shared_experts": 1},
        (1, 2), 1, "sigmoid", False,
    ),
    "hunyuan-moe": (
        "HunYuanMoEV1Config", {"num_experts": 8, "moe_topk": 2, "head_dim": 8}, (0, 1, 2), 1, "softmax", True,
    ),
    "jamba": (
        "JambaConfig",
        {"num_experts": 8, "num_experts_per_tok": 2, "expert_layer_period": 2, "expert_layer_offset": 1,
         "attn_layer_period": 1, "attn_layer_offset": 0, "use_mamba_kernels": False},
        (1,), 0, "softmax", True,
    ),
    "qwen3-next": (
        "Qwen3NextConfig",
        {**ROUTED, "num_experts": 8, "shared_expert_intermediate_size": 16, "head_dim": 8, **FULL},
        (0, 1, 2), 1, "softmax", True,
    ),
}  # fmt: skip


def built(family):
    """The model of a family with large random weights, so that every expert matters; its biases too."""
    import transformers

    kind, settings, *_ = FAMILIES[family]
    return randomised(transformers.AutoModelForCausalLM.from_config(getattr(transformers, kind)(**SIZES, **settings)))


def switch_transformer():
    """A Switch Transformer whose experts take at most three tokens of a sequence."""
    import transformers

    return randomised(transformers.AutoModelForSeq2SeqLM.from_config(transformers.SwitchTransformersConfig(
        vocab_size=64, d_model=32, d_kv=8, d_ff=24, num_layers=4, num_decoder_layers=4, num_heads=4, num_experts=4,
        expert_capacity=3, num_sparse_encoder_layers=2, num_sparse_decoder_layers=2, decoder_start_token_id=0,
        pad_token_id=0, eos_token_id=2,
    )))  # fmt: skip


def randomised(model):
    """The model in evaluation mode with weights drawn anew."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, 0.3, generator=generator)
        for name, buffer in (*model.named_buffers(), *model.named_parameters()):
            if "correction_bias" in name or "expert_bias" in name:
                buffer.normal_(0, 0.3, generator=generator)
    return model.eval()


def expert_weights(block, expert):
    """Views of all weights of one expert of a MoE block, stacked or one module per expert."""
    inner = block.experts
    modules = dict(inner.named_children())
    own = modules.get(f"expert_{expert}", modules.get(str(expert)))
    return [each.data for each in own.parameters()] if own else [each.data[expert] for each in inner.parameters()]
