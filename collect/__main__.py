"""`python -m collect`: train, record, execute and measure; `--help` lists the commands."""

import sys
from importlib import import_module
from importlib.util import find_spec

from traces.command import run

if __name__ == "__main__":
    if find_spec("torch") is None:
        print("collect: needs torch, which this Python lacks: pip install 'moe-replay[collect]'", file=sys.stderr)
        sys.exit(2)
    from collect.commands.app import app

    subjects = (
        "classifier", "dynamic_k", "execution", "expert_memory", "language", "memory", "planning", "route", "rules",
        "video", "vision",
    )  # fmt: skip
    for subject in subjects:
        import_module(f"collect.commands.{subject}")  # importing registers its commands

    run(app, "collect")
