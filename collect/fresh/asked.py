"""What a fresh set of logs is asked for: which data and device, the calls that collect it, and what may run beside."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from moe_replay.collect.fresh.scale import Scale


@dataclass(frozen=True)
class Files:
    """A word of a command that means files which an earlier command makes: all that match, sorted."""

    pattern: Path

    def __str__(self) -> str:
        return str(self.pattern)

    def found(self) -> list[str]:
        """Return the files there are; the pattern itself where there is none, for the command to refuse."""
        return sorted(map(str, self.pattern.parent.glob(self.pattern.name))) or [str(self.pattern)]


@dataclass(frozen=True)
class Call:
    """A command of `python -m STAGE`. `makes`: a file that is kept where it is there, whatever the exit status."""

    words: tuple[object, ...]
    stage: str = "collect"
    makes: Path | None = None

    def __str__(self) -> str:
        return " ".join(map(str, (self.stage, *self.words)))

    def vector(self) -> list[str]:
        """Return the arguments behind the program's name."""
        return [each for word in self.words for each in (word.found() if isinstance(word, Files) else [str(word)])]


@dataclass(frozen=True)
class Part:
    """Calls one after another, `said` before them. `beside` runs on the other core: nothing in such a part is timed."""

    said: str
    calls: tuple[Call, ...]
    beside: tuple[Call, ...] = ()


@dataclass(frozen=True)
class Fresh:
    """What is collected: which data, where from (None: MOE_REPLAY_DATA or the hub), on which device, to where.

    `device` is as it was asked for, `name` the name of its folder; `clips` holds video/static and video/moving.
    `plans`: whether what searches plans and orders can run.
    """

    scale: Scale
    data: str
    device: str
    name: str
    logs: Path
    models: Path
    data_dir: Path | None = None
    clips: Path | None = None
    plans: bool = True

    @property
    def text(self) -> Path:
        """The folder of the language model's logs, one for all image data."""
        return self.logs / self.name / "text"

    @property
    def set(self) -> Path:
        """The folder of the images' logs."""
        return self.logs / self.name / self.data

    @property
    def source(self) -> tuple[object, ...]:
        """The options that say where data come from."""
        return () if self.data_dir is None else ("--data-dir", self.data_dir)

    @property
    def images(self) -> tuple[object, ...]:
        """The options of every command that reads images."""
        return ("--data", self.data, "--device", self.device, *self.scale.image_sizes, *self.source)

    @property
    def base(self) -> Path:
        """The classifier whose quality at every k is measured."""
        return self.models / f"{self.data}-k4-seed0-epochs{self.scale.quality_epochs}.pt"

    @property
    def wide(self) -> Path:
        """The classifier whose blocks are executed."""
        return self.models / f"{self.data}-wide.pt"

    @property
    def language(self) -> tuple[object, ...]:
        """The options of every command that runs the language model."""
        return ("--device", self.device, "--checkpoint", self.models / "language.pt")

    @property
    def traces(self) -> dict[str, Path]:
        """The language model's traces, by phase."""
        return {phase: self.text / f"language-{phase}.trace.parquet" for phase in ("prefill", "decode", "stepwise")}
