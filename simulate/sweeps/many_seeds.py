"""Replications: configurations that were run once or twice, run with many seeds, into one table of a sweep."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from moe_replay.simulate.config.run_config import RunConfig
from moe_replay.simulate.sweeps.shared_inputs import Study
from moe_replay.simulate.sweeps.sweep import sweep
from moe_replay.traces.command_line.memory_room import CONFIGURATION, check_room
from moe_replay.traces.runs.sweep_table import REPLICATIONS, SweepPoint


def replicate(
    study: Study, configs: Iterable[RunConfig], replications: int, folder: Path, jobs: int, force: bool = False
) -> list[SweepPoint]:
    """Simulate each configuration with the seeds 0..n-1, whatever its own seed; the table goes to `folder`.

    All meet the same seeds (common random numbers). InputError as in `simulate.sweeps.sweep.sweep`.
    """
    configs = list(configs)
    check_room("--replications: runs", replications * len(configs), CONFIGURATION)
    seeded = (replace(config, seed=seed) for config in configs for seed in range(replications))
    return sweep(study, {config.name: config for config in seeded}, folder / REPLICATIONS, jobs, force=force)
