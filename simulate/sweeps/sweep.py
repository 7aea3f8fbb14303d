"""A sweep from beginning to end: what is on disk is kept, the rest is carried out, and all of it becomes one table."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path

from moe_replay.simulate.config.cluster_config import ClusterConfig
from moe_replay.simulate.config.memory_config import MemoryConfig
from moe_replay.simulate.config.run_config import RunConfig
from moe_replay.simulate.engines.engine_choice import ENGINES
from moe_replay.simulate.sweeps.backends import engines_of, results_here
from moe_replay.simulate.sweeps.points import Work
from moe_replay.simulate.sweeps.run_folder import progress_bar
from moe_replay.simulate.sweeps.shared_inputs import Study
from moe_replay.simulate.sweeps.store import Store, SweepIdentity, discard, is_complete, opened_store, remove_other
from moe_replay.simulate.sweeps.workers import WorkersLostError
from moe_replay.traces.command_line.provenance import provenance as running_provenance
from moe_replay.traces.errors import InputError, unknown_name
from moe_replay.traces.file.parquet import header_digest
from moe_replay.traces.runs.sweep_table import SweepPoint, load_sweep, save_sweep

ARROW_TYPES = {"int": "int64", "float": "float64", "str": "string", "bool": "bool"}


def sweep(
    study: Study, configs: dict[str, RunConfig], out: Path, jobs: int = 0, scheduler: str | None = None,
    provenance: dict | None = None, force: bool = False,
) -> list[SweepPoint]:  # fmt: skip
    """Carry out every named configuration that is not on disk yet; return all points, in the order of `configs`.

    They are in the table `out`; while the sweep lasts, in the folder of its parts, where the same call continues.
    `jobs` processes or threads (0: one per core), or with `scheduler` the Dask cluster of that address. `provenance`
    is that of the running command unless another is given; of a sweep that was begun earlier it is that of its
    beginning. InputError for another output there, unless `force` replaces it, and, with what is finished kept, where a
    worker died.
    """
    out = Path(out)
    if not configs:
        raise InputError("the grid is empty: there is no configuration to simulate")
    if study.engine not in ENGINES:
        raise unknown_name("engine", study.engine, ENGINES)
    study = study.sealed(configs.values())
    grid = grid_of(study, configs, provenance or running_provenance())
    if force:
        remove_other(out, grid)
    if is_complete(out, grid):
        print(f"{out}: all {len(configs)} points are complete already", file=sys.stderr)
        return load_sweep(out)[0]
    engines_of(study, [(0, config) for config in configs.values()])  # refuses what an engine lacks before the first run
    with opened_store(out, grid) as store:
        finish_points(study, list(configs.values()), store, jobs, scheduler)
        store.flush()  # nothing waits any more that could be written after the folder has gone
        points = [
            SweepPoint(name, config.as_dict(), **store.results[place])
            for place, (name, config) in enumerate(configs.items())
        ]
        save_sweep(out, points, {**grid.header, "provenance": store.provenance}, column_types())
        discard(out)
    return points


def grid_of(study: Study, configs: dict[str, RunConfig], provenance: dict) -> SweepIdentity:
    """Return what makes the sweep of a sealed study this one."""
    runs = header_digest({"runs": [[name, config.as_dict()] for name, config in configs.items()]})
    inputs = {f"{name}_digest": digest for name, digest in study.digests.items()}
    return SweepIdentity({"points": len(configs), "runs_digest": runs, **inputs, "engine": study.engine}, provenance)


def finish_points(study: Study, configs: list[RunConfig], store: Store, jobs: int, scheduler: str | None) -> None:
    """Carry out the points that the store lacks; say what is kept where that is cut short."""
    pending = [(place, config) for place, config in enumerate(configs) if place not in store.results]
    if len(pending) < len(configs):
        print(f"{store.folder}: {len(configs) - len(pending)} of {len(configs)} points are there", file=sys.stderr)
    # Points of one seed serve the same sequences: one after another they cut them out of the trace once.
    pending.sort(key=lambda point: repr((point[1].seed, point[1].k, point[1].sequences)))
    try:
        with progress_bar() as progress:
            bar = progress.add_task("simulating", total=len(configs), completed=len(configs) - len(pending))
            for place, result in results(study, pending, jobs, scheduler):
                store.add(place, result)
                progress.advance(bar)
    except WorkersLostError as error:
        store.flush()
        raise InputError(f"{error}; {kept(store, configs)}") from None
    except KeyboardInterrupt:
        store.flush()
        print(f"interrupted; {kept(store, configs)}", file=sys.stderr)
        raise


def kept(store: Store, configs: list[RunConfig]) -> str:
    """Return what a sweep that was cut short leaves, in words."""
    return f"{len(store.results)} of {len(configs)} points are in {store.folder}, the same command continues there"


def results(study: Study, work: Work, jobs: int, scheduler: str | None) -> Iterator[tuple[int, dict]]:
    """Yield (place, result) of every point as it finishes."""
    if scheduler is None:
        yield from results_here(study, work, jobs)
    elif work:
        from moe_replay.simulate.sweeps.dask_cluster import results_there

        yield from results_there(study, work, scheduler)


def column_types() -> dict[str, str]:
    """Return the Arrow type of every field of a configuration, its memory and its cluster."""
    fields = [field for kind in (RunConfig, MemoryConfig, ClusterConfig) for field in dataclasses.fields(kind)]
    return {each.name: ARROW_TYPES[base] for each in fields if (base := each.type.split(" ")[0]) in ARROW_TYPES}
