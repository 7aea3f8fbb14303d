"""`python -m collect device|train|route|quality|costs|execute`."""

import sys
from importlib.util import find_spec

from traces.command import run

if __name__ == "__main__":
    if find_spec("torch") is None:
        print("collect: needs torch, which this Python lacks: pip install 'moe-replay[collect]'", file=sys.stderr)
        sys.exit(2)
    from collect.commands import classifier, dynamic_k, memory, serving, vision  # noqa: F401 - importing registers their commands
    from collect.commands.app import app

    run(app, "collect")
