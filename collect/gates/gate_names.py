"""The table of gates: a configuration names one, and gets it with the numbers it needs."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from moe_replay.collect.gates.adamoe import AdaMoE
from moe_replay.collect.gates.delta import Delta
from moe_replay.collect.gates.entropy import Entropy
from moe_replay.collect.gates.gap import Gap
from moe_replay.collect.gates.gshard import GShardTop2
from moe_replay.collect.gates.noisy_top_k import NoisyTopK
from moe_replay.collect.gates.random_gate import RandomRouting
from moe_replay.collect.gates.switch import Switch
from moe_replay.collect.gates.top_k import TopK
from moe_replay.collect.gates.top_p import TopP
from moe_replay.collect.gates.xmoe import XMoE
from moe_replay.traces.errors import unknown_name


@dataclass(frozen=True)
class GateOptions:
    """Numbers that gates may need. `threshold`: of a dynamic-K rule (None: the gate's default), `most`: its largest K.

    `w_balance`: weight of the balance loss (Switch's alpha; noisy top-k's w_importance and w_load alike). `w_size`:
    weight of the size regulariser of dynamic-K gates. `nulls`: null experts of AdaMoE.
    """

    k: int = 4
    threshold: float | None = None
    most: int | None = None
    w_balance: float = 0.02
    w_size: float = 0.0
    nulls: int = 8


Build = Callable[[int, int, GateOptions, torch.Generator], nn.Module]


def dynamic(gate: type[nn.Module]) -> Build:
    """Return a builder of one of the gates that read their number of experts off the probabilities."""

    def build(width: int, experts: int, options: GateOptions, generator: torch.Generator) -> nn.Module:
        threshold = () if options.threshold is None else (options.threshold,)
        return gate(
            width, experts, generator, *threshold, most=options.most, w_balance=options.w_balance, w_size=options.w_size
        )

    return build


GATES: dict[str, Build] = {
    "noisy-top-k": lambda width, experts, o, _: NoisyTopK(width, experts, o.w_balance, o.w_balance, o.k),
    "top-k": lambda width, experts, o, generator: TopK(width, experts, generator, o.k, o.w_balance, o.w_size),
    "switch": lambda width, experts, o, generator: Switch(width, experts, o.w_balance, generator),
    "gshard": lambda width, experts, o, generator: GShardTop2(width, experts, o.w_balance, generator),
    "random": lambda _, experts, o, generator: RandomRouting(experts),
    "random-per-token": lambda _, experts, o, generator: RandomRouting(experts, per_token=True),
    "adamoe": lambda width, experts, o, generator: AdaMoE(width, experts, o.k, o.nulls, o.w_balance, generator),
    "top-p": dynamic(TopP),
    "xmoe": dynamic(XMoE),
    "gap": dynamic(Gap),
    "entropy": dynamic(Entropy),
    "delta": dynamic(Delta),
}


def build_gate(name: str, width: int, experts: int, options: GateOptions, generator: torch.Generator) -> nn.Module:
    """Return a new gate: `gate(x_NM, k, generator)` gives a Selection. An unknown name lists the known ones."""
    if name not in GATES:
        raise unknown_name("gate", name, GATES)
    return GATES[name](width, experts, options, generator)
