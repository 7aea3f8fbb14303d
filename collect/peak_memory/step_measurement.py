"""What training steps cost as they run: peak bytes by the device's allocator, and times measured in turns."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median

import torch

from moe_replay.collect.devices import synchronise
from moe_replay.collect.graphs.allocator_watch import watch_on

Step = Callable[[], object]


@dataclass(frozen=True)
class StepTimes:
    """Medians over rounds: `wall_ms` by the clock, `process_ms` of all cores for this process (busy machines slow the
    first, not the second), and `rounds`."""

    wall_ms: float
    process_ms: float
    rounds: int


def step_peak(step: Step, device: torch.device) -> int:
    """Return the most bytes that a step has allocated at once above what was there before it.

    Parameters, optimizer state and batch are not among them. Two steps go before: what they leave for good (compiled
    code, optimizer state, the workspaces of libraries) is there before. What the step returns is dropped.
    """
    for _ in range(2):
        step()
    synchronise(device)
    with watch_on(device) as watch:
        step()
        synchronise(device)
    return watch.peak


def step_times(steps: Mapping[str, Step], device: torch.device, rounds: int = 50) -> dict[str, StepTimes]:
    """Return the times of steps, which take turns: whatever else the machine does, all of them meet it alike.

    A turn begins with another step in each round; one round before the first is not counted.
    """
    names = list(steps)
    wall: dict[str, list[float]] = {name: [] for name in names}
    process: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(rounds + 1):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            synchronise(device)
            began, used = time.perf_counter(), time.process_time()
            steps[name]()
            synchronise(device)
            wall[name].append(time.perf_counter() - began)
            process[name].append(time.process_time() - used)
    return {
        name: StepTimes(1e3 * median(wall[name][1:]), 1e3 * median(process[name][1:]), rounds) for name in names
    }  # fmt: skip
