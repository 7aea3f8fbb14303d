"""Who carries the points out: threads of this process for compiled work, processes for SimPy, or a Dask cluster."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool

import joblib

from simulate.engines import BACKEND_OF, engine_for
from simulate.policies.config import RunConfig
from simulate.sweeps.points import Work, carry_out
from simulate.sweeps.study import Study
from traces.errors import InputError

BACKENDS = ("joblib", "dask")


class WorkersLostError(InputError):
    """Those who carry the points out are gone; what they finished is not."""


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
        many = min(jobs if jobs > 0 else joblib.cpu_count(), len(points))
        here = many == 1 or engine == "compiled"
        shared = study if here else study.absolute()
        parallel = joblib.Parallel(many, backend=BACKEND_OF[engine], return_as="generator_unordered")
        try:
            with quiet_tracker():
                outcomes = parallel(joblib.delayed(placed)(shared, place, config) for place, config in points)
            yield from outcomes
        except BrokenProcessPool:
            raise WorkersLostError(
                "a worker process died in the middle of a point (killed, or out of memory)"
            ) from None


@contextlib.contextmanager
def quiet_tracker() -> Iterator[None]:
    """Keep joblib's resource tracker, a process that is started here, from warning of what a dead worker left behind.

    It cleans that up after this process has ended, and would say so after the one line that says what happened.
    """
    before = os.environ.get("PYTHONWARNINGS")
    os.environ["PYTHONWARNINGS"] = ",".join(filter(None, [before, "ignore:resource_tracker"]))
    try:
        yield
    finally:
        del os.environ["PYTHONWARNINGS"]
        if before is not None:
            os.environ["PYTHONWARNINGS"] = before


def placed(study: Study, place: int, config: RunConfig) -> tuple[int, dict]:
    """Return the place and the result of a point."""
    return place, carry_out(study, config)
