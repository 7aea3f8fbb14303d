"""Steps of a quick run that take moments: each command writes one file, under a temporary name first."""

import sys

from moe_replay.collect.quick.steps import Command, Step

WRITES = """
import sys, time
from pathlib import Path
out = Path(sys.argv[1])
out.parent.mkdir(parents=True, exist_ok=True)
part = out.with_name(f".{out.name}.1.tmp")
part.write_text("half")
time.sleep(float(sys.argv[2]))
part.write_text("whole")
part.rename(out)
print("made", out.name)
"""


def writes(out, seconds=0.02, wants=()):
    return Command((sys.executable, "-S", "-c", WRITES, str(out), str(seconds)), (out,), wants)


def tiny_steps(logs):
    return [
        Step(number, name, tuple(writes(logs / name / f"{part}.csv") for part in "ab"), 0.01, 1, (f"{name}/*",))
        for number, name in enumerate(("costs", "link", "text"), 1)
    ]
