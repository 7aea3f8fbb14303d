"""Capacity of static dispatch: how many rows every expert gets, whatever the gate chose.

What a capacity factor C multiplies differs between systems, so the convention is part of the number:

CS       C S rows, a share of the batch (Huang et al. 2023, section 3; fairseq's evaluation: ceil(fraction * tokens))
CS/E     C S / E rows, C times an even share of one choice per token (Switch, Fedus et al. 2022, equation 3)
CSk/E    C S k / E rows, C times an even share of k choices per token (GShard; FastMoE, which rounds otherwise:
         floor(ceil(C S) k / E))

S tokens in the batch, E experts, k choices per token. Rows are rounded up, as fairseq does, and are at least one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, isfinite

from moe_replay.traces.errors import InputError, unknown_name

CONVENTIONS: dict[str, Callable[[Fraction, int, int, int], Fraction]] = {
    "CS": lambda factor, tokens, experts, k: factor * tokens,
    "CS/E": lambda factor, tokens, experts, k: factor * tokens / experts,
    "CSk/E": lambda factor, tokens, experts, k: factor * tokens * k / experts,
}


@dataclass(frozen=True)
class Capacity:
    """A capacity factor and what it multiplies. InputError for an unknown convention or a factor that is not > 0."""

    convention: str
    factor: float

    def __post_init__(self) -> None:
        if self.convention not in CONVENTIONS:
            raise unknown_name("capacity convention", self.convention, CONVENTIONS)
        if not (isfinite(self.factor) and self.factor > 0):
            raise InputError(f"capacity factor is {self.factor}, allowed > 0")

    @classmethod
    def parse(cls, text: str) -> "Capacity":
        """Return the capacity that `CONVENTION:FACTOR` names."""
        convention, _, factor = text.partition(":")
        if convention not in CONVENTIONS:
            raise unknown_name("capacity convention", convention, CONVENTIONS)
        try:
            return cls(convention, float(factor))
        except ValueError as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"capacity {text!r}: allowed CONVENTION:FACTOR, such as CS/E:1.25") from None

    def __str__(self) -> str:
        return f"{self.convention}:{self.factor:.12g}"

    def slots(self, tokens: int, experts: int, k: int) -> int:
        """Return the rows of every expert, at least one.

        The factor counts as the decimal number it is written as: in binary 0.07 * 100 would round up to 8 rows.
        """
        return max(ceil(CONVENTIONS[self.convention](self.exact, tokens, experts, k)), 1)

    def waste(self, experts: int, k: int) -> float:
        """Return rows computed per row that the gate asked for, rounding aside: EC/k, C/k or C by convention."""
        return float(CONVENTIONS[self.convention](self.exact, 1, experts, k) * experts / k)

    @property
    def exact(self) -> Fraction:
        """The factor as the fraction that its shortest decimal form is."""
        return Fraction(repr(float(self.factor)))
