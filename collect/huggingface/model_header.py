"""What a trace's header says of a transformers model: its experts, their sizes, its gate and how it was run."""

import itertools
from pathlib import Path

from torch import nn

from moe_replay.collect.devices import device_name
from moe_replay.collect.huggingface.generation import Plan
from moe_replay.collect.huggingface.probing import Watch, by_score
from moe_replay.collect.huggingface.routers import MLP, Router, has_both
from moe_replay.collect.huggingface.score_kinds import gate_rule, score_kind
from moe_replay.traces.command_line.files import sha256_of
from moe_replay.traces.command_line.provenance import provenance
from moe_replay.traces.errors import InputError
from moe_replay.traces.header import Header, ModelInfo


def model_header(model: nn.Module, name: str, watch: Watch, plan: Plan, candidates: int | None, data: Path) -> Header:
    """Return the header of the trace."""
    config = model.config.get_text_config()
    block = watch.routers[0].block
    kind = "softmax" if watch.routers[0].probabilities else score_kind(watch.choices)
    router = type(watch.routers[0].module).__name__
    rule = gate_rule(watch.choices, kind)
    return Header(
        model=ModelInfo(
            name=name, experts=watch.experts, used_k=watch.k, layer_ids=tuple(each.layer for each in watch.routers),
            shared_experts=shared_experts(model, watch.routers[0], config),
            d_model=getattr(config, "hidden_size", None),
            d_ff=expert_width(config),
            expert_bytes=expert_bytes(block, watch.experts), zero_experts=zero_experts(block, watch.experts),
            dtype=str(next(model.parameters()).dtype).split(".")[-1],
        ),
        gate_rule=rule if rule != "the router's own" else f"{rule}: {router}", score_kind=kind,
        ranked=candidates is not None and by_score(watch),
        chosen_first=candidates is not None and not by_score(watch),
        data={"name": data.name, "digest": sha256_of(data)[:32], "note": None},
        device=device_name(next(model.parameters()).device), provenance=provenance(plan.seed),
        notes={"class": type(model).__name__, "router": router,
               "part": plan.part or (MLP if has_both(model) else None), "batch": plan.batch,
               "new_tokens": plan.new_tokens, "sampled": plan.sample},
    )  # fmt: skip


def expert_width(config: object) -> int | None:
    """Return the width within an expert; of a list, one for each kind of tokens, that of text (ERNIE 4.5 VL)."""
    width = getattr(config, "moe_intermediate_size", None) or getattr(config, "intermediate_size", None)
    return width[0] if isinstance(width, list | tuple) else width


def shared_experts(model: nn.Module, router: Router, config: object) -> int:
    """Return how many experts a MoE block, or the layer around it, runs for every token beside those it routes to."""
    layer = model.get_submodule(router.name.rpartition(".")[0].rpartition(".")[0])
    children = itertools.chain(router.block.named_children(), layer.named_children())
    if not any(name.startswith("shared") and not name.endswith("gate") for name, _ in children):
        return 0
    names = ("n_shared_experts", "num_shared_experts", "moe_num_shared_experts")
    return next((n for name in names if (n := getattr(config, name, None))), 1)


def zero_experts(block: nn.Module, experts: int) -> int:
    """Return how many of the experts, the last ones, have no weights; InputError where others have none.

    Of weights in one tensor, the first axis counts the experts that have them. Where a tensor is longer
    than another (LongCat-Flash), what it holds beyond is not used.
    """
    inner = getattr(block, "experts", None)
    if not isinstance(inner, nn.Module):
        return 0
    stacked = [len(each) for each in inner.parameters(recurse=False) if each.ndim == 3]
    children = [each for name, each in inner.named_modules(remove_duplicate=False) if name and "." not in name]
    alone = [any(True for _ in each.parameters()) for each in children]  # one module may stand for several experts
    if stacked or len(alone) != experts:
        return max(experts - min(stacked, default=experts), 0)
    real = sum(alone)
    if not all(alone[:real]):
        raise InputError(f"expert {alone.index(False)} has no weights but later ones do, allowed: the last ones only")
    return experts - real


def expert_bytes(block: nn.Module, experts: int) -> int | None:
    """Return the bytes of one expert's weights, None where the block does not keep them under `experts`.

    Of several in one tensor, the first axis counts them: a router may choose more than have weights.
    """
    inner = getattr(block, "experts", None)
    if not isinstance(inner, nn.Module):
        stacked = [each for each in block.parameters() if each.ndim == 3 and len(each) == experts]
        return sum(each.nbytes // experts for each in stacked) or None  # JetMoE's, beside its router
    counts = {id(each): len(each) for each in inner.parameters(recurse=False) if each.ndim == 3}
    return sum(each.nbytes // counts.get(id(each), experts) for each in inner.parameters())
