"""Runs prompts through a transformers model's generate() and records the experts that every token selects."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from torch import nn

from moe_replay.collect.huggingface.generation import Plan, end_tokens, generate, pads_right
from moe_replay.collect.huggingface.model_header import model_header
from moe_replay.collect.huggingface.model_loading import told_in_one_line
from moe_replay.collect.huggingface.padding import check_padding_changes_nothing
from moe_replay.collect.huggingface.probing import Watch, probe, slots_recorded
from moe_replay.collect.huggingface.prompts import Prompt
from moe_replay.collect.huggingface.router_recording import Batch, Recording
from moe_replay.traces.errors import InputError
from moe_replay.traces.file.trace_writer import TraceWriter


def record_prompts(
    model: nn.Module, name: str, prompts: list[Prompt], data: Path, plan: Plan, out: Path,
    advance: Callable[[int], object] = lambda sequences: None, notes: dict | None = None,
) -> None:  # fmt: skip
    """Run the prompts and write the trace; a recording that is cut off keeps its finished parts.

    `notes` are further ones of the trace's header.

    The token generated last is never computed and has no row. Raises InputError for a model without known routers,
    layers of different size, and prompts longer than the model.
    """
    check_prompts(model, prompts, plan)
    with told_in_one_line("running the model", (OSError,)):
        watch = probe(model, plan, prompts[0])
    check_padding(model, watch, prompts, plan)
    candidates = slots_recorded(watch, plan.candidates)
    header = model_header(model, name, watch, plan, candidates, data)
    header = replace(header, notes=header.notes | (notes or {}))
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


def check_padding(model: nn.Module, watch: Watch, prompts: list[Prompt], plan: Plan) -> None:
    """Refuse batches whose padding, in front of the prompts, would take the capacity of experts or change routes."""
    lengths = {len(prompt.token_ids) for prompt in prompts}
    if min(plan.batch, len(prompts)) > 1 and any(each.by_batch for each in watch.choices):
        raise InputError("which experts a token gets depends on the other prompts of its batch: allowed: --batch 1")
    if plan.batch == 1 or len(lengths) == 1 or pads_right(model):
        return
    if any(each.may_drop for each in watch.choices):
        raise InputError("experts have a capacity, which padding in front of a prompt would take: allowed: --batch 1")
    tried = Plan(new_tokens=min(plan.new_tokens, 2))
    with told_in_one_line("running the model", (OSError,)):
        check_padding_changes_nothing(watch.routers, prompts, lambda members: generate(model, members, tried, 0))


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
