"""Options that are declared once, in a dataclass, and used by several commands."""

import inspect
from dataclasses import dataclass
from typing import Annotated

import pytest
import typer

from moe_replay.traces.command_line.command import new_app, status_of
from moe_replay.traces.command_line.option_groups import grouped


@dataclass(frozen=True)
class Images:
    data: Annotated[str, typer.Option(help="Data set.")]
    first: Annotated[int, typer.Option(min=1, help="How many.")] = 7


@grouped
def command(out: Annotated[str, typer.Argument()], images: Images, seed: Annotated[int, typer.Option()] = 0) -> None:
    """Say what was given."""
    print(out, images, seed)


def said(capsys, *words):
    app = new_app("")
    app.command("one")(command)
    app.command("two")(grouped(lambda: None))
    status = status_of(app, "stub", ["one", *words])
    return status, *capsys.readouterr()


def test_a_groups_fields_are_options_in_its_place(capsys):
    assert list(inspect.signature(command).parameters) == ["out", "data", "first", "seed"]
    assert said(capsys, "x", "--data", "digits", "--seed", "3")[:2] == (0, "x Images(data='digits', first=7) 3\n")
    assert said(capsys, "x", "--data", "a", "--first", "2")[1] == "x Images(data='a', first=2) 0\n"


def test_a_groups_limits_and_needs_hold(capsys):
    status, _, errors = said(capsys, "x")
    assert (status, "--data" in errors) == (2, True)
    status, _, errors = said(capsys, "x", "--data", "a", "--first", "0")
    assert (status, "--first" in errors) == (2, True)


def test_two_options_of_one_name_are_refused():
    def twice(images: Images, data: Annotated[str, typer.Option()] = "") -> None:
        """Ask for data twice."""

    with pytest.raises(TypeError, match="twice: two of its options have one name"):
        grouped(twice)


@dataclass(frozen=True)
class Engine:
    """A group with an option that another group is called by."""

    costs: str = "cheap"


@dataclass(frozen=True)
class Moving:
    """A group that another one's option is called as."""

    bandwidth: int = 1


def test_a_group_may_be_called_as_an_option_of_another_one():
    def command(costs: Moving, engine: Engine) -> None:
        assert (costs, engine) == (Moving(2), Engine("dear"))

    grouped(command)(bandwidth=2, costs="dear")
