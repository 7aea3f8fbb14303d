"""Shards: parts of a sweep that machines without a common scheduler carry out, each on its own, into one folder."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass

from moe_replay.traces.errors import InputError

MOST = 10_000
WRITTEN = re.compile(r"(\d+)/(\d+)", re.ASCII)
SCRIPT = """\
#!/bin/bash
#SBATCH --job-name=sweep
#SBATCH --array=1-{many}
#SBATCH --cpus-per-task=4
# Save this as sweep.sbatch where the command below works, then: sbatch sweep.sbatch
# A task that was killed continues when its number is submitted again: sbatch --array=3 sweep.sbatch
# When all are done, the table: {merge}
{command} --shard "$SLURM_ARRAY_TASK_ID/{many}" --jobs "$SLURM_CPUS_PER_TASK"
"""


@dataclass(frozen=True)
class Shard:
    """The `number`-th of `many` shards, from 1: the points whose places are number - 1 modulo many."""

    number: int
    many: int

    @property
    def name(self) -> str:
        """What its files are called by."""
        return f"{self.number}of{self.many}"

    def holds(self, place: int) -> bool:
        """Say whether a point of the grid belongs to it."""
        return place % self.many == self.number - 1

    def __str__(self) -> str:
        return f"{self.number}/{self.many}"


def read_shard(text: str) -> Shard:
    """Return the shard that `2/8` names; InputError for anything else."""
    found = WRITTEN.fullmatch(text)
    if not found or not 1 <= int(found[1]) <= int(found[2]) <= MOST:
        raise InputError(f"--shard is {text}, allowed I/N with 1 <= I <= N <= {MOST}, such as 2/8")
    return Shard(int(found[1]), int(found[2]))


def array_script(command: list[str], many: int) -> str:
    """Return the script of a Slurm array whose tasks carry out a sweep's command in so many shards."""
    line = shlex.join(command)
    return SCRIPT.format(many=many, command=line, merge=f"{line} --merge")
