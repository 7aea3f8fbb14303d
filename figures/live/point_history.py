"""The configurations that were tried on the page, what each came to, and which of them none beats."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from moe_replay.analysis.estimates.replications import combined
from moe_replay.figures.live.choice import Choice
from moe_replay.simulate.answers.run_answer import RunAnswer


@dataclass(frozen=True)
class Point:
    """One configuration: the answers of its seeds, or the line that says why there are none.

    `row` is what `analysis runs` prints of them: means, and intervals with `_low` and `_high`. `quick` answers were
    given while a slider moved.
    """

    choice: Choice
    answers: tuple[RunAnswer, ...] = ()
    quick: bool = True
    line: str = ""
    row: dict = field(default_factory=dict)

    @classmethod
    def of(cls, choice: Choice, answers: Sequence[RunAnswer], quick: bool) -> Point:
        """Return the point of a configuration from the answers to its seeds."""
        return cls(choice, tuple(answers), quick, row=combined([each.statistics for each in answers]))

    @property
    def status(self) -> str:
        """`ok`, or why it has no steady state: as in `analysis runs`; `failed` where it could not be simulated."""
        return self.row.get("status", "failed")

    @property
    def weight(self) -> tuple[bool, int]:
        """How much is behind it: an exact answer most, else the selections that were simulated."""
        return not self.quick, sum(answer.part.selections for answer in self.answers)

    def value(self, metric: str) -> float:
        """Return a number of the row, NaN where there is none."""
        return float(self.row.get(metric, math.nan))


class History:
    """Points by configuration, in the order in which they were first tried."""

    def __init__(self) -> None:
        self.points: dict[Choice, Point] = {}

    def add(self, point: Point) -> None:
        """Keep a point, unless there is one with more behind it."""
        before = self.points.get(point.choice)
        if before is None or point.weight >= before.weight:
            self.points[point.choice] = point

    @property
    def in_order(self) -> list[Point]:
        """All points."""
        return list(self.points.values())


def front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Return which (cost, gain) no other beats, ascending: less cost with as much gain, or more gain for as little.

    Those that are not finite are on no front.
    """
    order = sorted(
        (place for place, pair in enumerate(points) if all(map(math.isfinite, pair))),
        key=lambda place: (points[place][0], -points[place][1]),
    )
    found: list[int] = []
    for place in order:
        if not found or points[place][1] > points[found[-1]][1]:
            found.append(place)
    return found
