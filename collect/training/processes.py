"""One training over several processes: torch's DistributedDataParallel, on GPUs (nccl) or CPU cores (gloo)."""

import gc
import os
import subprocess
import sys
from dataclasses import dataclass

import numpy as np
import torch
from torch import distributed, nn

from moe_replay.traces.errors import InputError


@dataclass(frozen=True)
class Processes:
    """This process's place among all: `rank` of `count`, on its `device`. One process is a training like any other."""

    rank: int
    count: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether this process evaluates, writes and speaks."""
        return self.rank == 0

    def share(self, rows: np.ndarray) -> np.ndarray:
        """Return this process's part of a batch's rows; parts differ by one row at most."""
        return rows[self.rank :: self.count]

    def wrap(self, model: nn.Module) -> nn.Module:
        """Return the model, or its distributed form, which averages gradients over all processes."""
        if self.count == 1:
            return model
        # Stacked experts all get a gradient, zero where nothing was routed: no parameter is ever unused.
        devices = [self.device.index] if self.device.type == "cuda" else None
        return nn.parallel.DistributedDataParallel(model, device_ids=devices)

    def total(self, value: torch.Tensor) -> float:
        """Return the sum of a number over all processes."""
        if self.count > 1:
            distributed.all_reduce(value)
        return float(value)


def alone(device: torch.device) -> Processes:
    """Return the place of a process that trains by itself."""
    return Processes(0, 1, device)


def launched() -> bool:
    """Whether torchrun started this process."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def join(device: torch.device) -> Processes:
    """Return this process's place, from what torchrun put into the environment; joins the others."""
    rank, count = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    if device.type == "cuda":
        check_count(int(os.environ.get("LOCAL_WORLD_SIZE", count)), device)
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return Processes(rank, count, device)


def leave() -> None:
    """Take this process out of the group, if it joined one; what held on to it is collected before its threads end."""
    if distributed.is_initialized():
        gc.collect()
        distributed.destroy_process_group()


def check_count(count: int, device: torch.device) -> None:
    """InputError where more GPUs are asked for than there are; on a CPU any number of processes may run."""
    there = torch.cuda.device_count()
    if device.type == "cuda" and count > there:
        raise InputError(f"--gpus {count}: this machine has {there}, allowed 1..{there}")


def launch(count: int) -> int:
    """Run this very command in `count` processes through torch.distributed.run and return the exit status."""
    words = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}", "-m", "moe_replay.collect"]
    environment = {"OMP_NUM_THREADS": "1", **os.environ}
    return subprocess.run([sys.executable, *words, *sys.argv[1:]], env=environment, check=False).returncode
