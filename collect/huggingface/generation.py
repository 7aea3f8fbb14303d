"""How prompts run through a transformers model's generate()."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from moe_replay.collect.huggingface.prompts import Prompt


@dataclass(frozen=True)
class Plan:
    """How prompts are run: `batch` at once, up to `new_tokens` generated each (0: prefill only); greedy, or sampled.

    `part`: encoder or decoder of an encoder-decoder model; attention or mlp, where both have experts. `candidates`: how
    many experts a row records, `all`, `chosen` (the router's, by weight), or None: all up to ALL_CANDIDATES, twice k
    beyond, chosen where the router ranks by something else than its scores. There others come behind them.
    """

    batch: int = 8
    new_tokens: int = 32
    sample: bool = False
    seed: int = 0
    part: str | None = None
    candidates: int | str | None = None
    flush_rows: int = 16384


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


def end_tokens(model: nn.Module) -> list[int]:
    """Return the tokens that end a sequence."""
    ends = model.generation_config.eos_token_id
    return [] if ends is None else list(ends) if isinstance(ends, (list, tuple)) else [int(ends)]
