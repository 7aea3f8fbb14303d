"""A sweep from beginning to end: what is on disk is kept, the rest is carried out, and all of it becomes one table."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from moe_replay.simulate.config.cluster_config import ClusterConfig
from moe_replay.simulate.config.memory_config import MemoryConfig
from moe_replay.simulate.config.run_config import RunConfig
from moe_replay.simulate.engines.engine_choice import ENGINES
from moe_replay.simulate.sweeps.backends import engines_of, results_here
from moe_replay.simulate.sweeps.points import Work
from moe_replay.simulate.sweeps.run_folder import progress_bar
from moe_replay.simulate.sweeps.shards import Shard
from moe_replay.simulate.sweeps.shared_inputs import Study
from moe_replay.simulate.sweeps.store import Store, SweepIdentity, discard, is_complete, opened_store, remove_other
from moe_replay.simulate.sweeps.workers import WorkersLostError
from moe_replay.traces.command_line.provenance import provenance as running_provenance
from moe_replay.traces.errors import InputError, unknown_name
from moe_replay.traces.file.parquet import header_digest
from moe_replay.traces.file.trace_file import parts_folder
from moe_replay.traces.runs.sweep_table import SweepPoint, load_sweep, save_sweep

ARROW_TYPES = {"int": "int64", "float": "float64", "str": "string", "bool": "bool"}


def sweep(
    study: Study, configs: dict[str, RunConfig], out: Path, jobs: int = 0, scheduler: str | None = None,
    provenance: dict | None = None, force: bool = False, shard: Shard | None = None,
) -> list[SweepPoint]:  # fmt: skip
    """Carry out every named configuration that is not on disk yet; return all points, in the order of `configs`.

    They are in the table `out`; while the sweep lasts, in the folder of its parts, where the same call continues.
    `jobs` processes or threads (0: one per core), or with `scheduler` the Dask cluster of that address. `provenance`
    is that of the running command unless another is given; of a sweep that was begun earlier it is that of its
    beginning. Of a `shard` alone, its points are carried out and returned, and stay in the folder: `merged` makes the
    table. InputError for another output there, unless `force` replaces it, and, with what is finished kept, where a
    worker died.
    """
    out, study, grid = begin(study, configs, out, provenance)
    if force:
        remove_other(out, grid)
    if is_complete(out, grid):
        print(f"{out}: all {len(configs)} points are complete already", file=sys.stderr)
        points = load_sweep(out)[0]
        return points if shard is None else [each for place, each in enumerate(points) if shard.holds(place)]
    engines_of(study, [(0, config) for config in configs.values()])  # refuses what an engine lacks before the first run
    with opened_store(out, grid, shard) as store:
        asked = {place: each for place, each in enumerate(configs.values()) if shard is None or shard.holds(place)}
        finish_points(study, asked, store, jobs, scheduler)
        store.flush()  # nothing waits any more that could be written after the folder has gone
        points = points_of(configs, store, asked)
        if shard is None:
            write_table(out, points, grid, store)
    return points


def merged(study: Study, configs: dict[str, RunConfig], out: Path, provenance: dict | None = None) -> list[SweepPoint]:
    """Make the table of a sweep whose shards have carried out all points; return them.

    The bytes are those of the sweep without shards. InputError, with what is there kept, if points are missing.
    """
    out, _, grid = begin(study, configs, out, provenance)
    if is_complete(out, grid):
        print(f"{out}: is merged already", file=sys.stderr)
        return load_sweep(out)[0]
    if not parts_folder(out).is_dir():
        raise InputError(f"{parts_folder(out)}: no such folder; allowed: what the shards of this sweep wrote")
    with opened_store(out, grid) as store:
        missing = [place for place in range(len(configs)) if place not in store.results]
        if missing:
            first = list(configs)[missing[0]]
            raise InputError(
                f"{store.folder}: {len(missing)} of {len(configs)} points are missing, the first is number"
                f" {missing[0] + 1}, {first}; allowed: all shards of this sweep, carried out to the end"
            )
        points = points_of(configs, store, range(len(configs)))
        write_table(out, points, grid, store)
    return points


def begin(
    study: Study, configs: dict[str, RunConfig], out: Path, provenance: dict | None
) -> tuple[Path, Study, SweepIdentity]:
    """Return (table, sealed study, identity) of a sweep; InputError for an empty grid or an unknown engine."""
    if not configs:
        raise InputError("the grid is empty: there is no configuration to simulate")
    if study.engine not in ENGINES:
        raise unknown_name("engine", study.engine, ENGINES)
    study = study.sealed(configs.values())
    return Path(out), study, grid_of(study, configs, provenance or running_provenance())


def points_of(configs: dict[str, RunConfig], store: Store, places: Iterable[int]) -> list[SweepPoint]:
    """Return the finished points at some places of the grid."""
    named = list(configs.items())
    return [SweepPoint(named[place][0], named[place][1].as_dict(), **store.results[place]) for place in places]


def write_table(out: Path, points: list[SweepPoint], grid: SweepIdentity, store: Store) -> None:
    """Write the table of all points, and take the folder of parts away."""
    save_sweep(out, points, {**grid.header, "provenance": store.provenance}, column_types())
    discard(out)


def grid_of(study: Study, configs: dict[str, RunConfig], provenance: dict) -> SweepIdentity:
    """Return what makes the sweep of a sealed study this one."""
    runs = header_digest({"runs": [[name, config.as_dict()] for name, config in configs.items()]})
    inputs = {f"{name}_digest": digest for name, digest in study.digests.items()}
    return SweepIdentity({"points": len(configs), "runs_digest": runs, **inputs, "engine": study.engine}, provenance)


def finish_points(study: Study, configs: dict[int, RunConfig], store: Store, jobs: int, scheduler: str | None) -> None:
    """Carry out the points, by their places, that the store lacks; say what is kept where that is cut short."""
    pending = [(place, config) for place, config in configs.items() if place not in store.results]
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


def kept(store: Store, configs: dict[int, RunConfig]) -> str:
    """Return what a sweep that was cut short leaves, in words."""
    done = len(store.results.keys() & configs.keys())
    return f"{done} of {len(configs)} points are in {store.folder}, the same command continues there"


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
