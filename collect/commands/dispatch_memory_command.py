"""The command of the memory study: static against dynamic dispatch."""

from itertools import chain
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.progress import track

from moe_replay.collect.commands.app import (
    Data,
    DataDir,
    Device,
    Force,
    TestImages,
    Threads,
    TrainImages,
    app,
    read_images,
)
from moe_replay.collect.datasets.images import Images
from moe_replay.collect.devices import check_weights_fit, device_name, on_device, pick_device
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
from moe_replay.traces.command_line.outputs import is_made, staged
from moe_replay.traces.command_line.provenance import provenance
from moe_replay.traces.errors import InputError, unknown_name

CAPACITIES = "CS:0.05,CS:1,CS/E:1.25,CSk/E:1.2,CSk/E:2.4"  # Huang's two, Switch's, FastMoE's two
EXPERTS, KS, LIKE, WIDTH, HIDDEN = "16,64", "1,2,4", ",".join(PUBLISHED), 64, 256


@app.command("memory")
def memory_command(
    out: Annotated[Path, typer.Option(help="CSV to write; what it was made with goes beside it as JSON.")],
    batch: Annotated[str, typer.Option(help="Batch sizes S, tokens, with commas.")] = "100,400,1200",
    experts: Annotated[str, typer.Option(help="Experts E, with commas.")] = EXPERTS,
    k: Annotated[str, typer.Option(help="Experts per token, with commas.")] = KS,
    capacity: Annotated[
        str, typer.Option(help=f"Capacities of static dispatch, CONVENTION:FACTOR of {', '.join(CONVENTIONS)}.")
    ] = CAPACITIES,
    like: Annotated[
        str, typer.Option(help=f"Published models' E, k and capacity at our width: {', '.join(PUBLISHED)}; or none.")
    ] = LIKE,
    width: Annotated[int, typer.Option(min=1, help="Width of tokens.")] = WIDTH,
    hidden: Annotated[int, typer.Option(min=1, help="Width inside an expert.")] = HIDDEN,
    zipf: Annotated[float, typer.Option(min=0, help="Skew of the synthetic router; 0 is uniform.")] = 1.0,
    checkpoint: Annotated[Path | None, typer.Option(help="A classifier whose first layer is measured too.")] = None,
    shape: Annotated[str | None, typer.Option(help=f"One layer of this shape alone: {', '.join(SHAPES)}.")] = None,
    scale: Annotated[int, typer.Option(min=1, help="--shape: divides both widths.")] = 1,
    data: Data = "cifar10",
    data_dir: DataDir = None,
    train_images: TrainImages = None,
    test_images: TestImages = None,
    repetitions: Annotated[int, typer.Option(min=1, help="Timed rounds.")] = 7,
    most_gib: Annotated[float, typer.Option(min=0, help="What would need more memory is skipped.")] = 2.0,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    device: Device = "auto",
    threads: Threads = 1,
    force: Force = False,
) -> None:
    """Measure current and peak memory, per expert too, and time per batch of static and dynamic dispatch.

    Static dispatch gives every expert the same number of rows (masks, padding, drops), dynamic dispatch as many as the
    gate chose; `gathered` is dynamic dispatch that reorders all rows at once. For times let nothing else run. `--shape`
    measures one layer of a published shape in bfloat16, weights and inputs drawn at random, in the place of the grid.

    Example: `python -m collect memory --like lm --batch 128 --experts 16 --out memory.csv`
    """
    torch.set_num_threads(threads)
    if is_made(out, [checkpoint], force):
        return
    where = pick_device(device)
    sweeps = {"--batch": batch, "--experts": experts, "--k": k}
    grid = Grid(
        *(tuple(command.numbers(text, option)) for option, text in sweeps.items()),
        tuple(Capacity.parse(word) for word in capacity.split(",")), published(like), width, hidden, zipf,
    )  # fmt: skip
    cases, counted, source = skewed_cases(grid, seed, where), grid.cases, {}
    if checkpoint is not None:
        images = read_images(data, data_dir, train_images, test_images)
        trained = on_images(checkpoint, images, grid, where)
        cases, counted = chain(cases, trained), counted + len(trained)
        source = {"data": {"name": images.name, "digest": images.digest, "note": images.note}}
    if shape is None and scale != 1:
        raise InputError("--scale has a meaning only with --shape")
    if shape is not None:
        check_alone({"--experts": (experts, EXPERTS), "--k": (k, KS), "--like": (like, LIKE), "--width": (width, WIDTH),
                     "--hidden": (hidden, HIDDEN), "--checkpoint": (checkpoint, None)})  # fmt: skip
        layer = shape_of(shape, scale)
        check_weights_fit(f"--shape {shape}", layer.experts * layer.expert_bytes(torch.bfloat16), where)
        cases, counted = shape_cases(layer, grid, seed, where), len(grid.batches)
    rows = []
    for case in track(cases, "measuring", counted, transient=True):  # a layer at a time: a large one fills a device
        rows += measure_case(case, repetitions, most_gib * 2**30, seed)
    about = {"device": device_name(where), "threads": threads, "provenance": provenance(seed)} | source
    with staged(out, [checkpoint], force) as written:
        write_memory(rows, written)
        write_json(written.with_suffix(".json"), about)
    skipped = sum(row.status == "skipped" for row in rows)
    print(f"{out}: {len(rows)} rows, {skipped} skipped for want of memory")


def check_alone(given: dict[str, tuple[object, object]]) -> None:
    """Refuse what a layer shape fixes itself; `given` holds (value, default) by option."""
    for option, (value, default) in given.items():
        if value != default:
            raise InputError(f"{option} has no meaning with --shape, which fixes experts, k and widths")


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
