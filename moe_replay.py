"""moe-replay: trace-driven simulation and analysis of Mixture-of-Experts models.

For programs: `load_trace`, `trace_from_arrays` and `synthetic` return a `Trace`; `replay` simulates one run of it,
`sweep` many, `count_misses` counts the misses of expert caches without time, `plan` finds slots of layers within a
budget, `place` puts experts on devices, `order` orders a training graph. Bad input raises `InputError`, in one line.
Each is imported when it is first asked for.

The rooms are packages of this one: `moe_replay.traces`, `moe_replay.collect`, `moe_replay.simulate`,
`moe_replay.analysis`, `moe_replay.figures`. In a checkout they are beside this file; an installation puts them below
it. The package's path is the folder of this file in both cases.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from moe_replay.simulate.interface.arguments import Settings
    from moe_replay.simulate.interface.budget_plans import Plans, plan
    from moe_replay.simulate.interface.expert_places import Placements, place
    from moe_replay.simulate.interface.graph_orders import Order, order
    from moe_replay.simulate.interface.miss_counting import MissCounts, count_misses
    from moe_replay.simulate.interface.replaying import Run, replay
    from moe_replay.simulate.interface.sweeping import SweepResult, sweep
    from moe_replay.traces.errors import InputError
    from moe_replay.traces.file.trace_file import load_trace, save_trace
    from moe_replay.traces.new_traces import synthetic, trace_from_arrays
    from moe_replay.traces.selections import Trace

__version__ = "0.1.0"
__path__ = [os.path.dirname(os.path.abspath(__file__))]

__all__ = [
    "InputError", "MissCounts", "Order", "Placements", "Plans", "Run", "Settings", "SweepResult", "Trace",
    "count_misses", "load_trace", "order", "place", "plan", "replay", "save_trace", "sweep", "synthetic",
    "trace_from_arrays",
]  # fmt: skip
HOMES = {
    "traces.errors": ("InputError",), "traces.selections": ("Trace",),
    "traces.file.trace_file": ("load_trace", "save_trace"), "traces.new_traces": ("synthetic", "trace_from_arrays"),
    "simulate.interface.arguments": ("Settings",), "simulate.interface.replaying": ("Run", "replay"),
    "simulate.interface.miss_counting": ("MissCounts", "count_misses"),
    "simulate.interface.graph_orders": ("Order", "order"),
    "simulate.interface.expert_places": ("Placements", "place"),
    "simulate.interface.sweeping": ("SweepResult", "sweep"), "simulate.interface.budget_plans": ("Plans", "plan"),
}  # fmt: skip
STAGES = ("traces", "collect", "simulate", "analysis", "figures")
USAGE = f"""usage: moe-replay STAGE COMMAND ... | moe-replay --version
  moe-replay STAGE --help lists a stage's commands; stages: {", ".join(STAGES)}"""


def __getattr__(name: str) -> object:
    """Return a name of the interface, imported now: importing the package itself imports nothing heavy."""
    for module, names in HOMES.items():
        if name in names:
            from importlib import import_module

            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """Return the names of the interface and of the rooms."""
    return sorted([*globals(), *__all__, *STAGES])


def main() -> None:
    """Run `moe-replay STAGE ...`, which is `python -m moe_replay.STAGE ...`; exit status 2 for an unknown stage."""
    words = sys.argv[1:]
    if words == ["--version"]:
        print(f"moe-replay {__version__}")
    elif not words or words[0] in ("-h", "--help"):
        print(USAGE)
    elif words[0] not in STAGES:
        sys.exit(refused(words[0]))
    else:
        import runpy

        del sys.argv[1]
        runpy.run_module(f"{__name__}.{words[0]}", run_name="__main__", alter_sys=True)


def refused(stage: str) -> int:
    """Say that there is no such stage; return exit status 2."""
    print(f"moe-replay: unknown stage {stage!r}; known: {', '.join(STAGES)} (see moe-replay --help)", file=sys.stderr)
    return 2
