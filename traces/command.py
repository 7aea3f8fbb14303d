"""What the five commands have in common: one line and status 2 for bad input, never a traceback."""

import sys

import typer

from traces.errors import InputError

# Typer's errors come from click, or, in later versions, from a copy inside typer: reach them by what both export.
USAGE_ERROR = typer.BadParameter.__mro__[1]
COMMAND_ERROR = typer.BadParameter.__mro__[2]
GLOSSARY = "What a column of a table means: `python -m analysis columns NAME`, or the table's file instead of NAME."


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
    """Run a stage's command line as `python -m NAME`; bad input is one line on stderr and status 2.

    Every command's help ends with where columns are explained.
    """
    for command in app.registered_commands:
        command.epilog = command.epilog or GLOSSARY
    try:
        status = app(prog_name=f"python -m {name}", standalone_mode=False)
    except InputError as error:
        print(f"{name}: {error}", file=sys.stderr)
        status = 2
    except COMMAND_ERROR as error:
        print(usage_message(error, name), file=sys.stderr)
        status = 2
    except OSError as error:  # a full disk, a folder one may not write to
        print(f"{name}: {error}", file=sys.stderr)
        status = 1
    except typer.Abort:
        status = 130
    sys.exit(status if isinstance(status, int) else 0)


def usage_message(error: Exception, name: str) -> str:
    """Return one line about a wrong option or command that names the known ones; the help where nothing was asked."""
    message = error.format_message()
    if type(error).__name__ == "NoArgsIsHelpError":
        return message
    context = getattr(error, "ctx", None)
    line = " ".join(message.split())
    if context is None:
        return f"{name}: {line}"
    if line.startswith("No such option"):
        line += f" known: {', '.join(word for each in context.command.params for word in each.opts if word[0] == '-')}"
    elif line.startswith("No such command"):
        line += f" known: {', '.join(sorted(context.command.commands))}"
    return f"{name}: {line} (see {context.command_path} --help)"


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


def length_range(option: str, text: str) -> tuple[int, int]:
    """Return (low, high) of `n` or `low-high`."""
    low, _, high = text.partition("-")
    if not low.isdecimal() or not (high or low).isdecimal():
        raise InputError(f"{option} is {text!r}, allowed a number of tokens, or low-high")
    return int(low), int(high or low)
