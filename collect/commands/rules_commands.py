"""Commands about one trained model under several rules for K: its traces, and serving them on real weights."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress

from moe_replay.collect.commands.app import Checkpoint, Force, ImageOptions, TorchOptions, app, check_belonging
from moe_replay.collect.devices import device_name, on_device
from moe_replay.collect.execution.classifier_blocks import ClassifierOnWeights
from moe_replay.collect.recording.classifier_recording import record_trace, trace_header
from moe_replay.collect.studies.chosen_thresholds import rule_for
from moe_replay.collect.studies.delta_k_serving_study import ServingExperiment, serve
from moe_replay.collect.studies.delta_k_study import MOST
from moe_replay.collect.training.classifier_training import restore
from moe_replay.traces.command_line import command
from moe_replay.traces.command_line.option_groups import grouped
from moe_replay.traces.command_line.outputs import WAY_OUT, check_place
from moe_replay.traces.command_line.units import COUNT, SHARE
from moe_replay.traces.errors import InputError
from moe_replay.traces.file.trace_file import load_trace
from moe_replay.traces.header import Header
from moe_replay.traces.k_rules import KRule
from moe_replay.traces.runs.cost_table import load_costs
from moe_replay.traces.selections import Trace

SEEN = 5000  # training images on which a threshold for a mean K is found


@app.command("rules")
@grouped
def rules_command(
    checkpoint: Checkpoint,
    out: Annotated[Path, typer.Option(help="Folder for the traces, NAME-RULE.trace.parquet; those there are kept.")],
    name: Annotated[str, typer.Option(help="What their file names begin with.")],
    images: ImageOptions,
    machine: TorchOptions,
    rules: Annotated[str, typer.Option(help="Rules NAME:THRESHOLD[:MOST], with commas.")] = "",
    mean_k: Annotated[str, typer.Option(help="Delta rules that give these mean K on training images.")] = "",
    k: Annotated[str, typer.Option("--k", help="Fixed numbers of experts, with commas.")] = "",
    batch: Annotated[int, COUNT.option(low=1, help="Images per step.")] = 256,
    force: Force = False,
) -> None:
    """Record the test images under several rules for K: only the experts that ran, small files.

    Example: `python -m collect rules --checkpoint wide.pt --name wide --rules top-p:0.3 --k 1,2 --out rules`
    """
    check_place(out, [checkpoint], folder=True)
    ways: list[KRule | int] = [KRule.parse(rule) for rule in rules.split(",") if rule]
    ways += command.numbers(k, "--k") if k else []
    targets = command.numbers(mean_k, "--mean-k", 1, float) if mean_k else []
    taken, where = images.read(), machine.pick()
    model, description = restore(checkpoint, taken)
    model = model.to(where)
    seen = on_device(taken.train_NF[:SEEN], where), on_device(taken.train_label_N[:SEEN], where)
    ways += [rounded(rule_for("delta", target, MOST, model, *seen)[0]) for target in targets]
    for way in ways:
        path = out / f"{name}-{f'k{way}' if isinstance(way, int) else str(way).replace(':', '-')}.trace.parquet"
        expected = replace(trace_header(model, description, way, batch, where), score_kind=None)
        trace = recorded_before(path, expected, force)
        trace = trace or record_trace(model, description, taken, way, batch, where, path, only_ran=True)
        accuracy = (trace.label_S == trace.prediction_S).mean()
        print(f"{path}: mean K {(trace.experts_TLK >= 0).sum(2).mean():.3f}, accuracy {accuracy:.4f}", flush=True)


def recorded_before(path: Path, expected: Header, force: bool) -> Trace | None:
    """Return the trace that is there already, None where there is none, or `force` replaces another one."""
    if not path.exists():
        return None
    try:
        trace = load_trace(path)
        same = replace(trace.header, provenance={}) == replace(expected, provenance={})
    except InputError:
        same = False
    if not same and not force:
        raise InputError(f"{path}: exists, recorded from another model or other images, or damaged; {WAY_OUT}")
    return trace if same else None


def rounded(rule: KRule) -> KRule:
    """Return a rule whose threshold a file name can hold."""
    return KRule(rule.name, round(rule.threshold, 3), rule.most)


@dataclass(frozen=True)
class ServedOptions:
    """The arrivals, the same under every trace, and the queues."""

    queue_size: Annotated[int, COUNT.option(low=1, help="Queue size B.")] = 32
    in_flight: Annotated[str, typer.Option(help="Closed loops: sequences in flight.")] = "256,2048"
    load: Annotated[float, SHARE.option(low=0, help="Poisson arrivals, as a share of the capacity; 0: none.")] = 0.6
    replications: Annotated[int, COUNT.option(low=1, help="Replication i permutes and draws by seed i.")] = 3
    batches_per_queue: Annotated[int, COUNT.option(low=1, help="Full batches per mean queue that are measured.")] = 30

    def experiment(self) -> ServingExperiment:
        """Return the runs that every trace gets."""
        counts = tuple(command.numbers(self.in_flight, "--in-flight"))
        return ServingExperiment(self.queue_size, counts, self.load or None, self.replications, self.batches_per_queue)


@app.command("serve")
@grouped
def serve_command(
    traces: Annotated[list[Path], typer.Argument(help="Traces of one model, recorded under different rules for K.")],
    checkpoint: Checkpoint,
    costs: Annotated[Path, typer.Option(help="Cost table of this device: it fixes the rate that the load means.")],
    out: Annotated[Path, typer.Option(help="Folder for the records, one folder per trace; finished runs are kept.")],
    images: ImageOptions,
    machine: TorchOptions,
    served: ServedOptions,
    force: Force = False,
) -> None:
    """Execute the same arrivals under every trace: what does choosing K per sample change in throughput and latency?

    The arrival rate is the same for all traces: a share of the capacity at the model's own k. Let nothing else run.

    Example: `python -m collect serve rules/wide-*.trace.parquet --checkpoint wide.pt --costs costs.parquet --out runs`
    """
    check_place(out, [*traces, checkpoint, costs], folder=True)
    taken, where, table = images.read(), machine.pick(), load_costs(costs)
    model, _ = restore(checkpoint, taken)
    names = [path.name.removesuffix(".trace.parquet") for path in traces]
    if len(set(names)) < len(names):
        raise InputError(f"serve: two traces are called {max(names, key=names.count)}; allowed: different file names")
    test_NF = on_device(taken.test_NF, where)
    points = {}
    for name, path in zip(names, traces, strict=True):
        trace = load_trace(path)
        check_belonging(path, trace, costs, table, taken, where)
        points[name] = ClassifierOnWeights(model.to(where), trace, test_NF, taken.test_label_N)
    experiment = served.experiment()
    total = len(points) * experiment.replications * (len(experiment.in_flight) + bool(experiment.load))
    with Progress(transient=True) as progress:
        task = progress.add_task("executing", total=total)
        for _ in serve(points, experiment, table, model.config.k, device_name(where), out, force):
            progress.advance(task)
    print(f"{out}: {total} runs of {len(points)} operating points")
