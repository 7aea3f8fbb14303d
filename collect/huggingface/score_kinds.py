"""Which kind of score a router makes of its logits, found by holding its weights against both candidates."""

import torch

from moe_replay.collect.huggingface.routers import Choice
from moe_replay.traces.k_rules import OVER_CHOSEN, PROBABILITIES

LEAST_SCORE = 1e-20  # below it a ratio tells nothing
AGREEMENT = 2e-2  # relative; weights come in the model's type, bfloat16 has eight bits
SCORES = {"softmax": lambda logits: logits.float().softmax(-1), "sigmoid": lambda logits: logits.float().sigmoid()}


def scores_of(logits_NE: torch.Tensor, kind: str) -> torch.Tensor:
    """Return the scores over all experts, float32; `logit` leaves them as they are."""
    return SCORES[kind](logits_NE) if kind in SCORES else logits_NE.float()


def score_kind(choices: list[Choice]) -> str:
    """Return softmax or sigmoid where the weights are proportional to those scores of the chosen, else logit."""
    for kind in SCORES:
        ratios = [ratio_NK for choice in choices if len(ratio_NK := weight_ratio(choice, kind))]
        if ratios and all(proportional(ratio_NK) for ratio_NK in ratios):
            return kind
    return "logit"


def gate_rule(choices: list[Choice], kind: str) -> str:
    """Return which of the weights a trace knows of these are, or the router's class's own."""
    weights = torch.cat([choice.weights_NK.float()[(choice.experts_NK >= 0).all(1)] for choice in choices])
    if kind == "softmax" and weights.shape[1] > 1 and close(weights.sum(1), 1.0):
        return OVER_CHOSEN
    if kind == "softmax" and all(close(weight_ratio(choice, kind), 1.0) for choice in choices):
        return PROBABILITIES
    return "the router's own"


def weight_ratio(choice: Choice, kind: str) -> torch.Tensor:
    """Return weight / score [N, K] of the rows in which no expert was dropped, and none scores next to nothing."""
    scores_NK = scores_of(choice.logits_NE, kind).gather(1, choice.experts_NK.clamp_min(0))
    whole_N = ((choice.experts_NK >= 0) & (scores_NK > LEAST_SCORE)).all(1)
    return choice.weights_NK[whole_N].float() / scores_NK[whole_N]


def proportional(ratio_NK: torch.Tensor) -> bool:
    """Whether the ratio is one number per row; where a row has one expert, one over all rows; of a lone one, 1."""
    if ratio_NK.numel() == 1:
        return close(ratio_NK, 1.0)
    return close(ratio_NK / (ratio_NK[:, :1] if ratio_NK.shape[1] > 1 else ratio_NK[:1]), 1.0)


def close(values: torch.Tensor, to: float) -> bool:
    """Whether all values agree with a number."""
    return bool(((values - to).abs() <= AGREEMENT * abs(to)).all())
