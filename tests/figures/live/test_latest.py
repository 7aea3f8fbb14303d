"""Questions that overtake each other, without processes and without a browser."""

import random
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool

import pytest

from moe_replay.figures.live.latest import LOST, Lane, Numbers, Question, answer_of
from moe_replay.traces.errors import InputError


class Process:
    """Takes questions, and answers them when a test says so."""

    def __init__(self):
        self.asked = []

    def submit(self, *call):
        self.asked.append((call, Future()))
        return self.asked[-1][1]

    def answer(self, place=-1, error=None):
        call, future = self.asked[place]
        if error is None:
            future.set_result(call)
        else:
            future.set_exception(error)


class World:
    """Lanes to processes of their own, which share the numbers of one screen."""

    def __init__(self, lanes=1):
        self.numbers, self.shown, self.later = Numbers(), [], []
        self.processes = [Process() for _ in range(lanes)]
        self.lanes = [Lane(each.submit, lambda then: then(), self.numbers) for each in self.processes]

    def ask(self, name, lane=0, number=True):
        def deliver(answer, line):
            self.shown.append(line or answer[0])

        given = self.numbers.next() if number is True else number
        self.lanes[lane].ask(Question((name,), deliver, given))
        return given


def test_one_question_is_asked_at_a_time_and_only_the_newest_waits():
    world = World()
    for name in "abcd":
        world.ask(name)
    assert [call for call, _ in world.processes[0].asked] == [("a",)]
    world.processes[0].answer()
    assert [call for call, _ in world.processes[0].asked] == [("a",), ("d",)]
    assert world.shown == ["a"]  # while a slider moves without a stop, answers are shown all the same
    world.processes[0].answer()
    assert world.shown == ["a", "d"]


def test_a_stale_answer_never_covers_a_newer_one():
    world = World(lanes=2)
    world.ask("old", lane=0)
    world.ask("new", lane=1)
    world.processes[1].answer()
    world.processes[0].answer()
    assert world.shown == ["new"]


@pytest.mark.parametrize("seed", range(20))
def test_answers_in_any_order_never_go_back(seed):
    """Three processes that answer as they like: the numbers of what is shown never fall, and the newest is shown."""
    draw, world = random.Random(seed), World(lanes=3)
    for name in range(30):
        world.ask(name + 1, lane=draw.randrange(3))
        for process in world.processes:
            if draw.random() < 0.4 and process.asked and not process.asked[-1][1].done():
                process.answer()
    while open_ones := [each for each in world.processes if each.asked and not each.asked[-1][1].done()]:
        draw.choice(open_ones).answer()
    assert world.shown == sorted(world.shown)
    assert world.shown[-1] == 30


def test_a_failed_question_is_one_line_and_the_next_is_asked():
    world = World()
    world.ask("bad")
    world.ask("good")
    world.processes[0].answer(error=InputError("costs: a batch of 9 was not measured;\n allowed: 1..4"))
    world.processes[0].answer()
    assert world.shown == ["costs: a batch of 9 was not measured; allowed: 1..4", "good"]


def test_what_nobody_waits_for_is_asked_when_nothing_else_is():
    world, spare = World(), ["x", "y"]
    world.lanes[0].spare = lambda: (
        Question((spare.pop(0),), lambda answer, line: world.shown.append(answer[0])) if spare else None
    )
    world.lanes[0].resume()
    world.ask("first")
    world.processes[0].answer()  # x
    assert [call for call, _ in world.processes[0].asked] == [("x",), ("first",)]
    world.processes[0].answer()
    world.processes[0].answer()
    assert world.shown == ["x", "first", "y"]


@pytest.mark.parametrize(
    ("error", "line"),
    [(InputError("bad input"), "bad input"), (BrokenProcessPool("gone"), LOST),
     (ValueError("a slip\nof ours"), "a fault of the program: ValueError: a slip")],
)  # fmt: skip
def test_every_error_is_one_line(error, line, capsys):
    future = Future()
    future.set_exception(error)
    assert answer_of(future) == (None, line)
    assert ("ValueError: a slip" in capsys.readouterr().err) == (type(error) is ValueError)
