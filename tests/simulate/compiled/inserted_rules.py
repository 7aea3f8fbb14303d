"""What the simulator answers where somebody has put a rule of their own into its tables of names, wherever in them.

`python inserted_rules.py TRACE FOLDER` writes FOLDER/untouched.json and FOLDER/N.json for every place N: digests of
what every shipped rule answers. Each is worked out in a process that has imported nothing of the simulator before the
rules are in their places, so that nothing counted beforehand hides what depends on an order.
"""

import contextlib
import hashlib
import importlib
import io
import json
import os
import sys
import traceback
from pathlib import Path

# Outsiders, which cost the most time, are imported once: every process begins as a copy of this one.
OUTSIDERS = ("numpy", "pyarrow.parquet", "rich", "typer", "simpy", "numba", "llvmlite.ir", "joblib", "hypothesis")
MOST_RULES = 15  # of one kind; more of them, and this says so


def insert(table, place, name, rule):
    """Put a rule into a table so that `place` others are before it, or last."""
    others = list(table.items())
    others.insert(place, (name, rule))
    table.clear()
    table.update(others)


def put_in(place):
    """Insert a rule of every kind, before any module has been imported that looks at the tables."""
    import numpy as np

    from moe_replay.simulate.policies.caches.cache_names import CACHES
    from moe_replay.simulate.policies.caches.lru import LRU
    from moe_replay.simulate.policies.prefetchers.prefetcher import Prefetcher
    from moe_replay.simulate.policies.prefetchers.prefetcher_names import PREFETCHERS

    class MostRecent(LRU):
        """Evict the expert used last."""

        def victim(self, now, kept):
            return next(expert for expert in reversed(self.order) if expert not in kept)

    class First(Prefetcher):
        """Propose the first expert of the next layer."""

        def propose(self, group):
            return [self.next_layer(group) * self.knowledge.experts]

    assert len(CACHES) <= MOST_RULES, "more rules than places are tried"
    insert(CACHES, place, "own", MostRecent)
    insert(PREFETCHERS, place, "own", First)
    from moe_replay.simulate.policies.arrivals import ARRIVALS, Arrivals

    def every_microsecond(workload, config):
        return Arrivals(workload, 1000 * np.arange(len(workload.first_pass_G)))

    insert(ARRIVALS, place, "own", every_microsecond)
    from moe_replay.simulate.config.run_config import SCHEDULERS
    from moe_replay.simulate.policies.queueing import QueueScheduler

    class LastFirst(QueueScheduler):
        """Queues whose members leave in the opposite order."""

        def enqueue(self, passes, now):
            super().enqueue(passes[::-1], now)

    insert(SCHEDULERS, place, "own", LastFirst)
    from moe_replay.simulate.policies.placement import PLACEMENTS, contiguous

    insert(PLACEMENTS, place, "own", lambda *sizes: contiguous(*sizes)[:, ::-1].copy())
    from moe_replay.simulate.config import memory_config

    for words in ("HANDLINGS", "LINKS", "SCOPES"):
        given = list(getattr(memory_config, words))
        given.insert(place, "own")
        setattr(memory_config, words, tuple(given))


def digest(columns):
    """Return a digest of the columns of a table."""
    found = hashlib.sha256()
    for name, column in sorted(columns.items()):
        found.update(name.encode() + column.tobytes())
    return found.hexdigest()[:12]


def simulated(own):
    """Return {name: what both engines answer}; with `own`, which engine runs a rule of one's own, and its answer."""
    import numpy as np
    from worlds import world

    from moe_replay.simulate.config.costs import affine
    from moe_replay.simulate.engines.engine_choice import simulate
    from moe_replay.simulate.policies.memory.memory_setup import Known
    from moe_replay.traces.errors import InputError

    rng = np.random.default_rng(0)
    experts = [[sorted(map(int, rng.choice(6, 2, replace=False))) for _ in range(3)] for _ in range(60)]
    toy = world(experts, E=6, sequence=np.arange(60) // 3, step=np.arange(60))
    known = Known(rng.integers(9, size=18).tolist(), rng.integers(9, size=18).tolist())
    found = {}
    for config in configurations(own):
        for engine in ("auto",) if own else ("compiled", "simpy"):
            records = simulate(toy, config, affine(700, 300), {"config": {}}, known, engine=engine)
            tables = [digest(columns) for columns in (records.passes, records.batches, records.transfers) if columns]
            found[f"{config.name} {engine}"] = [records.header["engine"], *tables]
        if own:
            try:
                simulate(toy, config, affine(700, 300), {"config": {}}, known, engine="compiled")
            except InputError as error:
                found[f"{config.name} compiled"] = str(error)
    return found


def configurations(own):
    """Return runs with every shipped rule of every kind, or with the own rule of every kind that it can run."""
    from moe_replay.simulate.config.memory_config import HANDLINGS, LINKS, MASKED, MemoryConfig
    from moe_replay.simulate.config.run_config import SCHEDULERS, RunConfig
    from moe_replay.simulate.policies.arrivals import ARRIVALS
    from moe_replay.simulate.policies.caches.cache_names import CACHES, SCOPES
    from moe_replay.simulate.policies.prefetchers.prefetcher_names import PREFETCHERS

    def named(table):
        return [name for name in sorted(table) if (name == "own") == own]

    told = {"closed": {"in_flight": 4}, "poisson": {"rate_per_s": 2e5, "seed": 1}, "recorded": None}
    runs = [{"arrivals": name, **told.get(name, {})} for name in named(ARRIVALS) if told.get(name, {}) is not None]
    runs += [{"scheduler": name} for name in named(SCHEDULERS)]
    memories = [{"cache": name} for name in named(CACHES)] + [{"prefetch": name} for name in named(PREFETCHERS)]
    if not own:
        filled = [name for name in named(HANDLINGS) if name not in MASKED]
        memories += [{"miss": name, "filled": True} for name in filled] + [{"scope": name} for name in named(SCOPES)]
        memories += [{"link": name, "prefetch": "popularity"} for name in named(LINKS)]
    given = {"slots": 2, "link_latency_ns": 900}
    return [RunConfig(**each) for each in runs] + [
        RunConfig(arrivals="closed", in_flight=4, memory=MemoryConfig(**{**given, **each})) for each in memories
    ]


def counted(trace, folder):
    """Return what the commands `misses`, `memory` and `sweep` say of every shipped rule."""
    from moe_replay.simulate.policies.caches.cache_names import CACHES
    from moe_replay.simulate.policies.prefetchers.prefetcher_names import PREFETCHERS

    caches = ",".join(sorted(set(CACHES) - {"own", "importance"}))
    ahead = ",".join(sorted(set(PREFETCHERS) - {"own"}))
    flat, group, swept, kept = (folder / name for name in ("flat.csv", "group.csv", "swept.parquet", "memory"))
    call("misses", trace, "--cache", caches, "--mode", "flat", "--out", flat)
    call("misses", trace, "--cache", caches, "--mode", "group", "--slots", "2", "--prefetch", ahead, "--out", group)
    costs = ("--affine", "2000,100", "--jobs", "1")
    axes = ("cache=resident,lru,lfu,static", "slots=2", "prefetch=none,popularity", "scheduler=queues,lockstep")
    axes = (*axes, "arrivals=all,closed", "in_flight=4", "expert_bytes=1000")
    call("sweep", trace, *costs, *(word for axis in axes for word in ("--axis", axis)), "--out", swept)
    slots = ("--slots", "2", "--expert-bytes", "1000", "--no-explain", "--in-flight", "4", "--miss", "load,host")
    call("memory", trace, *costs, *slots, "--cache", "lfu,lru,belady", "--out", kept)
    found = {path.name: path.read_text() for path in (flat, group)}
    return found | {"sweep": table_of(swept), "memory": runs_of(kept)}


def table_of(path):
    """Return the columns of a sweep's table that are no time of a clock."""
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(path)
    return {name: table[name].to_pylist() for name in table.column_names if not name.startswith("wall")}


def runs_of(folder):
    """Return {run: digest of its batches} of a folder of records."""
    from moe_replay.traces.runs.run_records import load_run, run_names

    return {name: digest(load_run(folder, name).batches) for name in run_names(folder)}


def call(*words):
    """Carry out a command of `simulate` in this process; its output is shown where it fails."""
    from moe_replay.simulate.__main__ import app

    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        status = app([*map(str, words)], standalone_mode=False)
    assert not status, said.getvalue()


def answer(place, trace, folder):
    """Write the answers with rules inserted at a place (None: nowhere)."""
    if place is not None:
        put_in(place)
    work = folder / f"of_{place}"
    work.mkdir()
    found = {"simulated": simulated(own=False), "counted": counted(trace, work)}
    if place is not None:
        found["own"] = simulated(own=True)
    (folder / f"{'untouched' if place is None else place}.json").write_text(json.dumps(found, default=str))


if __name__ == "__main__":
    for module in OUTSIDERS:
        importlib.import_module(module)
    assert not any(name.partition(".")[0] == "moe_replay" for name in sys.modules), "imported too early"
    here = Path(__file__).resolve()
    sys.path[:0] = [str(here.parents[3]), str(here.parents[1])]  # the package, and the worlds of these tests
    failed = False
    for place in (None, *range(MOST_RULES + 1)):
        process = os.fork()
        if not process:
            try:
                answer(place, Path(sys.argv[1]), Path(sys.argv[2]))
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        failed |= os.waitpid(process, 0)[1] != 0
    sys.exit(failed)
