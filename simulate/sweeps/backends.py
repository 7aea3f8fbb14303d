"""Who carries the points out: threads of this process for compiled work, processes for SimPy, or a Dask cluster."""

from __future__ import annotations

from collections.abc import Iterator

from moe_replay.simulate.config.run_config import RunConfig
from moe_replay.simulate.engines.engine_choice import engine_for
from moe_replay.simulate.sweeps.points import Work, carry_out
from moe_replay.simulate.sweeps.shared_inputs import Study
from moe_replay.simulate.sweeps.workers import cores, unordered


def engines_of(study: Study, work: Work) -> dict[str, Work]:
    """Return the points of each engine, none empty; InputError where an engine lacks what a point asks for."""
    found: dict[str, Work] = {}
    for place, config in work:
        found.setdefault(engine_for(study.engine, config), []).append((place, config))
    return dict(sorted(found.items()))


def results_here(study: Study, work: Work, jobs: int) -> Iterator[tuple[int, dict]]:
    """Yield (place, result) of every point as it finishes, on so many cores of this machine, 0 for all.

    WorkersLostError where a process died in the middle of a point.
    """
    for engine, points in engines_of(study, work).items():
        many = cores(jobs, len(points))
        here = many == 1 or engine == "compiled"
        shared = study if here else study.absolute()
        yield from unordered(placed, ((shared, place, config) for place, config in points), many, engine)


def placed(study: Study, place: int, config: RunConfig) -> tuple[int, dict]:
    """Return the place and the result of a point."""
    return place, carry_out(study, config)
