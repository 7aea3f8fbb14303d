"""A byte-level decoder whose feed-forward parts are mixtures of experts.

Embedding -> `layers` pre-norm blocks (causal attention with rotary positions, mixture of experts) -> norm -> head.
One forward pass serves training (whole windows) and, through `cache`, serving: any rows of any sequences.
"""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from moe_replay.collect.dispatch.dispatch_names import Dispatch
from moe_replay.collect.dispatch.dynamic_dispatch import dynamic_dispatch
from moe_replay.collect.gates.gate_result import Selector
from moe_replay.collect.gates.top_k import TopK
from moe_replay.collect.models.classifier import seeded_linear
from moe_replay.collect.models.experts import Experts
from moe_replay.collect.models.layer_runs import LayerRun, directly
from moe_replay.traces.errors import InputError

VOCABULARY = 256  # bytes
ROTARY_BASE = 10000.0


@dataclass(frozen=True)
class LanguageConfig:
    """Sizes: `width` of a token, `hidden` of an expert, `window` the longest sequence in bytes.

    InputError where sizes do not fit together.
    """

    layers: int = 8
    experts: int = 32
    k: int = 4
    width: int = 128
    hidden: int = 128
    heads: int = 4
    window: int = 256
    w_balance: float = 0.01

    def __post_init__(self) -> None:
        for name in ("layers", "experts", "k", "width", "hidden", "heads", "window"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} = {getattr(self, name)}, allowed 1 and more")
        if self.k > self.experts:
            raise InputError(f"k = {self.k}, allowed 1..{self.experts}, the experts")
        if self.width % (2 * self.heads):
            raise InputError(f"heads = {self.heads}, allowed: those that cut the width {self.width} into even parts")


class Cache:
    """Keys and values of what each slot's sequence has computed: [layers, slots, heads, window, head width]."""

    def __init__(self, config: LanguageConfig, slots: int, device: torch.device) -> None:
        shape = (config.layers, slots, config.heads, config.window, config.width // config.heads)
        self.keys, self.values = torch.zeros(shape, device=device), torch.zeros(shape, device=device)


class Rows:
    """Rows of several sequences for one forward call: `spans` lists (slot, first position, rows), one per sequence."""

    def __init__(self, cache: Cache, spans: list[tuple[int, int, int]]) -> None:
        self.cache, self.spans = cache, spans
        self.position_N = torch.cat([torch.arange(first, first + count) for _, first, count in spans])


class Attention(nn.Module):
    """Causal multi-head attention with rotary positions."""

    def __init__(self, config: LanguageConfig, generator: torch.Generator) -> None:
        super().__init__()
        self.heads, width = config.heads, config.width
        self.inputs = seeded_linear(width, 3 * width, generator)
        self.output = seeded_linear(width, width, generator)

    def forward(self, x_NM: torch.Tensor, rotation: torch.Tensor, windows: int) -> torch.Tensor:
        """Return the attended tokens [N, M] of whole windows, one behind the other."""
        query, key, value = self.parts(x_NM, rotation).view(3, windows, -1, self.heads, self.head_width).transpose(2, 3)
        mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        return self.output(mixed.transpose(1, 2).reshape(x_NM.shape))

    def continued(self, x_NM: torch.Tensor, rotation: torch.Tensor, rows: Rows, layer: int) -> torch.Tensor:
        """Return the attended tokens [N, M] of rows that continue sequences in a cache, which takes their keys in."""
        query_NHD, key_NHD, value_NHD = self.parts(x_NM, rotation)
        mixed, start = [], 0
        for slot, first, count in rows.spans:
            own, stop = slice(start, start + count), first + count
            keys, values = rows.cache.keys[layer, slot], rows.cache.values[layer, slot]
            keys[:, first:stop], values[:, first:stop] = key_NHD[own].transpose(0, 1), value_NHD[own].transpose(0, 1)
            seen = torch.ones(count, stop, dtype=torch.bool, device=x_NM.device).tril(first)
            attended = functional.scaled_dot_product_attention(
                query_NHD[own].transpose(0, 1), keys[:, :stop], values[:, :stop], attn_mask=seen
            )
            mixed.append(attended.transpose(0, 1).reshape(count, -1))
            start += count
        return self.output(torch.cat(mixed))

    @property
    def head_width(self) -> int:
        """Width of a head."""
        return self.output.in_features // self.heads

    def parts(self, x_NM: torch.Tensor, rotation: torch.Tensor) -> torch.Tensor:
        """Return rotated queries, rotated keys, and values: [3, N, heads, head width]."""
        query_key_value = self.inputs(x_NM).view(len(x_NM), 3, self.heads, self.head_width).transpose(0, 1)
        query_key, value = query_key_value[:2], query_key_value[2:]
        cosine, sine = rotation
        first, second = query_key.chunk(2, dim=-1)
        turned = torch.cat([first * cosine - second * sine, first * sine + second * cosine], dim=-1)
        return torch.cat([turned, value])


class LanguageModel(nn.Module):
    """The decoder. `experts[l]`, `gates[l]`: the MoE layer l, as in a classifier."""

    def __init__(self, config: LanguageConfig, seed: int) -> None:
        super().__init__()
        self.config, width = config, config.width
        generator = torch.Generator().manual_seed(seed)
        self.embedding = nn.Parameter(torch.randn(VOCABULARY, width, generator=generator) * 0.5)
        self.attention_norms = nn.ModuleList(nn.RMSNorm(width) for _ in range(config.layers))
        self.attentions = nn.ModuleList(Attention(config, generator) for _ in range(config.layers))
        self.expert_norms = nn.ModuleList(nn.RMSNorm(width) for _ in range(config.layers))
        self.gates = nn.ModuleList(
            TopK(width, config.experts, generator, config.k, config.w_balance) for _ in range(config.layers)
        )
        self.experts = nn.ModuleList(
            Experts(config.experts, width, config.hidden, width, generator) for _ in range(config.layers)
        )
        self.norm = nn.RMSNorm(width)
        self.head = seeded_linear(width, VOCABULARY, generator)

    def forward(
        self, bytes_N: torch.Tensor, windows: int = 1, rows: Rows | None = None,
        select: Selector | None = None, dispatch: Dispatch = dynamic_dispatch, run_layer: LayerRun = directly,
    ) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
        """Return (logits of the next byte [N, 256], the gates' loss) of N bytes.

        The bytes are `windows` windows of equal length one behind the other, or with `rows` what those describe.
        `select(layer, x_NM)` returns a layer's selection in the place of its gate; `run_layer` runs every layer.
        """
        if rows is None:
            position_N = torch.arange(len(bytes_N) // windows, device=bytes_N.device).repeat(windows)
        else:
            position_N = rows.position_N.to(bytes_N.device)
        rotation = rotary(position_N, self.config.width // self.config.heads)
        x_NM, loss = self.embedding[bytes_N], bytes_N.new_zeros((), dtype=torch.float32)
        for layer in range(self.config.layers):
            x_NM, gate_loss = run_layer(self.layer, layer, x_NM, rotation, windows, rows, select, dispatch)
            loss = loss + gate_loss
        return self.head(self.norm(x_NM)), loss

    def layer(
        self, layer: int, x_NM: torch.Tensor, rotation: torch.Tensor, windows: int, rows: Rows | None,
        select: Selector | None, dispatch: Dispatch,
    ) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
        """Return (the state [N, M] after a layer, its gate's loss)."""
        normed_NM, attention = self.attention_norms[layer](x_NM), self.attentions[layer]
        if rows is None:
            x_NM = x_NM + attention(normed_NM, rotation, windows)
        else:
            x_NM = x_NM + attention.continued(normed_NM, rotation, rows, layer)
        normed_NM = self.expert_norms[layer](x_NM)
        chosen = select(layer, normed_NM) if select else self.gates[layer](normed_NM)
        return x_NM + dispatch(normed_NM, chosen.weights_NK, chosen.experts_NK, self.experts[layer]), chosen.loss


def rotary(position_N: torch.Tensor, head_width: int) -> torch.Tensor:
    """Return cosines and sines [2, N, 1, head width / 2] of the rotary positions (Su et al. 2021)."""
    frequency = ROTARY_BASE ** -(torch.arange(0, head_width, 2, device=position_N.device) / head_width)
    angle = position_N[:, None, None] * frequency
    return torch.stack([angle.cos(), angle.sin()])
