"""Commands about the memory of training iterations: capture one as a graph, study the orders of several."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.progress import Progress, track
from rich.table import Table

from moe_replay.collect.commands.app import Force, TorchOptions, app
from moe_replay.collect.devices import device_name
from moe_replay.collect.graphs.captured_step import CapturedStep
from moe_replay.collect.graphs.checkpointing import CHECKPOINTS
from moe_replay.collect.graphs.step_cases import DISPATCHES, STUDY, StepCase
from moe_replay.collect.graphs.step_optimizers import OPTIMIZERS
from moe_replay.collect.graphs.step_subjects import MODELS, ModelSizes
from moe_replay.collect.studies.compiled_step_study import STUDY as COMPILED
from moe_replay.collect.studies.compiled_step_study import study_case
from moe_replay.collect.studies.peak_memory_study import study_step
from moe_replay.simulate.ordering.order_result import OrderResult
from moe_replay.traces.command_line.files import write_json, write_rows
from moe_replay.traces.command_line.option_groups import grouped
from moe_replay.traces.command_line.outputs import check_place, is_made, staged
from moe_replay.traces.command_line.provenance import provenance
from moe_replay.traces.command_line.units import COUNT, duration_in
from moe_replay.traces.errors import InputError, unknown_name
from moe_replay.traces.training_graphs.graph_file import save_graph

ALLOWED = 1e-3  # of the predicted peak, between it and the allocator's
MB = 1e6
GRAPH, TABLE, COMPILED_TABLE = ".graph.json.gz", ".orders.csv", ".compiled.csv"


@dataclass(frozen=True)
class CaseOptions:
    """The iteration that is captured."""

    model: Annotated[str | None, typer.Option(help=f"{', '.join(MODELS)}; random weights and batch.")] = None
    module: Annotated[
        str | None, typer.Option(help="In its place MODULE:FUNCTION of yours: batch size -> (model, loss, batch).")
    ] = None
    batch: Annotated[int, COUNT.option(low=1, help="Images, or windows of 64 bytes.")] = 64
    checkpoint: Annotated[str, typer.Option(help=f"What is computed again: {', '.join(CHECKPOINTS)}.")] = "none"
    optimizer: Annotated[str, typer.Option(help=f"{', '.join(OPTIMIZERS)}; none ends with the gradients.")] = "adam"
    dispatch: Annotated[str, typer.Option(help=f"{', '.join(DISPATCHES)}.")] = "gathered"
    capacity: Annotated[str, typer.Option(help="Of static dispatch, CONVENTION:FACTOR.")] = "CSk/E:1.25"
    separate_experts: Annotated[bool, typer.Option("--separate-experts", help="Weights apart, not stacked.")] = False
    layers: Annotated[int, COUNT.option(low=1, help="Layers of the model.")] = 4
    experts: Annotated[int, COUNT.option(low=1, help="Experts per layer.")] = 8
    k: Annotated[int, COUNT.option(low=1, help="Experts per token; vit has 1.")] = 2

    def case(self) -> StepCase:
        """Return the case; InputError where both a model and a module are named, or neither."""
        if (self.model is None) == (self.module is None):
            raise InputError(f"--model {', '.join(MODELS)} or --module MODULE:FUNCTION: allowed: one of them")
        sizes = replace(ModelSizes(), layers=self.layers, experts=self.experts, k=self.k)
        return StepCase(
            self.model or self.module, self.batch, self.checkpoint, self.optimizer, self.dispatch,
            self.separate_experts, sizes, self.capacity, self.module is None,
        )  # fmt: skip


@app.command("graph")
@grouped
def graph_command(
    out: Annotated[Path, typer.Option(help="Graph to write, GRAPH.json or GRAPH.json.gz.")],
    asked: CaseOptions,
    machine: TorchOptions,
    orders: Annotated[str, typer.Option(help="Orders to run, with commas: names of `simulate order`.")] = "captured",
    seconds: Annotated[float, duration_in("s").option(low=0, help="For finding an order.")] = 10,
    seed: Annotated[int, COUNT.option(low=0)] = 0,
    force: Force = False,
) -> None:
    """Capture forward, backward and optimizer of one training iteration, and measure orders of its operations.

    Every order is run operation by operation. The table sets beside its predicted peak (MB above parameters, optimizer
    state and batch) what was counted and what the allocator says, and tells whether all results are eager's, bit by
    bit. Exit status 1 where one is not, or a peak is off by more than 0.1 %. Routing is fixed as it is for the batch.

    Example: `python -m collect graph --model classifier --batch 512 --checkpoint layer --out step.json`
    """
    names, case = orders.split(","), asked.case()
    search = searches(names)
    if is_made(out, [], force):
        return
    captured = case.capture(machine.pick(), seed)
    graph = replace(captured.graph, provenance=provenance(seed))
    with staged(out, [], force) as written:
        save_graph(graph, written)
    measured = {
        name: captured.measure(search(graph, name, seconds, seed).order_N)
        for name in track(names, "ordering", transient=True)
    }
    print(f"{out}: {graph.N} operations, {graph.S} storages, {len(graph.edge_E2)} edges")
    Console().print(table_of(captured, measured))
    raise typer.Exit(int(not all(map(is_fine, measured.values()))))


def searches(names: list[str]) -> Callable[..., OrderResult]:
    """Return what finds orders; InputError for an unknown name among those that will be asked for."""
    from moe_replay.simulate.ordering.order_policies import ORDERS, order  # late: with it numba, which may be absent

    for name in names:
        ORDERS.check(name)
    return order


def is_fine(found: dict) -> bool:
    """Say whether a measured order gave eager's results and the peak that was predicted."""
    off = max(abs(found[kind] - found["predicted"]) for kind in ("counted", "allocated"))
    return found["differs"] is None and off <= ALLOWED * found["predicted"]


def table_of(captured: CapturedStep, measured: dict[str, dict]) -> Table:
    """Return the measured orders below eager, for a terminal."""
    table = Table("order", "predicted MB", "counted MB", "allocated MB", "against eager", "results", box=None)
    eager = captured.eager.peak
    table.add_row("eager", "", "", f"{eager / MB:.4g}", "", "")
    for name, found in measured.items():
        peaks = [f"{found[kind] / MB:.4g}" for kind in ("predicted", "counted", "allocated")]
        same = "same bits" if found["differs"] is None else f"other {found['differs']}"
        table.add_row(name, *peaks, f"{100 * (found['allocated'] / eager - 1):+.1f} %", same)
    return table


@app.command("peak-memory")
@grouped
def peak_memory_command(
    out: Annotated[Path, typer.Option(help="Folder of NAME.graph.json.gz and NAME.orders.csv; those there are kept.")],
    machine: TorchOptions,
    graphs: Annotated[str, typer.Option(help=f"Iterations, with commas: {', '.join(STUDY)}.")] = ",".join(STUDY),
    seconds: Annotated[float, duration_in("s").option(low=0, help="For every search of an order.")] = 60,
    seed: Annotated[int, COUNT.option(low=0)] = 0,
    force: Force = False,
) -> None:
    """Capture training iterations, search orders of their operations, run each order and measure its peak.

    Each iteration leaves its graph and a table, whole or not at all, so that the same command takes up what was cut
    off. An iteration takes up to three times --seconds: the search with the optimizer interleaved, the search with it
    left at the end, and half a minute for the rest.

    Example: `python -m collect peak-memory --graphs cls-b64 --seconds 20s --out training-steps`
    """
    names = known_names(graphs, STUDY)
    check_place(out, folder=True)
    searches([])  # refused now, not after the first capture, where it cannot be imported
    device = machine.pick()
    with Progress(transient=True) as progress:
        task = progress.add_task("", total=len(names))
        for name in names:
            progress.update(task, description=f"{name}: capture")
            if force or not (out / f"{name}{TABLE}").exists():
                study(name, STUDY[name], out, device, seconds, seed, force, progress)
            progress.advance(task)
    print(f"{out}: {', '.join(names)}")


def study(
    name: str, case: StepCase, out: Path, device: torch.device, seconds: float, seed: int, force: bool,
    progress: Progress,
) -> None:  # fmt: skip
    """Study one iteration and write its graph and its table."""
    captured = case.capture(device, seed, name)
    rows = study_step(
        captured, seconds, seed,
        lambda order: progress.update(progress.task_ids[0], description=f"{name}: {order}"),
    )  # fmt: skip
    about = {"graph": name, **case.notes, "operations": captured.graph.N, "storages": captured.graph.S}
    with staged(out / f"{name}{GRAPH}", [], force) as written:
        save_graph(replace(captured.graph, provenance=provenance(seed)), written)
        write_rows(written.with_name(f"{name}{TABLE}"), [about | row for row in rows])


@app.command("compiled-steps")
@grouped
def compiled_steps_command(
    out: Annotated[Path, typer.Option(help="Folder of NAME.compiled.csv; those that are there are kept.")],
    machine: TorchOptions,
    steps: Annotated[str, typer.Option(help=f"Iterations, with commas: {', '.join(COMPILED)}.")] = ",".join(COMPILED),
    seconds: Annotated[float, duration_in("s").option(low=0, help="For every graph's search of an order.")] = 10,
    rounds: Annotated[int, COUNT.option(low=1, help="Timed steps, all ways in turns.")] = 30,
    force: Force = False,
) -> None:
    """Measure peaks and times of training iterations under eager and as inductor compiles them, with and without pass.

    Compiling takes a minute and more for each way. A way that refuses a model keeps its row, with the reason. The same
    command takes up what was cut off.

    Example: `python -m collect compiled-steps --steps cls-b512-ac --out training-steps`
    """
    names = known_names(steps, COMPILED)
    check_place(out, folder=True)
    device = machine.pick()
    if device.type != "cpu":
        raise InputError("--device cuda: the pass is of a torch that this study runs on a CPU; allowed: --device cpu")
    with Progress(transient=True) as progress:
        task = progress.add_task("", total=len(names))
        for name in names:
            if force or not (out / f"{name}{COMPILED_TABLE}").exists():
                rows = study_case(
                    COMPILED[name], seconds, rounds,
                    lambda way, name=name: progress.update(task, description=f"{name}: {way}"),
                )  # fmt: skip
                with staged(out / f"{name}{COMPILED_TABLE}", [], force) as written:
                    write_rows(written, [{"graph": name} | row for row in rows])
                    about = {"device": device_name(device), "provenance": provenance(0)}
                    write_json(written.with_suffix(".json"), about)
            progress.advance(task)
    print(f"{out}: {', '.join(names)}")


def known_names(text: str, known: Collection[str]) -> list[str]:
    """Return names with commas; InputError for one that is not known."""
    names = text.split(",")
    for name in names:
        if name not in known:
            raise unknown_name("iteration", name, known)
    return names
