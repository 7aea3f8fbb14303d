"""`collect dispatch-memory`: memory and time of static against dynamic dispatch."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.progress import track

from moe_replay.collect.commands.app import Force, ImageOptions, TorchOptions, app
from moe_replay.collect.datasets.images import Images
from moe_replay.collect.devices import check_weights_fit, device_name, on_device
from moe_replay.collect.dispatch.capacity import CONVENTIONS, Capacity
from moe_replay.collect.real_layers.layer_shapes import SHAPES, shape_of
from moe_replay.collect.studies.gating_memory_cases import (
    PUBLISHED,
    Case,
    Grid,
    shape_cases,
    skewed_cases,
    trained_cases,
)
from moe_replay.collect.studies.gating_memory_study import measure_case, write_memory
from moe_replay.collect.training.classifier_training import restore
from moe_replay.traces.command_line import command
from moe_replay.traces.command_line.files import write_json
from moe_replay.traces.command_line.option_groups import grouped
from moe_replay.traces.command_line.outputs import is_made, staged
from moe_replay.traces.command_line.provenance import provenance
from moe_replay.traces.command_line.units import COUNT, SIZE
from moe_replay.traces.errors import InputError, unknown_name

MEMORY = replace(SIZE, example="40GiB", bare=2**30, whole=False, rounded=True)
CAPACITIES = "CS:0.05,CS:1,CS/E:1.25,CSk/E:1.2,CSk/E:2.4"  # Huang's two, Switch's, FastMoE's two


@dataclass(frozen=True)
class GridOptions:
    """The layers that are measured: every combination, or one layer of a published shape in their place."""

    batch: Annotated[str, typer.Option(help="Batch sizes S, tokens, with commas.")] = "100,400,1200"
    experts: Annotated[str, typer.Option(help="Experts E, with commas.")] = "16,64"
    k: Annotated[str, typer.Option(help="Experts per token, with commas.")] = "1,2,4"
    capacity: Annotated[
        str, typer.Option(help=f"Capacities of static dispatch, CONVENTION:FACTOR of {', '.join(CONVENTIONS)}.")
    ] = CAPACITIES
    like: Annotated[
        str, typer.Option(help=f"Published models' E, k and capacity at our width: {', '.join(PUBLISHED)}; or none.")
    ] = ",".join(PUBLISHED)
    width: Annotated[int, COUNT.option(low=1, help="Width of tokens.")] = 64
    hidden: Annotated[int, COUNT.option(low=1, help="Width inside an expert.")] = 256
    zipf: Annotated[float, typer.Option(min=0, help="Skew of the synthetic router; 0 is uniform.")] = 1.0
    checkpoint: Annotated[Path | None, typer.Option(help="A classifier whose first layer is measured too.")] = None
    shape: Annotated[str | None, typer.Option(help=f"One layer of this shape alone: {', '.join(SHAPES)}.")] = None
    scale: Annotated[int, COUNT.option(low=1, help="--shape: divides both widths.")] = 1

    def grid(self) -> Grid:
        """Return the grid; InputError for what is no list of numbers."""
        sweeps = {"--batch": self.batch, "--experts": self.experts, "--k": self.k}
        return Grid(
            *(tuple(command.numbers(text, option)) for option, text in sweeps.items()),
            tuple(Capacity.parse(word) for word in self.capacity.split(",")), published(self.like), self.width,
            self.hidden, self.zipf,
        )  # fmt: skip

    def check(self) -> None:
        """Refuse a scale of nothing, and beside a layer shape what it fixes itself."""
        if self.shape is None and self.scale != 1:
            raise InputError("--scale has a meaning only with --shape")
        for name in ("experts", "k", "like", "width", "hidden", "checkpoint"):
            if self.shape is not None and getattr(self, name) != getattr(GridOptions, name):
                raise InputError(f"--{name} has no meaning with --shape, which fixes experts, k and widths")


@dataclass(frozen=True)
class MeasuringOptions:
    """How is measured."""

    repetitions: Annotated[int, COUNT.option(low=1, help="Timed rounds.")] = 7
    most_memory: Annotated[
        int, MEMORY.option(low=0, show_default="2GiB", help="What would need more memory is skipped.")
    ] = 2 * 2**30
    seed: Annotated[int, COUNT.option(low=0)] = 0


@app.command("dispatch-memory")
@grouped
def dispatch_memory_command(
    out: Annotated[Path, typer.Option(help="CSV to write; what it was made with goes beside it as JSON.")],
    asked: GridOptions,
    images: ImageOptions,
    measuring: MeasuringOptions,
    machine: TorchOptions,
    force: Force = False,
) -> None:
    """Measure current and peak memory, per expert too, and time per batch of static and dynamic dispatch.

    Static dispatch gives every expert the same number of rows (masks, padding, drops), dynamic dispatch as many as the
    gate chose; `gathered` is dynamic dispatch that reorders all rows at once. For times let nothing else run. `--shape`
    measures one layer of a published shape in bfloat16, weights and inputs drawn at random, in the place of the grid.

    Example: `python -m collect dispatch-memory --like lm --batch 128 --experts 16 --out memory.csv`
    """
    if is_made(out, [asked.checkpoint], force):
        return
    where, seed = machine.pick(), measuring.seed
    cases, counted, source = cases_of(asked, images, seed, where)
    rows = []
    for case in track(cases, "measuring", counted, transient=True):  # a layer at a time: a large one fills a device
        rows += measure_case(case, measuring.repetitions, measuring.most_memory, seed)
    about = {"device": device_name(where), "threads": machine.threads, "provenance": provenance(seed)} | source
    with staged(out, [asked.checkpoint], force) as written:
        write_memory(rows, written)
        write_json(written.with_suffix(".json"), about)
    skipped = sum(row.status == "skipped" for row in rows)
    print(f"{out}: {len(rows)} rows, {skipped} skipped for want of memory")


def cases_of(
    asked: GridOptions, images: ImageOptions, seed: int, where: torch.device
) -> tuple[Iterable[Case], int, dict]:
    """Return the layers that are measured, how many, and what a table says of the images that some of them saw."""
    asked.check()
    grid = asked.grid()
    if asked.shape is not None:
        layer = shape_of(asked.shape, asked.scale)
        check_weights_fit(f"--shape {asked.shape}", layer.experts * layer.expert_bytes(torch.bfloat16), where)
        return shape_cases(layer, grid, seed, where), len(grid.batches), {}
    cases = skewed_cases(grid, seed, where)
    if asked.checkpoint is None:
        return cases, grid.cases, {}
    taken = images.read()
    trained = on_images(asked.checkpoint, taken, grid, where)
    return chain(cases, trained), grid.cases + len(trained), {"data": taken.about}


def published(like: str) -> tuple[str, ...]:
    """Return the names in --like; `none` is no name."""
    names = () if like == "none" else tuple(like.split(","))
    for name in names:
        if name not in PUBLISHED:
            raise unknown_name("published model", name, [*PUBLISHED, "none"])
    return names


def on_images(checkpoint: Path, images: Images, grid: Grid, where: torch.device) -> list[Case]:
    """Return the cases of a trained classifier's first layer on the test images."""
    model, _ = restore(checkpoint, images)
    cases = list(trained_cases(model.to(where), on_device(images.test_NF, where), images.name, grid))
    if not cases:
        raise InputError(f"--k: the checkpoint has {model.config.experts} experts, allowed 1..{model.config.experts}")
    return cases
