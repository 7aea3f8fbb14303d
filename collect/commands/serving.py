"""The command that executes operating points on real weights."""

from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.progress import Progress

from collect.commands.app import (
    Checkpoint,
    Data,
    DataDir,
    Device,
    TestImages,
    Threads,
    TrainImages,
    app,
    check_belonging,
    read_images,
)
from collect.devices import device_name, on_device, pick_device
from collect.executor import TraceOnWeights
from collect.serving import ServingExperiment, serve
from collect.training import restore
from traces import command
from traces.cost_table import load_costs
from traces.errors import InputError
from traces.trace_file import load_trace


@app.command("serve")
def serve_command(
    traces: Annotated[list[Path], typer.Argument(help="Traces of one model, recorded under different rules for K.")],
    checkpoint: Checkpoint,
    costs: Annotated[Path, typer.Option(help="Cost table of this device: it fixes the rate that the load means.")],
    out: Annotated[Path, typer.Option(help="Folder for the records, one folder per trace; finished runs are kept.")],
    data: Data = "cifar10",
    data_dir: DataDir = None,
    queue_size: Annotated[int, typer.Option(min=1, help="Queue size B.")] = 32,
    in_flight: Annotated[str, typer.Option(help="Closed loops: sequences in flight.")] = "256,2048",
    load: Annotated[float, typer.Option(min=0, help="Poisson arrivals, as a share of the capacity; 0: none.")] = 0.6,
    replications: Annotated[int, typer.Option(min=1, help="Replication i permutes and draws by seed i.")] = 3,
    batches_per_queue: Annotated[int, typer.Option(min=1, help="Full batches per mean queue that are measured.")] = 30,
    device: Device = "auto",
    threads: Threads = 1,
    train_images: TrainImages = None,
    test_images: TestImages = None,
) -> None:
    """Execute the same arrivals under every trace: what does choosing K per sample change in throughput and latency?

    The arrival rate is the same for all traces: a share of the capacity at the model's own k. Let nothing else run.

    Example: `python -m collect serve rules/wide-*.trace.parquet --checkpoint wide.pt --costs costs.parquet --out runs`
    """
    torch.set_num_threads(threads)
    images = read_images(data, data_dir, train_images, test_images)
    model, _ = restore(checkpoint, images)
    where, table = pick_device(device), load_costs(costs)
    names = [path.name.removesuffix(".trace.parquet") for path in traces]
    if len(set(names)) < len(names):
        raise InputError(f"serve: two traces are called {max(names, key=names.count)}; allowed: different file names")
    test_NF = on_device(images.test_NF, where)
    points = {}
    for name, path in zip(names, traces, strict=True):
        trace = load_trace(path)
        check_belonging(path, trace, costs, table, images, where)
        points[name] = TraceOnWeights(model.to(where), trace, test_NF)
    experiment = ServingExperiment(
        queue_size, tuple(command.numbers(in_flight, "--in-flight")), load or None, replications, batches_per_queue
    )
    total = len(points) * replications * (len(experiment.in_flight) + bool(load))
    with Progress(transient=True) as progress:
        task = progress.add_task("executing", total=total)
        for _ in serve(points, experiment, table, model.config.k, device_name(where), out):
            progress.advance(task)
    print(f"{out}: {total} runs of {len(points)} operating points")
