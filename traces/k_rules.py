"""Rules that say how many experts a token gets, from the router's probabilities alone (dynamic K).

Every rule is a pure function of the probabilities ranked in descending order, [..., E] -> K [...], and works alike on
NumPy arrays (re-gating a recorded trace) and on torch tensors (live gates). Formulas, with p_1 >= p_2 >= ... >= p_E:

top-p    smallest t with p_1 + ... + p_t > tau, the crossing expert included (Huang et al. 2024, arXiv 2403.07652)
xmoe     expert j iff p_1 + ... + p_(j-1) < tau, at least one (XMoE, arXiv 2403.18926); top-p but for exact equality
gap      1 where p_1 - p_2 > T, else 2 (adaptive gating, arXiv 2310.07188)
entropy  1 + round((K_max - 1) H(p) / ln E), H the entropy in nats; no paper, a baseline
delta    experts whose probability is at least delta times the best one's (delta-MoE)
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from moe_replay.traces.errors import InputError, unknown_name

Ranked = Any  # probabilities in descending order along the last axis: a NumPy array or a torch tensor

# What a trace's header says of the weights, as its gate_rule.
OVER_CHOSEN = "softmax over the chosen"
PROBABILITIES = "softmax over all experts"


def cumulative(ranked: Ranked) -> Ranked:
    """Return p_1 + ... + p_j before every expert but the first, summed in float64, so that all libraries agree."""
    wide = ranked.double() if hasattr(ranked, "double") else ranked.astype(np.float64)
    return wide.cumsum(-1)[..., :-1]


def top_p(ranked: Ranked, tau: float) -> Ranked:
    """Return how many experts it takes for their cumulative probability to exceed tau."""
    return (cumulative(ranked) <= tau).sum(-1) + 1


def xmoe(ranked: Ranked, tau: float) -> Ranked:
    """Return how many experts have a cumulative probability below tau before them; the first always counts."""
    return (cumulative(ranked) < tau).sum(-1) + 1


def gap(ranked: Ranked, least_gap: float) -> Ranked:
    """Return 1 where the best expert leads the second by more than `least_gap`, else 2."""
    return (ranked[..., :1] - ranked[..., 1:2] <= least_gap).sum(-1) + 1


def entropy(ranked: Ranked, most: float) -> Ranked:
    """Return 1 where one expert has all probability, `most` where all have the same, between them by entropy."""
    positive = ranked.clip(1e-30)
    logs = positive.log() if hasattr(positive, "log") else np.log(positive)
    share = -(ranked * logs).sum(-1) / np.log(max(ranked.shape[-1], 2))  # a lone expert has no entropy to share
    counted = ((most - 1) * share + 1).round()
    return counted.astype(np.int64) if isinstance(counted, np.ndarray | np.generic) else counted.long()


def delta(ranked: Ranked, factor: float) -> Ranked:
    """Return how many experts have at least `factor` times the best one's probability."""
    return (ranked >= factor * ranked[..., :1]).sum(-1)


@dataclass(frozen=True, kw_only=True)
class RuleKind:
    """An entry in the table of rules: the function, its threshold's range, and the weights its experts get.

    `open_low`: the lowest value itself is not allowed. `renormalised`: in a gate that is trained with the rule, weights
    are divided by their sum over the chosen experts; else they stay probabilities over all E. `rises`: a larger
    threshold means more experts.
    """

    count: Callable[[Ranked, float], Ranked]
    lowest: float = 0
    highest: float = 1
    open_low: bool = False
    renormalised: bool = False
    rises: bool = True

    def range_text(self) -> str:
        """Return the allowed thresholds in words."""
        return f"allowed {'above ' if self.open_low else ''}{self.lowest:g}..{self.highest:g}"


RULES: dict[str, RuleKind] = {
    "top-p": RuleKind(count=top_p),
    "xmoe": RuleKind(count=xmoe),
    "gap": RuleKind(count=gap, renormalised=True),
    "entropy": RuleKind(count=entropy, lowest=1, highest=32767, renormalised=True),
    "delta": RuleKind(count=delta, open_low=True, renormalised=True, rises=False),
}


@dataclass(frozen=True)
class KRule:
    """A rule with its threshold; `most` caps K. Raises InputError for an unknown rule or a threshold out of range."""

    name: str
    threshold: float
    most: int | None = None

    def __post_init__(self) -> None:
        if self.name not in RULES:
            raise unknown_name("rule for K", self.name, RULES)
        kind = RULES[self.name]
        low = self.threshold > kind.lowest if kind.open_low else self.threshold >= kind.lowest
        if not (low and self.threshold <= kind.highest):
            raise InputError(f"threshold of {self.name} is {self.threshold}, {kind.range_text()}")
        if self.most is not None and self.most < 1:
            raise InputError(f"most experts is {self.most}, allowed >= 1")

    @classmethod
    def parse(cls, text: str) -> "KRule":
        """Return the rule that `NAME:THRESHOLD` or `NAME:THRESHOLD:MOST` names."""
        name, *numbers = text.split(":")
        if name not in RULES:
            raise unknown_name("rule for K", name, RULES)
        try:
            threshold, most = float(numbers[0]), int(numbers[1]) if numbers[1:] else None
            if numbers[2:]:
                raise ValueError(text)
        except (ValueError, IndexError):
            raise InputError(f"rule {text!r}: allowed NAME:THRESHOLD or NAME:THRESHOLD:MOST") from None
        return cls(name, threshold, most)

    def __str__(self) -> str:
        return f"{self.name}:{self.threshold:.12g}" + (f":{self.most}" if self.most else "")

    @property
    def renormalised(self) -> bool:
        """Whether the weights of a gate trained with this rule sum to one over the chosen experts."""
        return RULES[self.name].renormalised

    def count(self, ranked: Ranked) -> Ranked:
        """Return K [...] (integers, 1..E) from probabilities [..., E] ranked in descending order."""
        counted = RULES[self.name].count(ranked, self.threshold)
        return counted.clip(1, min(self.most or ranked.shape[-1], ranked.shape[-1]))


RULE_HELP = f"a rule for K: NAME:THRESHOLD[:MOST], NAME one of {', '.join(RULES)}"


def given_rule(rule: str | None, k: int | None) -> KRule | int | None:
    """Return what --rule or --k gives, None where neither is given; InputError for both."""
    if rule is not None and k is not None:
        raise InputError("--rule and --k: allowed one of them")
    return k if rule is None else KRule.parse(rule)
