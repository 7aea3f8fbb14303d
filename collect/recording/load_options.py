"""The options by which a training records how many tokens select each expert, and the load trace they leave."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from moe_replay.collect.recording.load_counting import LoadCounter, load_trace_of
from moe_replay.traces.command_line.outputs import check_output, is_by_this_command, staged
from moe_replay.traces.command_line.units import COUNT
from moe_replay.traces.describe_loads import counts_text
from moe_replay.traces.header import ModelInfo

Balance = Annotated[float, typer.Option(min=0, help="Weight of the balance loss; 0 trains without it.")]


@dataclass(frozen=True)
class LoadOptions:
    """Whether and how often a training counts the selections of its experts."""

    record_loads: Annotated[
        Path | None, typer.Option(help="Load trace to write: selections per counted step, layer and expert.")
    ] = None
    loads_every: Annotated[int, COUNT.option(low=1, help="With --record-loads: count the first step of so many.")] = 10

    def counter(self, inputs: Iterable[Path | None]) -> LoadCounter | None:
        """Return what counts, None where nothing is to be recorded; InputError for a place that cannot be written."""
        if self.record_loads is None:
            return None
        check_output(self.record_loads, inputs)
        return LoadCounter(self.loads_every)

    def write(self, counter: LoadCounter | None, model: ModelInfo, data: dict, about: dict) -> None:
        """Write the load trace of a finished training, where one was asked for; `about` describes the training."""
        if counter is None:
            return
        notes = {"training": about["training"], "config": about["model"]}
        with staged(self.record_loads, is_ours=is_by_this_command) as written:
            loads = load_trace_of(counter, model, data, notes, about["training"]["seed"])
            loads.save(written)
        print(f"{self.record_loads}: {counts_text(loads)}, digest {loads.digest}")
