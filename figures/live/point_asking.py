"""Asks for points: quick ones while a slider moves, exact ones when it is let go, and the best that meets a limit."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

from moe_replay.figures.live import questions
from moe_replay.figures.live.choice import CLOSED, NO_SEEDS, Choice, Source
from moe_replay.figures.live.latest import Lane, Numbers, Question
from moe_replay.figures.live.point_history import History, Point
from moe_replay.simulate.answers.run_answer import RunAnswer
from moe_replay.simulate.sweeps.shared_inputs import Study

SIZES_TRIED = (1, 2, 4, 8, 16, 32, 64, 128, 256)  # queue sizes that are tried unasked
RATES_TRIED = 20
WHOLE_ONLY = "recorded arrivals are served whole: the answer comes once the slider is let go"
Met = Callable[[Point], bool]


@dataclass
class Search:
    """Candidates in the order in which they are preferred, what the right one meets, and what is looked for."""

    candidates: Iterator[Choice]
    meets: Met
    wanted: str


@dataclass
class PointAsking:
    """Which points are known, which are asked for.

    `show(point, note)` is called with the point that the sliders mean, `drawn()` when others have come, `told(line)`
    with how a search ended. `large` says that the trace has more selections than a quick answer simulates.
    """

    study: Study
    source: Source
    quick: Lane
    long: Lane
    numbers: Numbers
    show: Callable[[Point, str], None]
    drawn: Callable[[], None]
    told: Callable[[str], None]
    large: bool
    history: History = field(default_factory=History)
    untried: list[Choice] = field(default_factory=list)
    search: Search | None = None

    def __post_init__(self) -> None:
        self.quick.spare = self.next_untried

    def moved(self, choice: Choice) -> None:
        """Ask for a quick answer: a slider moves there. What is known exactly is shown at once."""
        self.search = None
        number = self.numbers.next()
        if self.is_exact(choice):
            self.numbers.takes(number)
            self.show(self.history.points[choice], "")
            return
        if self.is_whole_only(choice):
            self.show(self.history.points.get(choice, Point(choice)), WHOLE_ONLY)
            return

        def deliver(answer: RunAnswer | None, line: str) -> None:
            self.keep(choice, answer, line)
            self.show(self.history.points[choice], "a quick answer")

        self.quick.ask(Question(self.call(choice, 0, questions.QUICK), deliver, number))

    def released(self, choice: Choice) -> None:
        """Ask for the exact answer, seed by seed: a slider was let go there."""
        self.moved(choice)
        self.exactly(choice)

    def exactly(self, choice: Choice) -> None:
        """Ask for the exact answer to what was asked last, unless it is known."""
        if not self.is_exact(choice):
            self.ask_seed(choice, self.numbers.asked, [])

    def is_exact(self, choice: Choice) -> bool:
        """Whether the exact answer to a configuration is known."""
        known = self.history.points.get(choice)
        return known is not None and not known.quick

    def is_whole_only(self, choice: Choice) -> bool:
        """Whether a configuration cannot be answered quickly: no part of its arrivals can be served alone."""
        return self.large and choice.arrivals in NO_SEEDS

    def try_each(self, choices: Iterable[Choice]) -> None:
        """Ask for quick answers to several configurations while nothing else is asked."""
        self.untried = [
            choice for choice in choices if choice not in self.history.points and not self.is_whole_only(choice)
        ]
        self.quick.resume()

    def find(self, search: Search) -> None:
        """Ask for exact answers to one candidate after another until one meets what is wanted."""
        self.numbers.next()
        self.search = search
        self.try_candidate()

    def try_candidate(self, last: Point | None = None) -> None:
        """Go on with a search after the point that was tried last."""
        search = self.search
        if search is None:
            return
        if last is not None and search.meets(last):
            self.search = None
            self.told(f"{search.wanted}: found.")
            return
        choice = next(search.candidates, None)
        if choice is None:
            self.search = None
            self.told(f"{search.wanted}: none of those that were tried meets the limit in a steady state.")
        elif self.is_exact(choice):
            known = self.history.points[choice]
            self.show(known, "")
            self.try_candidate(known)
        else:
            self.ask_seed(choice, self.numbers.asked, [])

    def call(self, choice: Choice, seed: int, most: int | None) -> tuple:
        """Return a question's function and its arguments."""
        return questions.run, self.study, choice.axes(self.source.link), seed, most

    def ask_seed(self, choice: Choice, number: int, answers: list[RunAnswer]) -> None:
        """Ask for one more seed of an exact answer; what comes back is dropped if anything was asked since."""

        def deliver(answer: RunAnswer | None, line: str) -> None:
            if not self.numbers.is_newest(number):
                return
            if answer is None:
                self.finish(Point(choice, line=line, quick=False))
            elif len(found := [*answers, answer]) == (1 if choice.arrivals in NO_SEEDS else self.source.seeds):
                self.finish(Point.of(choice, found, quick=False))
            else:
                self.ask_seed(choice, number, found)
                self.history.add(Point.of(choice, found, quick=True))
                self.show(self.history.points[choice], f"seed {len(found) + 1} of {self.source.seeds} runs")

        self.long.ask(Question(self.call(choice, len(answers), None), deliver, number))

    def finish(self, point: Point) -> None:
        """Keep an exact answer, show it, and go on with what is searched."""
        self.history.add(point)
        self.show(point, "")
        self.try_candidate(point)

    def keep(self, choice: Choice, answer: RunAnswer | None, line: str) -> None:
        """Add a quick answer to the points."""
        self.history.add(Point(choice, line=line) if answer is None else Point.of(choice, [answer], quick=True))

    def next_untried(self) -> Question | None:
        """Return a question about a configuration that is tried unasked."""
        if not self.untried:
            return None
        choice = self.untried.pop(0)

        def deliver(answer: RunAnswer | None, line: str) -> None:
            self.keep(choice, answer, line)
            self.drawn()

        return Question(self.call(choice, 0, questions.QUICK), deliver)


def sizes(choice: Choice) -> list[Choice]:
    """Return a configuration at every queue size that is tried, smallest first."""
    return [replace(choice, queue_size=size) for size in SIZES_TRIED]


def loads(choice: Choice, most_in_flight: int, capacity_per_s: float) -> list[Choice]:
    """Return a configuration at every load that is tried, the highest first: rates, or sequences in flight."""
    if choice.arrivals == CLOSED:
        steps = [2**power for power in range(12, -1, -1) if 2**power <= most_in_flight]
        return [replace(choice, in_flight=step) for step in steps]
    rates = [capacity_per_s * step / RATES_TRIED for step in range(RATES_TRIED, 0, -1)]
    return [replace(choice, rate_per_s=float(f"{rate:.3g}")) for rate in rates]
