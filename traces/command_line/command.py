"""What the five commands have in common: one line and status 2 for bad input, never a traceback."""

import contextlib
import errno
import gc
import json
import os
import re
import sys
import zipfile
from typing import Annotated

import typer

from moe_replay.traces.command_line.former_names import present_words
from moe_replay.traces.command_line.memory_room import CONFIGURATION, check_room
from moe_replay.traces.command_line.number_limits import checked
from moe_replay.traces.command_line.provenance import note_inputs
from moe_replay.traces.command_line.units import COUNT
from moe_replay.traces.errors import InputError

# Typer's errors come from click, or, in later versions, from a copy inside typer: reach them by what both export.
USAGE_ERROR = typer.BadParameter.__mro__[1]
COMMAND_ERROR = typer.BadParameter.__mro__[2]
GLOSSARY = "What a column of a table means: `python -m analysis columns NAME`, or the table's file instead of NAME."

# What the world does to a command that is right: a disk that is full, a file in another encoding, too little memory.
OUTSIDE = (OSError, MemoryError, UnicodeError, json.JSONDecodeError, zipfile.BadZipFile)
PIPE_CLOSED = 128 + 13  # as a shell reports a program that SIGPIPE ended
TEMPORARY = re.compile(r"\.[^/]*\.\d+\.tmp/?")  # as `files` and `outputs` name what they write
NO_MEMORY = re.compile(r"can't allocate memory|out of memory|not enough memory")  # torch's RuntimeErrors
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

INFINITE = ("--bandwidth",)  # options that may be inf: a link without a limit

Force = Annotated[bool, typer.Option("--force", help="Replace what is at the output, whoever made it.")]


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
    status = status_of(app, name)
    gc.freeze()  # Python would look through all of numba and pandas for garbage once more, although all of it ends now
    sys.exit(status)


def status_of(app: typer.Typer, name: str, words: list[str] | None = None) -> int:
    """Run a stage's command line, the process's own or these words; return its exit status.

    The one line that says what was wrong goes to stderr. What is a fault of the program itself is raised.
    """
    note_inputs({})
    given = sys.argv[1:] if words is None else words
    command = typer.main.get_command(app)
    for each in (command, *getattr(command, "commands", {}).values()):
        for parameter in each.params:
            parameter.callback = parameter.callback or in_range
    try:
        status = command(present_words([name, *given])[1:], prog_name=f"python -m {name}", standalone_mode=False)
        sys.stdout.flush()
        return status if isinstance(status, int) else 0
    except InputError as error:
        line = f"{name}: {error}"
    except COMMAND_ERROR as error:
        line = usage_message(error, name)
    except (typer.Abort, KeyboardInterrupt):
        return 130
    except BrokenPipeError:
        return closed_pipe()
    except SystemExit as ended:
        if isinstance(ended.__context__, BrokenPipeError):  # typer's way to end where nobody reads on
            return closed_pipe()
        raise
    except (*OUTSIDE, *arrow_errors()) as error:
        line = f"{name}: {InputError(outside_line(error))}"
    except Exception as error:
        behind = behind_it(error)
        if behind is None:
            raise
        line = f"{name}: {InputError(outside_line(behind))}"
    print(line, file=sys.stderr)
    return 2


def in_range(context: typer.Context, parameter: typer.CallbackParam, value: object) -> object:
    """Return an option's value; InputError for a number that is not finite, unless `INFINITE`, or beyond 64 bits."""
    if isinstance(value, int | float):
        name = parameter.opts[0] if parameter.opts[0].startswith("-") else parameter.name
        checked(name, value, name in INFINITE)
    return value


def closed_pipe() -> int:
    """Let nothing more be written to a pipe that nobody reads (`| head`); return the status for that."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.__stdout__.fileno())
    return PIPE_CLOSED


def arrow_errors() -> tuple[type[Exception], ...]:
    """Return the base of pyarrow's errors where that was imported."""
    arrow = sys.modules.get("pyarrow")
    return () if arrow is None else (arrow.ArrowException,)


def behind_it(error: Exception) -> BaseException | None:
    """Return what the world did where a library says it in words of its own: memory that was refused, a full disk.

    None for what is a fault of the program.
    """
    if isinstance(error, RuntimeError) and NO_MEMORY.search(str(error)):  # torch's
        return MemoryError(str(error)[:150])
    if isinstance(error, RecursionError) and "JSON" in str(error):  # brackets within brackets, a thousand deep
        return UnicodeError(str(error))
    while error is not None and not (isinstance(error, OSError) and error.errno in FULL):
        error = error.__cause__ or error.__context__
    return error


def outside_line(error: BaseException) -> str:
    """Return one line about what the machine, the disk or a file did to a command that is right, and a way out."""
    if isinstance(error, MemoryError):
        return f"needs more memory than there is ({error or 'out of memory'}); allowed: less at once"
    if isinstance(error, OSError) and error.strerror:
        place = f"{TEMPORARY.sub('', str(error.filename))}: " if error.filename else ""
        if error.errno in FULL:
            return f"{place}{error.strerror}; what was there before is left; allowed: an output on a disk with room"
        return f"{place}{error.strerror}; allowed: a file or folder that can be read, or written to"
    return f"a file cannot be read ({type(error).__name__}: {str(error)[:120]}); allowed: one of the kind asked for"


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
    """Return the comma-separated numbers of an option's value; refuse what is no number, below `low` or not finite."""
    values = []
    for word in text.split(","):
        try:
            value = COUNT.value(word) if kind is int else kind(word)
        except ValueError:
            raise InputError(
                f"{option}: {word!r} is no {kind.__name__}; allowed: numbers >= {low}, with commas"
            ) from None
        if not checked(option, value) >= low:
            raise InputError(f"{option}: {word} is not allowed; allowed: numbers >= {low}")
        values.append(value)
    return values


def listed(text: str | None, option: str, low: float = 1, kind: type = int) -> list:
    """Return the numbers of an option's value, none where it is not given."""
    return numbers(text, option, low, kind) if text else []


def seeds(replications: int) -> list[int | None]:
    """Return the seeds 0..n-1, or [None] for a run in the trace's order; refuse more than fit into memory."""
    check_room("--replications", replications, CONFIGURATION)
    return list(range(replications)) or [None]


def length_range(option: str, text: str) -> tuple[int, int]:
    """Return (low, high) of `n` or `low-high`."""
    low, _, high = text.partition("-")
    if not low.isdecimal() or not (high or low).isdecimal():
        raise InputError(f"{option} is {text!r}, allowed a number of tokens, or low-high")
    return int(low), int(high or low)
