"""What the points of a sweep share, by path: every worker opens the files itself, once, and checks what it opened."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

from moe_replay.simulate.config.costs import Cost, CostModel, read_costs, table_for
from moe_replay.simulate.config.memory_config import MASKED, MemoryConfig
from moe_replay.simulate.config.run_config import RunConfig
from moe_replay.simulate.config.run_grid import capacity_per_s
from moe_replay.simulate.config.workload import Workload, homes, trace_workload
from moe_replay.simulate.policies.halves import ALL, SECOND_HALF
from moe_replay.simulate.policies.memory.expert_worth import check_sizes, known_of
from moe_replay.simulate.policies.memory.knowledge_source import HELD_OUT, HINDSIGHT, first_half, other
from moe_replay.simulate.policies.memory.memory_setup import Known
from moe_replay.simulate.sweeps.run_folder import choices_only
from moe_replay.traces.errors import InputError
from moe_replay.traces.file.trace_file import load_trace
from moe_replay.traces.selections import Trace

WORKLOADS_KEPT = 4  # points are carried out seed by seed, so that neighbours serve the same workload


@dataclass(frozen=True)
class Study:
    """A trace, where costs come from, and the engine (one of `simulate.engines.engine_choice.ENGINES`).

    `costs` is a cost table, or a folder with one for each way to keep experts (`simulate.config.costs.table_for`);
    without one `affine` is its `A,B` in ns. `resample` draws measured repetitions. `known` is the trace that caches
    know popularity and importance from, None: the trace itself, its first half where a run serves the second. `served`
    is the part of the trace that capacities are of. `digests` is filled in by `sealed`, and from then on a file that is
    not the one it was is refused.
    """

    trace: Path
    costs: Path | None = None
    affine: str | None = None
    resample: bool = False
    known: Path | None = None
    engine: str = "auto"
    digests: dict[str, str] = field(default_factory=dict)
    served: str = ALL

    def sealed(self, configs: Iterable[RunConfig]) -> Study:
        """Return the study with the digests of the files that these configurations open.

        They are those of `trace`, `known` and `costs`, or of the tables in that folder, and of a user's own rules.
        InputError where one cannot be read, or what is known is of a model of another size.
        """
        configs, digests = list(configs), {"trace": self.opened("trace").digest}
        if self.known is not None:
            digests["known"] = self.opened("known").digest
            check_sizes(self.known, self.opened("known").trace, self.opened("trace").trace)
        for table in dict.fromkeys(table_for(self.costs, config.memory) for config in configs):
            digests[self.costs_name(table)] = self.cost_model(table).digest
        for config in configs:
            digests |= config.own_rules
        return replace(self, digests=digests)

    def absolute(self) -> Study:
        """Return the study for a process whose working folder may be another."""
        paths = {name: path for name in ("trace", "costs", "known") if (path := getattr(self, name)) is not None}
        return replace(self, **{name: path.resolve() for name, path in paths.items()})

    def workload(self, config: RunConfig) -> Workload:
        """Return the workload of a configuration; it is shared, not to be changed."""
        trace = self.opened("trace").trace
        masked = config.memory is not None and config.memory.is_masked
        found = cut_out(*stamped(self.trace), config.k, config.sequences, config.seed, masked, config.served)
        if config.cluster is None:
            return found
        return replace(found, home_T=homes(trace, config.cluster.homes, config.devices))

    def costs_of(self, config: RunConfig) -> tuple[CostModel, Cost]:
        """Return the costs of a configuration and their function; a process works out each mean once."""
        table = table_for(self.costs, config.memory)
        model = self.cost_model(table)
        if model.resampled:
            return model, model.cost(config.generator("service"))
        return model, cost_of(*stamped(table), self.affine)

    def known_to(self, config: RunConfig) -> Known | None:
        """Return what the caches of a configuration know beforehand."""
        if config.memory is None:
            return None
        name = "trace" if self.known is None else "known"
        memory, k = config.memory, config.k or self.opened(name).trace.header.model.used_k
        online, half = memory.period is not None, self.known is None and config.served == SECOND_HALF
        path = stamped(getattr(self, name))
        told = told_by(*path, half, k, memory.cache, memory.prefetch, memory.filled, online)
        return replace(told, learned=HELD_OUT if half else mark_between(*stamped(self.trace), *path))

    def capacity_per_s(
        self, k: int | None, batch: int, dense: bool, devices: int, placement: str = "contiguous"
    ) -> float:
        """Return the sequences per second if every batch holds `batch`, as `run_grid.capacity_per_s`."""
        self.opened("trace")
        model, (path, stamp) = self.cost_model(table_for(self.costs, None)), stamped(self.trace)
        workload = cut_out(path, stamp, k, None, None, False, self.served)
        if dense:
            model.check_dense(workload.layers)
        cost = replace(model, resampled=False).cost(rng=None)
        return capacity_per_s(workload, cost, batch, dense, devices, placement)

    def expert_bytes(self) -> int:
        """Return the bytes of one expert as the cost table, or else the trace's model says; InputError if none does."""
        table = self.cost_model(self.costs).table if self.costs is not None and self.costs.is_file() else None
        found = (table and table.header.get("expert_bytes")) or self.opened("trace").trace.header.model.expert_bytes
        if found is None:
            raise InputError("the trace does not say how many bytes an expert has; allowed: an axis expert_bytes")
        return found

    def opened(self, name: str) -> Opened:
        """Return the `trace` or the `known` trace; InputError if it is not the one that the study was sealed with."""
        path = getattr(self, name)
        found = open_trace(*stamped(path), False)
        self.check(name, path, found.digest)
        return found

    def cost_model(self, table: Path | None) -> CostModel:
        """Return the costs in a table, None: by the affine law; InputError as in `opened`."""
        model = read_model(*stamped(table), self.affine, self.resample)
        self.check(self.costs_name(table), table, model.digest)
        return model

    def check_own(self, config: RunConfig) -> None:
        """Refuse a user's own rule that is not here, or whose source is not the one the study was sealed with."""
        for name, digest in config.own_rules.items():
            self.check(name, name, digest)

    def costs_name(self, table: Path | None) -> str:
        """Return the name of a cost table among the digests."""
        return "costs" if table == self.costs else table.name

    def check(self, name: str, path: Path | str | None, digest: str) -> None:
        """Refuse a file that is not the one the study was sealed with."""
        if self.digests.get(name, digest) != digest:
            raise InputError(f"{path}: is {digest}, allowed {self.digests[name]}, with which the sweep began")


@dataclass(frozen=True)
class Opened:
    """A trace in memory, without scores unless they were asked for, and the digest of the whole."""

    trace: Trace
    digest: str


def stamped(path: Path | None) -> tuple[Path | None, tuple[int, ...]]:
    """Return a path and what tells that its file was written anew, so that nothing old is taken from a cache."""
    try:
        about = path.stat() if path is not None else None
    except OSError:
        about = None
    return path, (about.st_mtime_ns, about.st_size, about.st_ino) if about else ()


@lru_cache(maxsize=4)
def open_trace(path: Path, stamp: tuple, whole: bool) -> Opened:
    """Return a trace, with `whole` its scores and norms too."""
    trace = load_trace(path)
    return Opened(trace if whole else choices_only(trace), trace.digest)


@lru_cache(maxsize=8)
def read_model(path: Path | None, stamp: tuple, affine: str | None, resample: bool) -> CostModel:
    """Return the costs in a table or of an affine law."""
    return read_costs(path, affine, resample)


@lru_cache(maxsize=8)
def cost_of(path: Path | None, stamp: tuple, affine: str | None) -> Cost:
    """Return the function of costs that draw nothing: all runs share what it has worked out."""
    return read_model(path, stamp, affine, False).cost(rng=None)


@lru_cache(maxsize=WORKLOADS_KEPT)
def cut_out(
    path: Path, stamp: tuple, k: int | None, sequences: int | None, seed: int | None, masked: bool, served: str
) -> Workload:
    """Return the workload that these fields of a configuration cut out of a trace, with candidates if it is masked."""
    memory = MemoryConfig(miss=MASKED[0], filled=True) if masked else None
    config = RunConfig(k=k, sequences=sequences, seed=seed, memory=memory, served=served)
    return trace_workload(open_trace(path, stamp, masked).trace, config)


@lru_cache(maxsize=32)
def told_by(
    path: Path, stamp: tuple, half: bool, k: int, cache: str, prefetch: str, filled: bool, online: bool
) -> Known:
    """Return what a trace, or its first half, tells a cache, a prefetcher and the online scheduler beforehand."""
    masked = {"miss": MASKED[0], "filled": True, "period": 1} if online else {"filled": filled}
    memory = MemoryConfig(cache=cache, prefetch=prefetch, **masked)
    trace = open_trace(path, stamp, True).trace
    return known_of(first_half(trace).trace if half else trace, k, [memory])


@lru_cache(maxsize=8)
def mark_between(path: Path, stamp: tuple, known: Path, known_stamp: tuple) -> str:
    """Return the mark of what a trace tells of another one, or of itself."""
    if (path, stamp) == (known, known_stamp):
        return HINDSIGHT
    return other(open_trace(path, stamp, False).trace, open_trace(known, known_stamp, False).trace, known.name).mark
