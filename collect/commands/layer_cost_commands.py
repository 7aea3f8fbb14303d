"""Commands that measure layers of published shapes: layer-costs, link. They parse, read, call, write."""

import gc
import time
from functools import partial
from pathlib import Path
from typing import Annotated, NamedTuple

import pyarrow as pa
import torch
import typer
from rich.progress import Progress

from moe_replay.collect.commands.app import Force, TorchOptions, app
from moe_replay.collect.devices import device_name
from moe_replay.collect.execution.calibration import CalibrationPlan
from moe_replay.collect.real_layers.expert_timing import LayerTimes, TimesPlan
from moe_replay.collect.real_layers.layer_shapes import SHAPES, LayerShape, shape_of
from moe_replay.collect.real_layers.layer_stack import LayerStack, StackConfig
from moe_replay.collect.real_layers.link_timing import LinkPlan, fitted, measure_link, sizes_of
from moe_replay.collect.real_layers.loop_costs import LOOP, SIZES, measure_loop
from moe_replay.traces.command_line import command
from moe_replay.traces.command_line.option_groups import grouped
from moe_replay.traces.command_line.outputs import check_place
from moe_replay.traces.command_line.provenance import FORCE, provenance
from moe_replay.traces.command_line.units import COUNT, SECONDS
from moe_replay.traces.errors import InputError
from moe_replay.traces.file.mixed_table import load_mixed, save_mixed
from moe_replay.traces.runs import layer_times, link_table
from moe_replay.traces.runs.cost_table import load_costs

SHARE_OF_LOOP = 0.7  # of the seconds of a shape; the rest is for the times outside the loop
MOST_TOKENS, MOST_STREAMS = 1 << 20, 32
DENSE = "norm and router of a layer in the middle of a model, without attention"

ENDINGS = (".costs.parquet", ".times.parquet", "-alone.costs.parquet")
KINDS = (None, layer_times.KIND, None)  # of mixed tables; cost tables have none

Scale = Annotated[int, COUNT.option(low=1, help="Divides both widths: small shapes for a CPU.")]


class ShapeFiles(NamedTuple):
    """The files of a shape: costs in the loop, times alone, and the costs that those make."""

    costs: Path
    times: Path
    alone: Path


@app.command("layer-costs")
@grouped
def layer_costs_command(
    out: Annotated[Path, typer.Option(help="Folder for the three files of every shape.")],
    machine: TorchOptions,
    shapes: Annotated[list[str] | None, typer.Argument(help=f"Published shapes: {', '.join(SHAPES)}; all.")] = None,
    scale: Scale = 1,
    sizes: Annotated[str, typer.Option(help="Tokens per expert, with commas.")] = ",".join(map(str, SIZES)),
    repetitions: Annotated[int, COUNT.option(low=1, help="Most repetitions of everything.")] = 20,
    seconds: Annotated[float, SECONDS.option(low=0, help="Per shape: no repetition but the first begins later.")] = 12,
    force: Force = False,
) -> None:  # fmt: skip
    """Measure one layer of published shapes, random weights in bfloat16: cost tables, and times by four ways.

    SHAPE.costs.parquet is of the executor's own loop, SHAPE-alone.costs.parquet of the device alone, without queues and
    launches; both serve models of any number of layers. SHAPE.times.parquet has the times of experts and dense blocks
    alone, by the wall clock and by CUDA events, and those of a step of all experts, one after another and grouped. A
    shape whose files are there is left alone. Let nothing else run.

    Example: `python -m collect layer-costs olmoe --device cpu --scale 16 --sizes 1,8,64 --out shapes`
    """
    check_place(out, folder=True)
    where, plan = machine.pick(), CalibrationPlan(at_most(MOST_TOKENS, sizes, "--sizes"), repetitions)
    for shape in [shape_of(name, scale) for name in shapes or SHAPES]:
        begun = time.monotonic()
        files = ShapeFiles(*(out / f"{shape.name}{ending}" for ending in ENDINGS))
        identity = {"device": device_name(where), "model": StackConfig(shape, 1).about(), "sizes": list(plan.sizes)}
        made = [is_measured(path, identity, force, kind) for path, kind in zip(files, KINDS, strict=True)]
        if made[:2] == [True, True]:
            if not made[2]:
                layer_times.costs_alone(files.times).save(files.alone)
            print(f"{shape.name}: is there already, {FORCE} makes it anew")
            continue
        said = measure_shape(shape, where, plan, seconds, {**identity, "threads": machine.threads}, files)
        print(f"{shape.name}: {said}, {time.monotonic() - begun:.1f} s", flush=True)


def measure_shape(
    shape: LayerShape, where: torch.device, plan: CalibrationPlan, seconds: float, about: dict, files: ShapeFiles
) -> str:
    """Measure one shape, write its files, give its memory back, and return what was measured in words."""
    about |= {"torch": torch.__version__, "expert_bytes": shape.expert_bytes(torch.bfloat16)}
    about["provenance"] = provenance(plan.seed)
    model = LayerStack(StackConfig(shape, 1), where)
    plan_of_times = TimesPlan(plan.sizes, plan.repetitions, (1 - SHARE_OF_LOOP) * seconds)
    with Progress(transient=True) as progress:
        bar = progress.add_task(f"{shape.name} in the loop", total=None)
        step = partial(progress.advance, bar)
        table = measure_loop(
            model, where, plan, SHARE_OF_LOOP * seconds, {**about, "dense": DENSE, "measured": LOOP}, lambda _: step()
        )
        table.save(files.costs)
        timed = LayerTimes(model, where, plan_of_times)
        found = timed.measure(lambda _: step())
    header = {**about, "forms": layer_times.MEANINGS, "lacking": timed.lacking}
    save_mixed(files.times, found, header, layer_times.KIND)
    layer_times.costs_alone(files.times).save(files.alone)
    lacking = "".join(f"; {name}: {reason}" for name, reason in timed.lacking.items())
    del model, timed
    give_back(where)
    return f"{len(table.columns['tokens'])} batches in the loop, {len(found)} times alone{lacking}"


def is_measured(path: Path, identity: dict, force: bool, kind: str | None = None) -> bool:
    """Say whether a whole file of the same device, shape and sizes is there; InputError for another one.

    `kind` is that of a mixed table; a cost table has none. How long was measured makes no other file: what was begun
    with another budget is continued.
    """
    if force or not path.exists():
        return False
    header = load_mixed(path, kind)[1] if kind else load_costs(path).header
    for name, wanted in identity.items():
        if header.get(name) != wanted:
            raise InputError(
                f"{path}: exists, its {name} is {header.get(name)}, asked for {wanted}; allowed: {FORCE} to replace it,"
                " or another folder"
            )
    return True


def at_most(most: int, text: str, option: str) -> tuple[int, ...]:
    """Return the numbers of an option; InputError for one above `most`."""
    found = tuple(command.numbers(text, option))
    if max(found) > most:
        raise InputError(f"{option}: {max(found):,} is not allowed; allowed: 1..{most:,}, with commas")
    return found


def give_back(where: torch.device) -> None:
    """Free what a shape took on a GPU before the next one."""
    gc.collect()
    if where.type == "cuda":
        torch.cuda.empty_cache()


@app.command("link")
@grouped
def link_command(
    out: Annotated[Path, typer.Option(help="Table to write; its header holds the fitted links.")],
    machine: TorchOptions,
    shapes: Annotated[str, typer.Option(help="Published shapes, with commas.")] = ",".join(SHAPES),
    scale: Scale = 1,
    streams: Annotated[str, typer.Option(help="Copies at once, with commas.")] = "1,2,3,4",
    repetitions: Annotated[int, COUNT.option(low=1)] = 10,
    seconds: Annotated[float, SECONDS.option(low=0, help="No repetition but the first three begins later.")] = 8,
    force: Force = False,
) -> None:
    """Measure what it takes to bring experts of published shapes to the device: pinned and pageable, 1 to 4 streams.

    Latency and bandwidth are fitted for each; `simulate memory --link FILE` takes them. On a CPU a plain copy within
    host memory stands in.

    Example: `python -m collect link --shapes olmoe --device cpu --scale 16 --out link.parquet`
    """
    check_place(out)
    where, chosen = machine.pick(), [shape_of(name, scale) for name in shapes.split(",")]
    sizes = sizes_of([shape.expert_bytes(torch.bfloat16) for shape in chosen])
    plan = LinkPlan(tuple(sizes), at_most(MOST_STREAMS, streams, "--streams"), repetitions, seconds)
    identity = {"device": device_name(where), "shapes": [shape.name for shape in chosen], "streams": list(plan.streams)}
    if is_measured(out, identity, force, link_table.KIND):
        print(f"{out}: is there already, {FORCE} makes it anew")
        return
    with Progress(transient=True) as progress:
        bar = progress.add_task("copying", total=None)
        table = measure_link(where, plan, lambda *_: progress.advance(bar))
    write_link(out, table, {**identity, "threads": machine.threads, "provenance": provenance(plan.seed)})
    print(f"{out}: {len(table)} copies of {len(sizes)} sizes")


def write_link(out: Path, table: pa.Table, about: dict) -> None:
    """Write the copies with the links that are fitted to them, and say what those are."""
    links = fitted(table)
    kinds = dict.fromkeys(link["host_memory"] for link in links)
    meanings = {kind: link_table.MEANINGS[kind] for kind in kinds}
    save_mixed(out, table, {**about, "links": links, "memories": meanings, "torch": torch.__version__}, link_table.KIND)
    for link in links:
        print(
            f"{link['host_memory']}, {link['copies']} at once: {link['bytes_per_s'] / 1e9:.1f} GB/s,"
            f" {link['latency_ns'] / 1e3:.1f} us (median error {link['error_percent']} %)"
        )
