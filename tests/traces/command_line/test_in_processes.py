"""Tasks in processes: a Ctrl-C while they are handed in waits until they are, and what one raises ends the others."""

import signal
import time

import pytest

from moe_replay.traces.command_line.in_processes import in_processes, interrupt_later


@pytest.fixture(autouse=True)
def heard():
    """Ctrl-C is heard, also where the tests run in the background, which inherit that it is ignored."""
    former = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, former)


def test_ctrl_c_within_the_block_comes_at_its_end():
    former, done = signal.getsignal(signal.SIGINT), []
    with pytest.raises(KeyboardInterrupt), interrupt_later():  # noqa: PT012
        signal.raise_signal(signal.SIGINT)
        done.append("block")
    assert done == ["block"]
    assert signal.getsignal(signal.SIGINT) is former


def test_an_exception_within_the_block_is_raised_and_the_handler_is_back():
    former = signal.getsignal(signal.SIGINT)
    with pytest.raises(ValueError, match="mine"), interrupt_later():
        raise ValueError("mine")
    assert signal.getsignal(signal.SIGINT) is former


def test_what_one_task_raises_ends_the_others():
    began = time.monotonic()
    with pytest.raises(ZeroDivisionError):
        in_processes(task, {"slow": (0,), "wrong": (1,)}, 2, "trying")
    assert time.monotonic() - began < 30


def task(wrong):
    return 1 // 0 if wrong else time.sleep(60)
