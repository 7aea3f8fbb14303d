"""moe-replay: trace-driven simulation and analysis of Mixture-of-Experts models.

The rooms are packages of this one: `moe_replay.traces`, `moe_replay.collect`, `moe_replay.simulate`,
`moe_replay.analysis`, `moe_replay.figures`. In a checkout they stand beside this file; an installation puts them below
it. The package's path is the folder of this file in both cases.
"""

import os
import sys

__version__ = "0.1.0"
__path__ = [os.path.dirname(os.path.abspath(__file__))]

STAGES = ("traces", "collect", "simulate", "analysis", "figures")
USAGE = f"""usage: moe-replay STAGE COMMAND ... | moe-replay --version
  moe-replay STAGE --help lists a stage's commands; stages: {", ".join(STAGES)}"""


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
