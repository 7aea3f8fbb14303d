"""What is chosen on the page: a configuration as the axes of a sweep, and the commands that simulate it again."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from moe_replay.simulate.answers.run_answer import RECORDED, Axes
from moe_replay.simulate.answers.time_answer import Stretch, TimeAnswer
from moe_replay.simulate.answers.trace_facts import TraceFacts
from moe_replay.simulate.interface.arguments import costs_of
from moe_replay.simulate.sweeps.axes import RESIDENT
from moe_replay.simulate.sweeps.shared_inputs import Study

QUEUES, LOCKSTEP = "queues", "lockstep"
CLOSED, POISSON = "closed", "poisson"
NO_SEEDS = (RECORDED,)  # arrivals that nothing is drawn for
LINK_OPTIONS = (  # an axis of a memory, the option of the same meaning, and the unit of its number
    ("link_bytes_per_s", "--bandwidth", "B/s"), ("link_latency_ns", "--latency", "ns"),
    ("expert_bytes", "--expert-bytes", "B"),
)  # fmt: skip


@dataclass(frozen=True)
class Source:
    """What the page was started with: a trace, its costs as they were given, and what a transfer takes.

    `link` holds axes of an expert memory that are the same in every run: bandwidth, latency, bytes of an expert.
    `seeds` is how many seeds an exact answer has. `beside` is another trace, `quality` a table of what lost gate mass
    costs, `executed` a folder of tables; each is shown where there is one.
    """

    trace: Path
    costs: str | None = None
    affine: str | None = None
    link: Axes = field(default_factory=dict)
    seeds: int = 5
    beside: Path | None = None
    quality: Path | None = None
    executed: Path | None = None

    def study(self) -> Study:
        """Return what processes open; InputError for a name that is no cost table."""
        path = None if self.costs is None else costs_of(self.costs, False).path
        return Study(self.trace, path, self.affine)

    @property
    def options(self) -> str:
        """The trace and its costs, as words of a command."""
        words = [str(self.trace)]
        words += ["--costs", self.costs] if self.costs is not None else []
        words += ["--affine", self.affine] if self.affine is not None else []
        return shlex.join(words)


@dataclass(frozen=True)
class Choice:
    """One configuration: what the sliders say.

    `queue_size` means something under queues alone, `in_flight` in a closed loop, `rate_per_s` (sequences) under
    Poisson arrivals, `slots`, `miss` and `prefetch` with a cache. `k` None is the model's own.
    """

    scheduler: str = QUEUES
    queue_size: int = 8
    arrivals: str = CLOSED
    in_flight: int = 64
    rate_per_s: float = 1.0
    k: int | None = None
    cache: str = RESIDENT
    slots: int = 1
    miss: str = "load"
    prefetch: str = "none"
    devices: int = 1

    def axes(self, link: Axes) -> Axes:
        """Return the axes that a sweep of this one configuration has; those at their defaults are left out."""
        found: Axes = {"queue_size": self.queue_size} if self.scheduler == QUEUES else {"scheduler": self.scheduler}
        found |= self.load
        found |= {"k": self.k} if self.k is not None else {}
        found |= {"devices": self.devices} if self.devices > 1 else {}
        if self.cache != RESIDENT:
            found |= {"cache": self.cache, "slots": self.slots, **link}
            found |= {"miss": self.miss} if self.miss != "load" else {}
            found |= {"prefetch": self.prefetch} if self.prefetch != "none" else {}
        return found

    @property
    def load(self) -> Axes:
        """The axis that says what arrives."""
        if self.arrivals == CLOSED:
            return {"in_flight": self.in_flight}
        return {"rate_per_s": self.rate_per_s} if self.arrivals == POISSON else {"arrivals": self.arrivals}

    @property
    def short(self) -> str:
        """What a point in a plot is called."""
        name = f"B={self.queue_size}" if self.scheduler == QUEUES else "lockstep"
        if self.cache == RESIDENT:
            return name
        prefetched = "" if self.prefetch == "none" else " + prefetch"
        return f"{name}, {self.cache} {self.slots}{prefetched}"

    def said(self, facts: TraceFacts) -> str:
        """Return the configuration in words."""
        parts = [f"B = {self.queue_size}" if self.scheduler == QUEUES else "lockstep"]
        load = {CLOSED: f"{self.in_flight} sequences in flight", POISSON: f"{self.rate_per_s:g} sequences/s"}
        parts.append(load.get(self.arrivals, "arrivals as recorded"))
        parts.append(f"k = {self.k or facts.used_k}")
        if self.cache == RESIDENT:
            parts.append("all experts resident")
        else:
            parts.append(f"{self.slots} of {facts.experts} experts a layer in slots, {self.cache}, misses {self.miss}")
            parts += [] if self.prefetch == "none" else [f"prefetch {self.prefetch}"]
        if self.devices > 1:
            parts.append(f"{self.devices} devices")
        return ", ".join(parts)


def commands_of(source: Source, axes: Axes, seeds: int) -> str:
    """Return the two commands that give a configuration's numbers: a sweep of one point, and its table."""
    words = " ".join(f"--axis {shlex.quote(f'{axis}={value}')}" for axis, value in axes.items())
    # A name of its own for every configuration: a sweep refuses to replace another.
    out = f"what-if-{sha256(f'{source.options} {words} {seeds}'.encode()).hexdigest()[:6]}"
    return (
        f"python -m simulate sweep {source.options} {words} --replications {seeds} --out {out}.parquet\n"
        f"python -m analysis runs {out}.parquet --out {out}.csv"
    )


def miss_command(source: Source, policies: Sequence[str], slots: int, k: int, grouping: str) -> str:
    """Return the command that counts misses at one number of slots."""
    names = ",".join(policies)
    trace = shlex.quote(str(source.trace))
    return f"python -m simulate misses {trace} --cache {names} --slots {slots} --k {k} --group {grouping}"


def timeline_commands(source: Source, choice: Choice, answer: TimeAnswer, stretch: Stretch) -> str:
    """Return the commands that write a stretch of a run as a timeline for Perfetto: its records, then the file."""
    words = [*run_words(choice), *([] if choice.arrivals in NO_SEEDS else ["--replications", "1"])]
    words += ["--sequences", str(answer.part.sequences)] if "sequences" in answer.axes else []
    kind = "run"
    if choice.cache != RESIDENT:
        kind, words = "memory", [*words, *memory_words(choice, source.link)]
    line = shlex.join(words)
    out = f"what-if-{sha256(f'{source.options} {line}'.encode()).hexdigest()[:6]}"
    return (
        f"python -m simulate {kind} {source.options} {line} --out {out}\n"
        f"python -m simulate timeline {shlex.quote(f'{out}/{answer.name}')} --from {stretch.from_ns}ns "
        f"--to {stretch.to_ns}ns --out {out}.pftrace"
    )


def run_words(choice: Choice) -> list[str]:
    """Return the options of a run: what is served, and in which order."""
    words = ["--scheduler", choice.scheduler, "--arrivals", choice.arrivals]
    words += ["--queue-size", str(choice.queue_size)] if choice.scheduler == QUEUES else []
    words += ["--in-flight", str(choice.in_flight)] if choice.arrivals == CLOSED else []
    words += ["--rate", repr(choice.rate_per_s)] if choice.arrivals == POISSON else []
    words += ["--k", str(choice.k)] if choice.k is not None else []
    return words + (["--devices", str(choice.devices)] if choice.devices > 1 else [])


def memory_words(choice: Choice, link: Axes) -> list[str]:
    """Return the options of an expert memory, without the worlds that explain it."""
    words = ["--cache", choice.cache, "--slots", str(choice.slots), "--miss", choice.miss]
    words += ["--prefetch", choice.prefetch, "--no-explain"]
    for axis, option, unit in LINK_OPTIONS:
        words += [option, f"{link[axis]}{unit}"] if axis in link else []
    return words
