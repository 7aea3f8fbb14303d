"""Runs prompts through a transformers model's generate() and records the experts that every token selects."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from moe_replay.collect.devices import device_name
from moe_replay.collect.huggingface.model_loading import told_in_one_line
from moe_replay.collect.huggingface.padding import check_padding_changes_nothing
from moe_replay.collect.huggingface.prompts import Prompt
from moe_replay.collect.huggingface.router_recording import Batch, Recording
from moe_replay.collect.huggingface.routers import Choice, Router, find_routers, limited
from moe_replay.collect.huggingface.score_kinds import gate_rule, score_kind
from moe_replay.traces.command_line.files import sha256_of
from moe_replay.traces.command_line.provenance import provenance
from moe_replay.traces.errors import InputError
from moe_replay.traces.file.trace_writer import TraceWriter
from moe_replay.traces.header import Header, ModelInfo

ALL_CANDIDATES = 64  # up to so many experts per layer all are recorded, beyond that twice the router's k
PROBE_TOKENS = 16
CHOSEN, ALL = "chosen", "all"


@dataclass(frozen=True)
class Plan:
    """How prompts are run: `batch` at once, up to `new_tokens` generated each (0: prefill only); greedy, or sampled.

    `part`: encoder or decoder of an encoder-decoder model. `candidates`: how many experts a row records, `all`,
    `chosen` (the router's, by weight), or None: all up to ALL_CANDIDATES, twice k beyond, chosen where the router
    ranks by something else than its scores.
    """

    batch: int = 8
    new_tokens: int = 32
    sample: bool = False
    seed: int = 0
    part: str | None = None
    candidates: int | str | None = None
    flush_rows: int = 16384


@dataclass(frozen=True)
class Watch:
    """The module whose calls are recorded, its routers, and what a probe saw them return."""

    module: nn.Module
    routers: list[Router]
    choices: list[Choice]

    @property
    def experts(self) -> int:
        """E, the same in every layer."""
        return self.choices[0].logits_NE.shape[1]

    @property
    def k(self) -> int:
        """Experts that a router chooses."""
        return self.choices[0].experts_NK.shape[1]


def record_prompts(
    model: nn.Module, name: str, prompts: list[Prompt], data: Path, plan: Plan, out: Path,
    advance: Callable[[int], object] = lambda sequences: None,
) -> None:  # fmt: skip
    """Run the prompts and write the trace; a recording that is cut off keeps its finished parts.

    The token generated last is never computed and has no row. Raises InputError for a model without known routers,
    layers of different size, and prompts longer than the model.
    """
    check_prompts(model, prompts, plan)
    with told_in_one_line("running the model", (OSError,)):
        watch = probe(model, plan, prompts[0])
    check_padding(model, watch, prompts, plan)
    candidates = slots_recorded(watch, plan.candidates)
    header = model_header(model, name, watch, plan, candidates, data)
    decoder = plan.part == "decoder"
    with TraceWriter(out, header, plan.flush_rows) as writer:
        recording = Recording(watch.module, watch.routers, header, writer, end_tokens(model), candidates, decoder)
        with recording:
            for first in range(0, len(prompts), plan.batch):
                members = prompts[first : first + plan.batch]
                lengths_B = np.array([1 if decoder else len(prompt.token_ids) for prompt in members])
                recording.start(Batch(first, members, lengths_B, pads_right(model)))
                run_batch(model, members, plan, first, writer)
                advance(len(members))


def run_batch(model: nn.Module, members: list[Prompt], plan: Plan, first: int, writer: TraceWriter) -> None:
    """Run prompts and make their rows safe; where the model fails none of theirs is kept, those before them are."""
    place = f"running prompts {first} to {first + len(members) - 1}"
    try:
        with told_in_one_line(place, (OSError,), lambda: kept_text(writer)):
            generate(model, members, plan, first)
    except InputError:
        writer.forget()
        raise
    writer.flush()


def kept_text(writer: TraceWriter) -> str:
    """Return where what was recorded before an error can be read, if anything was."""
    if not writer.safe_rows:
        return ""
    return f"; {writer.safe_rows} tokens of the prompts before are kept in {writer.folder}"


@torch.no_grad()
def generate(model: nn.Module, prompts: list[Prompt], plan: Plan, first: int) -> torch.Tensor:
    """Run one batch, padded in front of what follows, an encoder's input behind; the mask hides it.

    Returns the tokens, prompts included.
    """
    longest = max(len(prompt.token_ids) for prompt in prompts)
    input_BS = torch.zeros(len(prompts), longest, dtype=torch.int64)
    mask_BS = torch.zeros_like(input_BS)
    for row, prompt in enumerate(prompts):
        start = 0 if pads_right(model) else longest - len(prompt.token_ids)
        own = slice(start, start + len(prompt.token_ids))
        input_BS[row, own], mask_BS[row, own] = torch.tensor(prompt.token_ids), 1
    device = next(model.parameters()).device
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices):  # generate() takes no generator
        torch.manual_seed(int(np.random.SeedSequence([plan.seed, first]).generate_state(1)[0]))
        return model.generate(
            input_ids=input_BS.to(device), attention_mask=mask_BS.to(device), do_sample=plan.sample, num_beams=1,
            max_new_tokens=max(plan.new_tokens, 1), pad_token_id=0,
            # Whatever the model's own settings say: a call computes each new token once, one row per prompt.
            use_cache=True, num_return_sequences=1, prompt_lookup_num_tokens=None, disable_compile=True,
        )  # fmt: skip


def pads_right(model: nn.Module) -> bool:
    """Whether padding follows a prompt: in an encoder, where nothing is generated behind it.

    Where experts have a capacity, earlier tokens are served first. Padding that comes last takes none of it away.
    """
    return bool(model.config.is_encoder_decoder)


def check_padding(model: nn.Module, watch: Watch, prompts: list[Prompt], plan: Plan) -> None:
    """Refuse batches whose padding, in front of the prompts, would take the capacity of experts or change routes."""
    lengths = {len(prompt.token_ids) for prompt in prompts}
    if plan.batch == 1 or len(lengths) == 1 or pads_right(model):
        return
    if any(each.may_drop for each in watch.choices):
        raise InputError("experts have a capacity, which padding in front of a prompt would take: allowed: --batch 1")
    tried = Plan(new_tokens=min(plan.new_tokens, 2))
    with told_in_one_line("running the model", (OSError,)):
        check_padding_changes_nothing(watch.routers, prompts, lambda members: generate(model, members, tried, 0))


@torch.no_grad()
def probe(model: nn.Module, plan: Plan, prompt: Prompt) -> Watch:
    """Return what to watch, after the routers decided a few tokens; InputError where it cannot be recorded."""
    both = bool(model.config.is_encoder_decoder)
    if both != (plan.part is not None):
        raise InputError("--part encoder or decoder is needed here" if both else "--part: the model has one part only")
    module = model if not both else model.get_encoder() if plan.part == "encoder" else model.get_decoder()
    routers, choices = find_routers(model, plan.part), {}
    handles = [
        router.module.register_forward_hook(
            lambda _, __, output, each=router: choices.update({each: each.choice(output)})
        )
        for router in routers
    ]
    try:
        generate(model, [Prompt(prompt.token_ids[:PROBE_TOKENS])], Plan(new_tokens=1), 0)
    finally:
        for handle in handles:
            handle.remove()
    silent = [router.name for router in routers if router not in choices]
    if silent:
        raise InputError(f"router {silent[0]} did not run in a forward call, allowed: every router in every call")
    told = [router.told(choices[router]) for router in routers]
    watch = Watch(module, [router for router, _ in told], [choice for _, choice in told])
    check_numbers(watch)
    shapes = {(choice.logits_NE.shape[1], choice.experts_NK.shape[1]) for choice in watch.choices}
    if len(shapes) > 1:
        raise InputError(f"layers have different (experts, k): {sorted(shapes)}, allowed: the same in all layers")
    return watch


def check_numbers(watch: Watch) -> None:
    """Refuse a model whose routers decide on NaN: what they choose then means nothing."""
    for router, choice in zip(watch.routers, watch.choices, strict=True):
        if choice.logits_NE.isnan().any():
            raise InputError(f"router {router.name} has logits that are NaN, allowed: finite weights, a wider --dtype")


def check_prompts(model: nn.Module, prompts: list[Prompt], plan: Plan) -> None:
    """Refuse token ids that the model does not have, and prompts that with their answers are longer than it takes."""
    config = model.config.get_text_config()
    longest, words = getattr(config, "max_position_embeddings", None), config.vocab_size
    for number, prompt in enumerate(prompts):
        if max(prompt.token_ids) >= words:
            raise InputError(f"prompt {number}: token {max(prompt.token_ids)}, allowed 0..{words - 1}")
        if longest and len(prompt.token_ids) + plan.new_tokens > longest:
            raise InputError(
                f"prompt {number}: {len(prompt.token_ids)} tokens and {plan.new_tokens} new ones, allowed {longest}; "
                "--max-prompt-tokens cuts prompts"
            )


def slots_recorded(watch: Watch, wanted: int | str | None) -> int | None:
    """Return how many experts a row records, None for the router's choice alone."""
    by_score = not any(map(limited, watch.routers)) and not any(choice.may_drop for choice in watch.choices)
    if wanted == CHOSEN or (wanted is None and not by_score):
        return None
    if not by_score:
        raise InputError(f"--candidates {wanted}: these routers do not rank by their scores; allowed: {CHOSEN}")
    if wanted is None:
        return watch.experts if watch.experts <= ALL_CANDIDATES else 2 * watch.k
    if wanted == ALL:
        return watch.experts
    if not watch.k <= wanted <= watch.experts:
        raise InputError(f"--candidates {wanted}: allowed {watch.k}..{watch.experts}, {ALL} or {CHOSEN}")
    return wanted


def end_tokens(model: nn.Module) -> list[int]:
    """Return the tokens that end a sequence."""
    ends = model.generation_config.eos_token_id
    return [] if ends is None else list(ends) if isinstance(ends, (list, tuple)) else [int(ends)]


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
            d_ff=getattr(config, "moe_intermediate_size", None) or getattr(config, "intermediate_size", None),
            expert_bytes=expert_bytes(block, watch.experts), zero_experts=zero_experts(block, watch.experts),
            dtype=str(next(model.parameters()).dtype).split(".")[-1],
        ),
        gate_rule=rule if rule != "the router's own" else f"{rule}: {router}", score_kind=kind,
        ranked=candidates is not None, data={"name": data.name, "digest": sha256_of(data)[:32], "note": None},
        device=device_name(next(model.parameters()).device), provenance=provenance(plan.seed),
        notes={"class": type(model).__name__, "router": router, "part": plan.part, "batch": plan.batch,
               "new_tokens": plan.new_tokens, "sampled": plan.sample},
    )  # fmt: skip


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
        return None
    counts = {id(each): len(each) for each in inner.parameters(recurse=False) if each.ndim == 3}
    return sum(each.nbytes // counts.get(id(each), experts) for each in inner.parameters())
