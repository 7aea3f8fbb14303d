"""`python -m collect`: train, record, execute and measure; `--help` lists the commands."""

import sys
from importlib import import_module
from importlib.util import find_spec
from pkgutil import iter_modules

import typer

from moe_replay.collect import commands
from moe_replay.traces.command_line.command import run

WITHOUT_TORCH = (
    "collect: needs torch, which this Python lacks; from a checkout: pip install torch==2.13.0, then"
    " pip install -e '.[collect]' (or ./RUNME.sh fresh, which does both)"
)


def application() -> typer.Typer:
    """Return the application with the commands of all modules in `commands`, which importing registers."""
    for module in sorted(found.name for found in iter_modules(commands.__path__)):
        import_module(f"{commands.__name__}.{module}")
    return import_module("moe_replay.collect.commands.app").app


if __name__ == "__main__":
    if find_spec("torch") is None:
        print(WITHOUT_TORCH, file=sys.stderr)
        sys.exit(2)
    run(application(), "collect")
