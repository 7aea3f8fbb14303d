"""A study whose policies learn: which part of the trace its configurations serve follows from where they learn."""

from __future__ import annotations

from dataclasses import replace

from moe_replay.simulate.config.run_config import RunConfig
from moe_replay.simulate.policies.halves import ALL
from moe_replay.simulate.policies.memory.knowledge_source import lesson_of
from moe_replay.simulate.sweeps.axes import configs_of
from moe_replay.simulate.sweeps.shared_inputs import Study


def taught(
    study: Study, axes: dict[str, list], seeds: list[int | None], known: str | None
) -> tuple[Study, dict[str, RunConfig], str]:
    """Return the study, its configurations, and what a reader must know of how policies learned.

    Where any of them learns from the trace itself, all configurations serve its second half, and loads are of that.
    """
    configs, trace = configs_of(axes, seeds, study.capacity_per_s, study.expert_bytes), study.opened("trace").trace
    needs = {need for config in configs.values() if config.memory for need in config.memory.needs}
    lesson = lesson_of(trace, known, needs)
    if lesson.served != ALL:
        study = replace(study, served=lesson.served)
        again = configs_of(axes, seeds, study.capacity_per_s, study.expert_bytes)
        configs = {config.name: config for config in lesson.shared(again.values())}
    return study, configs, lesson.said
