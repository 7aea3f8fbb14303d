"""`python -m collect`: train, record, execute and measure; `--help` lists the commands."""

import sys
from importlib import import_module
from importlib.util import find_spec

import typer

from traces.command import run

SUBJECTS = (
    "classifier", "dynamic_k", "execution", "expert_memory", "language", "layer_costs", "memory", "planning", "quick",
    "route", "rules", "shape_runs", "video", "vision",
)  # fmt: skip
WITHOUT_TORCH = (
    "collect: needs torch, which this Python lacks; from a checkout: pip install torch==2.13.0, then"
    " pip install -e '.[collect]' (or ./RUNME.sh fresh, which does both)"
)


def application() -> typer.Typer:
    """Return the application with the commands of all subjects, which importing registers."""
    for subject in SUBJECTS:
        import_module(f"collect.commands.{subject}")
    return import_module("collect.commands.app").app


if __name__ == "__main__":
    if find_spec("torch") is None:
        print(WITHOUT_TORCH, file=sys.stderr)
        sys.exit(2)
    run(application(), "collect")
