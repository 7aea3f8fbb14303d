"""What the five commands have in common: one line and status 2 for bad input, never a traceback."""

import sys

import typer

from traces.errors import InputError


def new_app(help_text: str) -> typer.Typer:
    """Return a typer application with this project's settings."""
    return typer.Typer(
        help=help_text,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode="markdown",
    )


def run(app: typer.Typer, name: str) -> None:
    """Run a stage's command line as `python -m NAME`; an `InputError` is one line on stderr and exit status 2."""
    try:
        app(prog_name=f"python -m {name}")
    except InputError as error:
        print(f"{name}: {error}", file=sys.stderr)
        sys.exit(2)


def numbers(text: str, option: str, low: float = 1, kind: type = int) -> list:
    """Return the comma-separated numbers of an option's value; refuse what is no number or lies below `low`."""
    values = []
    for word in text.split(","):
        try:
            value = kind(word)
        except ValueError:
            raise InputError(
                f"{option}: {word!r} is no {kind.__name__}; allowed: numbers >= {low}, with commas"
            ) from None
        if not value >= low:
            raise InputError(f"{option}: {word} is not allowed; allowed: numbers >= {low}")
        values.append(value)
    return values
