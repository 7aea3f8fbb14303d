"""Options that several commands share: a dataclass whose fields are options, declared once, and what makes it so.

    @dataclass(frozen=True)
    class ImageOptions:
        data: Annotated[str, typer.Option(help="Data set.")] = "cifar10"

    @app.command()
    @grouped
    def route(images: ImageOptions, out: ...) -> None: ...

The command line of `route` has `--data`; the function gets `images.data`.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import typing
from collections.abc import Callable

KEYWORD = inspect.Parameter.KEYWORD_ONLY


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """Return a command in which every parameter that is a dataclass is replaced by its fields, each one an option.

    The result takes its parameters by name, as typer gives them. TypeError where two of them have one name.
    """
    hints = typing.get_type_hints(command, include_extras=True)
    groups = {name: hints[name] for name in inspect.signature(command).parameters if is_group(hints[name])}
    parameters = list(options_of(command))
    if len({each.name for each in parameters}) < len(parameters):
        raise TypeError(f"{command.__name__}: two of its options have one name")

    @functools.wraps(command)
    def called(**given: object) -> None:
        # All groups take their fields before any takes its place: a group may be called as another one's field is.
        made = {
            name: group(**{each.name: given.pop(each.name) for each in dataclasses.fields(group)})
            for name, group in groups.items()
        }
        return command(**given, **made)

    del called.__wrapped__  # typer asks for the signature of this function, not of the one below it
    called.__signature__ = inspect.Signature(parameters)
    called.__annotations__ = {each.name: each.annotation for each in parameters} | {"return": None}
    return called


def is_group(hint: object) -> bool:
    """Say whether a parameter's type is a group of options."""
    return isinstance(hint, type) and dataclasses.is_dataclass(hint)


def options_of(command: Callable[..., None]) -> typing.Iterator[inspect.Parameter]:
    """Yield the parameters of a command, with the fields of a group in its place."""
    hints = typing.get_type_hints(command, include_extras=True)
    for name, parameter in inspect.signature(command).parameters.items():
        if is_group(hints[name]):
            of_group = typing.get_type_hints(hints[name], include_extras=True)
            for each in dataclasses.fields(hints[name]):
                default = inspect.Parameter.empty if each.default is dataclasses.MISSING else each.default
                yield inspect.Parameter(each.name, KEYWORD, default=default, annotation=of_group[each.name])
        else:
            yield parameter.replace(kind=KEYWORD, annotation=hints[name])
