"""What the builds read: each file once, with its digest, and the reason where it cannot be read."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from moe_replay.analysis.estimates.queue_theory import Routing, routing_of
from moe_replay.analysis.reading.log_sets import COSTS, EXECUTED_TRACE, SERVING, WIDE_TRACE, LogSet
from moe_replay.analysis.reading.run_pairs import RunPair, read_pairs
from moe_replay.analysis.reading.seed_tables import Replicated, read_replicated
from moe_replay.traces.command_line.files import sha256_of
from moe_replay.traces.errors import InputError
from moe_replay.traces.file.trace_file import load_trace
from moe_replay.traces.routes import computed
from moe_replay.traces.runs.cost_table import CostTable, load_costs
from moe_replay.traces.runs.sweep_table import REPLICATIONS
from moe_replay.traces.selections import Trace


@dataclass
class Inputs:
    """The sets of a run of the analysis. `partial`: only a part of the grid was simulated, by intention."""

    sets: list[LogSet]
    partial: bool = False
    _digests: dict[str, str] = field(default_factory=dict)
    _pairs: dict[str, list[RunPair]] = field(default_factory=dict)
    _wide: dict[str, tuple[Trace | None, str]] = field(default_factory=dict)

    @property
    def of_images(self) -> list[LogSet]:
        """The sets that hold more than the logs of a language model or of a layer shape; all where none does."""
        return [log_set for log_set in self.sets if log_set.of_images and not log_set.of_shape] or self.sets

    @property
    def with_runs(self) -> list[LogSet]:
        """The sets whose executed runs are shown: those of images, and those of layer shapes."""
        shown = self.of_images
        return [log_set for log_set in self.sets if log_set.of_shape or log_set in shown]

    def read(self, log_set: LogSet, name: str, reader: Callable[[Path], object]) -> tuple[object | None, str]:
        """Return (content of a file of a set, ""), or (None, why it cannot be read), and note its digest."""
        return self._read_in(log_set.folder, log_set, name, reader)

    def read_simulated(self, log_set: LogSet, name: str, reader: Callable[[Path], object]) -> tuple[object | None, str]:
        """Return (content of a file among a set's simulated ones, ""), or (None, why not), and note its digest."""
        if log_set.simulated is None or not (log_set.simulated / name).exists():
            return None, f"{name}, which `python -m simulate logs` makes: no such file"
        return self._read_in(log_set.simulated, log_set, name, reader)

    def _read_in(
        self, folder: Path, log_set: LogSet, name: str, reader: Callable[[Path], object]
    ) -> tuple[object | None, str]:
        try:
            content = reader(folder / name)
        except InputError as error:
            return None, str(error).replace(f"{folder}/", "")
        self._digests[f"{log_set.name}/{name}"] = sha256_of(folder / name)
        return content, ""

    def note(self, place: str, digest: str) -> None:
        """Note the digest of something that was read otherwise."""
        self._digests[place] = digest

    def per_data(self, name: str, reader: Callable[[Path], object]) -> Iterator[tuple[str, object | None, str]]:
        """Yield (set, content or None, reason) of a file that belongs to the data, each distinct file once.

        A device that lacks it is passed over where another device has it for the same data.
        """
        owners = {log_set.data for log_set in self.sets if (log_set.folder / name).exists()}
        seen = set()
        for log_set in self.of_images:
            if not (log_set.folder / name).exists() and log_set.data in owners:
                continue
            content, reason = self.read(log_set, name, reader)
            digest = self._digests.get(f"{log_set.name}/{name}", log_set.name)
            if digest not in seen:
                seen.add(digest)
                yield log_set.name, content, reason

    def pairs(self, log_set: LogSet) -> list[RunPair]:
        """Return the runs of a set; read from disk the first time."""
        if log_set.name not in self._pairs:
            self._pairs[log_set.name] = read_pairs(log_set)
            self.note_runs(f"{log_set.name}/", self._pairs[log_set.name])
        return self._pairs[log_set.name]

    def replicated(self, place: str, simulated: Path | None) -> Replicated:
        """Return the replications in a folder of simulated runs, and note their digest under `place`."""
        found = read_replicated(simulated)
        if found.digest:
            self._digests[f"{place}{REPLICATIONS}"] = found.digest
        return found

    def note_runs(self, place: str, pairs: list[RunPair]) -> None:
        """Note one digest for the executed and one for the simulated runs of a place."""
        for source in ("executed", "simulated"):
            self._digests[f"{place}{source}"] = runs_digest(pairs, source)

    def wide_trace(self, log_set: LogSet) -> tuple[Trace | None, str]:
        """Return (the trace of the executed model, reason); read the first time."""
        if log_set.name not in self._wide:
            self._wide[log_set.name] = self.read(log_set, log_set.trace_name, load_trace)
        return self._wide[log_set.name]

    def used_k(self, log_set: LogSet) -> int | None:
        """Return the executed model's k; without its trace, the k that most runs name."""
        trace, _ = self.wide_trace(log_set)
        if trace is not None:
            return trace.header.model.used_k
        named = Counter(run.config["k"] for pair in self.pairs(log_set) for run in pair.statistics.values())
        return named.most_common(1)[0][0] if named else None

    def theory(self, log_set: LogSet) -> tuple[CostTable | None, Routing | None, str]:
        """Return what theory needs, (costs, routing, reason): None and the reason where it cannot be had."""
        costs, reason = self.read(log_set, COSTS, load_costs)
        if costs is None:
            return None, None, reason
        trace, reason = self.wide_trace(log_set)
        if trace is None:
            return costs, None, reason
        if len(trace.passes) != trace.T:
            return costs, None, "theory covers passes of one token only"
        model = trace.header.model
        if model.used_k not in trace.ks:
            return costs, None, "the trace did not keep the router's order, so what ran is not known"
        return costs, routing_of(computed(trace.experts_TLK[:, :, : model.used_k], model), trace.E), ""

    def used(self, name: str) -> dict[str, str]:
        """Return the digests of one kind of file, by set."""
        return {path: digest for path, digest in sorted(self._digests.items()) if path.endswith(f"/{name}")}

    def used_ending(self, endings: tuple[str, ...]) -> dict[str, str]:
        """Return the digests of the files whose names end so, by set."""
        return {path: digest for path, digest in sorted(self._digests.items()) if path.endswith(endings)}

    def within(self, folder: str) -> dict[str, str]:
        """Return the digests of the files in a folder of the sets."""
        return {path: digest for path, digest in sorted(self._digests.items()) if f"/{folder}/" in path}

    def served(self) -> dict[str, str]:
        """Return the digests of all runs of operating points."""
        return self.within(SERVING)

    def used_by_runs(self) -> dict[str, str]:
        """Return the digests of everything a table of runs rests on."""
        kinds = (COSTS, WIDE_TRACE, EXECUTED_TRACE, "executed", "simulated", REPLICATIONS)
        return {path: digest for name in kinds for path, digest in self.used(name).items()}


def runs_digest(pairs: list[RunPair], source: str) -> str:
    """Return one digest for all record files of a source: names and digests, in order of name."""
    files = sorted(item for pair in pairs for item in pair.digests.items() if item[0].startswith(f"{source}/"))
    state = hashlib.sha256("".join(f"{name} {digest}\n" for name, digest in files).encode())
    return f"{state.hexdigest()} over {len(files)} files"
