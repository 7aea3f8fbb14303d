"""What a step of a quick run is: commands with the files they make, a share of the time, and the packages it needs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from moe_replay.traces.errors import InputError


@dataclass(frozen=True)
class Command:
    """One program of a step: its argument vector, the files or folders it makes, and those it cannot do without."""

    words: tuple[str, ...]
    makes: tuple[Path, ...]
    wants: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Step:
    """A step: `least_s` below which it is not begun, `share_s` of the whole time that is kept free for it.

    `packs`: which of the logs travel as `NAME.tar.gz`, as patterns below the device's folder.
    """

    number: int
    name: str
    commands: tuple[Command, ...]
    least_s: float
    share_s: float
    packs: tuple[str, ...]
    packages: tuple[str, ...] = ()


def chosen(steps: list[Step], numbers: str | None) -> list[Step]:
    """Return the steps with these numbers (with commas; None: all), in their order; InputError for one that is none."""
    if numbers is None:
        return steps
    known = {str(step.number): step for step in steps}
    for word in numbers.split(","):
        if word not in known:
            raise InputError(f"--steps {word!r}: allowed: {', '.join(known)}, with commas")
    return [step for number, step in known.items() if number in numbers.split(",")]
