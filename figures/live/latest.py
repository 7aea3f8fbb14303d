"""Questions that overtake each other: one is asked at a time, only the newest waits, no answer covers a newer one."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field

from moe_replay.traces.errors import InputError

LOST = "the process that simulates died (killed, or out of memory); move a slider to start it anew"
Deliver = Callable[[object, str], None]  # (answer, "") or (None, the line that says what is wrong)


@dataclass
class Numbers:
    """Numbers of the questions of one screen, in the order in which they were asked."""

    asked: int = 0
    shown: int = 0

    def next(self) -> int:
        """Return the number of a new question."""
        self.asked += 1
        return self.asked

    def takes(self, number: int) -> bool:
        """Say whether an answer may be shown: none to a newer question is. From now on no older one may."""
        if number < self.shown:
            return False
        self.shown = number
        return True

    def is_newest(self, number: int) -> bool:
        """Say whether nothing was asked since."""
        return number == self.asked


@dataclass(frozen=True)
class Question:
    """A function with its arguments, and who gets the answer.

    `number` is None where an answer is wanted whatever was asked since.
    """

    call: tuple
    deliver: Deliver
    number: int | None = None


@dataclass
class Lane:
    """Asks one question at a time of one process.

    `submit(function, *arguments)` returns a Future. `on_loop` takes a function that is to run where the page is
    changed: answers come from other threads. `spare` is asked for a question when nothing else waits.
    """

    submit: Callable[..., Future]
    on_loop: Callable[[Callable[[], None]], None]
    numbers: Numbers
    spare: Callable[[], Question | None] = field(default=lambda: None)
    running: Question | None = None
    waiting: Question | None = None

    def ask(self, question: Question) -> None:
        """Ask now, or when the running question is answered; of those that wait only the newest is kept."""
        if self.running is None:
            self._begin(question)
        else:
            self.waiting = question

    def resume(self) -> None:
        """Ask a spare question if nothing runs."""
        if self.running is None and (question := self.spare()) is not None:
            self._begin(question)

    def _begin(self, question: Question) -> None:
        self.running = question
        future = self.submit(*question.call)
        future.add_done_callback(lambda done: self.on_loop(lambda: self._finish(question, done)))

    def _finish(self, question: Question, done: Future) -> None:
        # The next one begins before the page is changed, so that the process does not wait for that.
        following, self.running, self.waiting = self.waiting, None, None
        if following is not None:
            self._begin(following)
        if question.number is None or self.numbers.takes(question.number):
            question.deliver(*answer_of(done))
        self.resume()


def answer_of(done: Future) -> tuple[object, str]:
    """Return what a question came to: its answer, or one line about what is wrong."""
    if done.cancelled():
        return None, LOST
    error = done.exception()
    if error is None:
        return done.result(), ""
    if isinstance(error, BrokenProcessPool):
        return None, LOST
    if not isinstance(error, InputError):  # a fault of the program: the page says so, the terminal says where
        traceback.print_exception(error, file=sys.stderr)
        return None, f"a fault of the program: {type(error).__name__}: {error}".splitlines()[0]
    return None, " ".join(str(error).split())
