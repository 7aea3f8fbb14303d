"""The sizes of a model's MoE layer, from its Hugging Face config: a file, or one that comes beside the tables."""

from __future__ import annotations

import json
from pathlib import Path

from moe_replay.traces.errors import InputError, unknown_name

CONFIGS, ENDING = "model_configs", "_config.json"  # ORGANISATION--MODEL_config.json
NO_CONFIG = "_hf_quant_config.json"  # how weights are quantised, beside a model's own
# Ours: what configs call it, the first that is there; an expert's size has a name of its own where dense layers differ.
KEYS = {
    "width": ("hidden_size",),
    "hidden": ("moe_intermediate_size", "intermediate_size", "ffn_hidden_size"),
    "experts": ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"),
    "k": (
        "num_experts_per_tok",
        "num_experts_per_token",
        "experts_per_token",
        "moe_top_k",
        "moe_topk",
        "top_k_experts",
    ),
}
PARTS = ("text_config", "llm_config")  # of a config that holds several models


def layer_sizes(tables: Path, model: str) -> tuple[str, dict[str, int]]:
    """Return (a model's name, its width, hidden, experts and k) from CONFIG.json or by a name beside the tables.

    InputError for an unknown name, and for a config that does not tell all four.
    """
    path = Path(model)
    if path.suffix != ".json":
        known = named_configs(tables)
        if model.lower() not in known:
            raise unknown_name("model", model, known or ["none: give a config.json"])
        path = known[model.lower()]
    name = path.name.removesuffix(ENDING).rpartition("--")[2].lower() if path.name.endswith(ENDING) else path.stem
    try:
        config = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: no config ({str(error)[:80]})") from None
    if not isinstance(config, dict):
        raise InputError(f"{path}: no config; allowed: a model's config.json")
    config |= next((config[part] for part in PARTS if isinstance(config.get(part), dict)), {})
    sizes = {
        ours: next((config[key] for key in keys if isinstance(config.get(key), int)), None)
        for ours, keys in KEYS.items()
    }  # fmt: skip
    if lacking := [ours for ours, value in sizes.items() if value is None]:
        raise InputError(f"{path.name}: tells no {lacking[0]} of a MoE layer ({', '.join(KEYS[lacking[0]])})")
    return name, sizes


def named_configs(tables: Path) -> dict[str, Path]:
    """Return the configs beside the tables by the models' names, in small letters."""
    paths = (
        sorted((tables.resolve().parents[1] / CONFIGS).glob(f"*{ENDING}")) if len(tables.resolve().parents) > 1 else []
    )
    return {
        path.name.removesuffix(ENDING).rpartition("--")[2].lower(): path
        for path in paths if not path.name.endswith(NO_CONFIG)
    }  # fmt: skip
