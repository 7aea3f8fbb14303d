"""Quantities as people write them: `90MB`, `25GB/s`, `40%`, `200us`, `1e6`.

A bare number has the unit that a kind of quantity names. Prefixes are decimal (k, M, G, T) or binary (Ki, Mi, Gi, Ti).
Values are exact until they are rounded once: `16.3GB/s` is 16,300,000,000 bytes per second.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction

import typer

from moe_replay.traces.command_line.number_limits import checked
from moe_replay.traces.errors import InputError

NUMBER = re.compile(r"\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*([A-Za-zµμ%/]*)\s*", re.ASCII)
LARGEST_EXPONENT = 400  # beyond it no number of ours lies, and exact arithmetic takes long
LONGEST = 1000  # characters of a number
PREFIXES = {
    "": 1, "k": 10**3, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12,
    "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40,
}  # fmt: skip
BYTES = {f"{prefix}B": factor for prefix, factor in PREFIXES.items()}
PER_SECOND = {f"{unit}/s": factor for unit, factor in BYTES.items()} | {
    f"{prefix}bit/s": Fraction(factor, 8) for prefix, factor in PREFIXES.items()
}
NS = {"ns": 1, "us": 10**3, "µs": 10**3, "μs": 10**3, "ms": 10**6, "s": 10**9, "min": 60 * 10**9, "h": 3600 * 10**9}


@dataclass(frozen=True)
class Quantity:
    """A kind of quantity: what its values are called, its units, and what a bare number is in.

    `units` are multiples of the base unit in which values are returned, `bare` that of a number without a unit. A
    `whole` quantity is an int, another a float. `rounded` rounds to an int where `whole` refuses a fraction.
    """

    name: str
    example: str
    units: Mapping[str, int | Fraction]
    bare: int | Fraction = 1
    whole: bool = False
    rounded: bool = False
    infinite: bool = False

    def parsed(self, text: str, low: float | None = None, high: float | None = None) -> float:
        """Return the value of a text in the base unit; ValueError, saying what is allowed, for anything else."""
        value = self.value(text)
        if (low is not None and not value >= low) or (high is not None and not value <= high):
            raise ValueError(f"{text} is not allowed; allowed: {self.allowed(low, high)}")
        return value

    def value(self, text: str) -> float:
        """Return the value of a text, whatever its size."""
        if self.infinite and text.strip().lower() in ("inf", "infinity", "+inf"):
            return math.inf
        found = NUMBER.fullmatch(text) if len(text) <= LONGEST else None
        if found is None or (found[2] and found[2] not in self.units):
            raise ValueError(f"{text[:40]!r} is no {self.name}; allowed: {self.allowed()}")
        number, _, exponent = found[1].lower().partition("e")
        if (exponent and len(exponent.lstrip("+-0")) > 3) or abs(int(exponent or 0)) > LARGEST_EXPONENT:
            raise ValueError(f"{text[:40]} is not allowed; allowed: {self.allowed()}, of fewer digits")
        exact = (
            Fraction(number) * Fraction(10) ** int(exponent or 0) * (self.units[found[2]] if found[2] else self.bare)
        )
        if self.rounded:
            return round(exact)
        if not self.whole:
            return float(exact) if abs(exact) < Fraction(10) ** 308 else math.copysign(math.inf, exact)
        if exact.denominator != 1:
            raise ValueError(f"{text} is no whole {self.name}; allowed: {self.allowed()}")
        return int(exact)

    def allowed(self, low: float | None = None, high: float | None = None) -> str:
        """Return in words what is allowed."""
        bounds = [f">= {low:g}" if low is not None else "", f"<= {high:g}" if high is not None else ""]
        limits = " and ".join(each for each in bounds if each)
        bare = f", without a unit in {self.bare_unit}" if self.bare_unit else ""
        return f"{self.name}s such as {self.example}{bare}" + (f", {limits}" if limits else "")

    @property
    def bare_unit(self) -> str | None:
        """The unit of a number without one; None where it is no multiple of any."""
        return next((name for name, factor in self.units.items() if factor == self.bare), None)

    def option(
        self, *names: str, low: float | None = None, high: float | None = None, help: str = "", **others: object
    ) -> typer.models.OptionInfo:
        """Return a typer option that takes such a quantity; a command gets it in the base unit."""
        if self.bare_unit:
            help = f"{help} Without a unit: {self.bare_unit}."
        return typer.Option(*names, parser=self.parser(low, high), metavar=self.metavar(low), help=help, **others)

    def metavar(self, low: float | None) -> str:
        """Return what help shows in the place of a value."""
        return "N" + (f">={low:g}" if low is not None else "") if self.whole and not self.units else self.name.upper()

    def parser(self, low: float | None, high: float | None) -> Callable[[object], float]:
        """Return what typer calls with a word of the command line, or with a default that is a number already."""

        def quantity(word: object) -> object:
            try:
                return self.parsed(word, low, high) if isinstance(word, str) else word
            except ValueError as error:
                raise typer.BadParameter(str(error)) from None

        return quantity

    def listed(self, text: str, option: str, low: float | None = None) -> list:
        """Return the quantities of a list with commas; InputError, naming the option, for anything else."""
        try:
            values = [self.parsed(word, low) for word in text.split(",")]
        except ValueError as error:
            raise InputError(f"{option}: {error}, with commas") from None
        return [checked(option, value, self.infinite) for value in values]


def time_in(unit: str) -> Quantity:
    """Return times in whole ns; a bare number is in `unit`."""
    return Quantity("time", "200us, 1.5ms or 2min", NS, NS[unit], rounded=True)


def duration_in(unit: str) -> Quantity:
    """Return times in `unit`, with fractions; a bare number is in it too."""
    units = {name: Fraction(factor, NS[unit]) for name, factor in NS.items()}
    return Quantity("time", "200us, 1.5ms or 2min", units)


SIZE = Quantity("size", "90MB or 1.5GiB", BYTES, whole=True)
BANDWIDTH = Quantity("bandwidth", "25GB/s or 900MiB/s", PER_SECOND, 10**9, infinite=True)
SHARE = Quantity("share", "0.4 or 40%", {"%": Fraction(1, 100)})
PERCENT = Quantity("percentage", "45 or 45%", {"%": 1})
SECONDS = duration_in("s")
COUNT = Quantity("number", "1000 or 1e3", {}, whole=True)
