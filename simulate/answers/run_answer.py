"""One run as an answer: its statistics, the part of the trace that it served, and the settings that give it again."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from moe_replay.simulate.answers.trace_part import Part, part_of
from moe_replay.simulate.config.run_config import RunConfig
from moe_replay.simulate.sweeps.points import simulated
from moe_replay.simulate.sweeps.shared_inputs import Study
from moe_replay.simulate.sweeps.taught_study import taught
from moe_replay.traces.runs.run_statistics import RunStatistics, run_statistics

RECORDED = "recorded"  # arrivals
Axes = dict[str, object]  # one value for each axis of a sweep that is set


@dataclass(frozen=True)
class RunAnswer:
    """What one seed of one configuration came to.

    `axes` are the settings as a sweep takes them, with `sequences` where only a part was served. `memory` counts what
    the caches did. `said` is what a reader must know of how policies learned.
    """

    axes: Axes
    seed: int
    part: Part
    statistics: RunStatistics
    memory: dict
    said: str = ""


def answered(study: Study, axes: Axes, seed: int, most: int | None = None) -> RunAnswer:
    """Return the answer to one configuration, served by at most `most` selections (None: the whole trace).

    Recorded arrivals have no part and no seed: all of them are served. Numbers are those of `simulate sweep` with the
    axes of the answer. InputError as there.
    """
    study, config, part, said = posed(study, axes, seed, most)
    records = simulated(study, config)
    told = dict(axes) if part.is_whole else {**axes, "sequences": part.sequences}
    return RunAnswer(told, seed, part, run_statistics(records), dict(records.header.get("memory", {})), said)


def posed(study: Study, axes: Axes, seed: int, most: int | None) -> tuple[Study, RunConfig, Part, str]:
    """Return the study and the configuration of some axes, cut to a part, and what there is to say of learning."""
    study, configs, said = taught(study, {name: [value] for name, value in axes.items()}, [seed], None)
    (config,) = configs.values()
    # Arrivals are served as they were recorded, each of them.
    part = part_of(study, config, None if config.arrivals == RECORDED else most)
    if not part.is_whole:
        config = dataclasses.replace(config, sequences=part.sequences)
    return study, config, part, said
