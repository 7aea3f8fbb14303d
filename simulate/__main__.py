"""`python -m simulate run|sweep|compose|like|open-loop|misses|memory|plan|costs`: parses, reads, calls, writes."""

import fnmatch
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress

from moe_replay.simulate.commands.by_name import Costs, costs_command
from moe_replay.simulate.commands.compile_command import compile_command
from moe_replay.simulate.commands.memory_command import memory_command
from moe_replay.simulate.commands.misses_command import misses_command
from moe_replay.simulate.commands.plan_command import plan_command
from moe_replay.simulate.commands.sweep_command import sweep_command
from moe_replay.simulate.config.composition import ARRIVALS as COMPOSED_ARRIVALS
from moe_replay.simulate.config.composition import Demand, Engine, compose
from moe_replay.simulate.config.costs import CostModel, read_costs, table_for
from moe_replay.simulate.config.run_config import SCHEDULERS, RunConfig
from moe_replay.simulate.config.run_grid import RunGrid, capacity_per_s
from moe_replay.simulate.config.workload import trace_workload
from moe_replay.simulate.engines.engine_choice import ENGINES
from moe_replay.simulate.policies.arrivals import ARRIVALS
from moe_replay.simulate.policies.memory.knowledge_source import file_of, lesson_again
from moe_replay.simulate.policies.placement import PLACEMENTS
from moe_replay.simulate.sweeps.many_seeds import replicate
from moe_replay.simulate.sweeps.open_loop_runs import OpenLoopPlan, rule_files, simulate_open_loop
from moe_replay.simulate.sweeps.run_folder import new_runs, refuse_failed, report
from moe_replay.simulate.sweeps.shared_inputs import Study
from moe_replay.traces.command_line import command
from moe_replay.traces.command_line.number_limits import whole_ns
from moe_replay.traces.command_line.outputs import check_output, check_place, staged
from moe_replay.traces.command_line.provenance import provenance
from moe_replay.traces.errors import InputError
from moe_replay.traces.file.trace_file import load_trace, save_trace
from moe_replay.traces.routes import uncomputed
from moe_replay.traces.runs.run_records import load_run, run_names
from moe_replay.traces.selections import Trace

app = command.new_app("Simulate: what a recorded workload costs under another queue size, arrivals or placement.")

TracePath = Annotated[Path, typer.Argument(metavar="TRACE", help="A trace.")]
Out = Annotated[Path, typer.Option(help="Folder for the run records; runs that are complete there are kept.")]
Jobs = Annotated[int, typer.Option(min=0, help="Processes; 0 is one per core.")]
Affine = Annotated[str | None, typer.Option(metavar="A,B", help="Instead of a table: A + B n ns for every batch of n.")]
Resample = Annotated[bool, typer.Option("--resample", help="Draw measured repetitions instead of taking their means.")]
Scheduler = Annotated[str, typer.Option(help=f"{SCHEDULERS.choices}; several with commas.")]
QueueSize = Annotated[str, typer.Option(help="B of the queues; several with commas.")]
DenseQueueSize = Annotated[int | None, typer.Option(min=1, help="B of the dense queues, if it is another.")]
MaxStep = Annotated[str | None, typer.Option(help="Most passes in a lockstep step; default all that wait.")]
TimeoutUs = Annotated[float | None, typer.Option(min=0, help="A queue is ready when its head waited this long.")]
ArrivalProcess = Annotated[str, typer.Option(help=f"{ARRIVALS.choices}.")]
InFlight = Annotated[str | None, typer.Option(help="Closed loop: sequences in flight; several with commas.")]
Load = Annotated[str | None, typer.Option(help="Poisson: rate over capacity at the largest B; several with commas.")]
Rate = Annotated[str | None, typer.Option(help="Poisson: sequences per second; several with commas.")]
K = Annotated[str | None, typer.Option(help="Experts per token; default the model's own; several with commas.")]
Sequences = Annotated[int | None, typer.Option(min=1, help="Sequences to serve, the trace cycled; default each once.")]
Replications = Annotated[int, typer.Option(min=0, help="Seeds 0..n-1; 0: one run in the trace's order.")]
NoDense = Annotated[bool, typer.Option("--no-dense", help="Leave the dense blocks out.")]
Devices = Annotated[int, typer.Option(min=1, help="Devices; communication is not modelled.")]
Placement = Annotated[str, typer.Option(help=f"{PLACEMENTS.choices}.")]
EngineName = Annotated[str, typer.Option(help=f"{', '.join(ENGINES)}: the same records, the compiled one sooner.")]
Only = Annotated[str, typer.Option(metavar="PATTERN", help="Only the runs whose names match, such as `*closed512*`.")]


@app.command("run")
def run_command(
    trace_path: TracePath, out: Out,
    costs: Costs = None, affine: Affine = None, resample: Resample = False,
    scheduler: Scheduler = "queues", queue_size: QueueSize = "1", dense_queue_size: DenseQueueSize = None,
    max_step: MaxStep = None, timeout_us: TimeoutUs = None,
    arrivals: ArrivalProcess = "all", in_flight: InFlight = None, load: Load = None, rate: Rate = None,
    k: K = None, sequences: Sequences = None, replications: Replications = 1, no_dense: NoDense = False,
    devices: Devices = 1, placement: Placement = "contiguous", engine: EngineName = "auto", jobs: Jobs = 0,
    force: command.Force = False,
) -> None:  # fmt: skip
    """Simulate the cross product of all lists.

    Example: `python -m simulate run wide.trace.parquet --costs costs.parquet --queue-size 1,8,64 --arrivals closed
    --in-flight 64,512 --replications 3 --out simulated`
    """
    sweep = RunGrid(
        fixed={
            **given(dense_queue_size=dense_queue_size, timeout_ns=in_ns("--timeout-us", timeout_us)),
            "arrivals": arrivals, "sequences": sequences, "dense": not no_dense, "devices": devices,
            "placement": placement,
        },
        schedulers=scheduler.split(","),
        queue_sizes=command.numbers(queue_size, "--queue-size"),
        max_steps=listed(max_step, "--max-step") or [None],
        in_flight=listed(in_flight, "--in-flight"),
        loads=listed(load, "--load", 1e-9, float), rates_per_s=listed(rate, "--rate", 1e-9, float),
        ks=listed(k, "--k") or [None], seeds=command.seeds(replications),
    )  # fmt: skip
    check_place(out, [trace_path, costs], folder=True)
    trace, cost_model = load_trace(trace_path), read_costs(costs, affine, resample)
    configs = sweep.configs(capacities(sweep, trace, cost_model) if sweep.loads else {})
    runs = new_runs(trace, cost_model, out, configs, engine=engine, force=force)
    report(runs, {config.name: config for config in configs}, jobs)


@app.command("compose")
def compose_command(
    trace_path: TracePath,
    out: Annotated[Path, typer.Option(help="Trace to write.")],
    costs: Costs = None, affine: Affine = None,
    token_budget: Annotated[int, typer.Option(min=1, help="Most tokens of a step.")] = 256,
    most_running: Annotated[int, typer.Option(min=1, help="Most sequences that run at once.")] = 16,
    chunk: Annotated[int | None, typer.Option(min=1, help="Most tokens of a prompt per step; default: whole.")] = None,
    arrivals: Annotated[str, typer.Option(help=f"{', '.join(COMPOSED_ARRIVALS)}.")] = "all",
    rate: Annotated[float | None, typer.Option(min=1e-9, help="Poisson: sequences per second.")] = None,
    sequences: Sequences = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Permutes the sequences and draws the arrivals.")] = None,
    no_dense: NoDense = False,
    force: command.Force = False,
) -> None:  # fmt: skip
    """Put recorded sequences together as a serving engine would: continuous batching, a token budget, chunked prefill.

    The steps take the lockstep time of the costs. `run --arrivals steps` replays them, `--arrivals recorded` arrivals.

    Example: `python -m simulate compose toy.trace.parquet --affine 20000,500 --arrivals poisson --rate 40
    --token-budget 64 --chunk 16 --out composed.trace.parquet`
    """
    engine, demand = Engine(token_budget, most_running, chunk), Demand(arrivals, rate, sequences, seed)
    check_output(out, [trace_path, costs], force)
    trace, cost_model = load_trace(trace_path), read_costs(costs, affine, resample=False)
    if not no_dense:
        cost_model.check_dense(trace.L)
    with Progress(transient=True) as progress:
        task = progress.add_task("composing", total=None if sequences else trace.T)
        made, end_ns = compose(
            trace, engine, demand, cost_model.cost(rng=None), not no_dense, lambda rows: progress.advance(task, rows)
        )
    with staged(out, [trace_path, costs], force) as written:
        save_trace(replace(made, header=replace(made.header, provenance=provenance(seed))), written)
    steps = int(made.step_T[-1]) + 1
    print(f"{out}: {made.S} sequences, {made.T} tokens in {steps} steps, the last ends at {end_ns / 1e9:.3f} s")
    for said in uncomputed(trace, trace.header.model.used_k):
        print(f"no expert's time: {said}")


@app.command("like")
def like_command(
    executed: Annotated[Path, typer.Argument(metavar="EXECUTED", help="Folder of executed runs, or of such folders.")],
    trace_path: Annotated[
        Path, typer.Argument(metavar="TRACE", help="Their trace, or a folder with NAME.trace.parquet.")
    ],
    out: Out,
    costs: Costs = None,
    affine: Affine = None,
    resample: Resample = False,
    only: Only = "*",
    known: Annotated[
        str | None, typer.Option(metavar="TRACE|hindsight", help="The trace that the executed runs learned from.")
    ] = None,
    replications: Annotated[
        int, typer.Option(min=0, help="Besides, every configuration with seeds 0..n-1, into one table.")
    ] = 0,
    engine: EngineName = "auto",
    jobs: Jobs = 0,
    force: command.Force = False,
) -> None:
    """Simulate every executed run's own configuration, under its own name.

    Where runs keep experts differently `--costs` is a folder with resident.parquet, load.parquet, masked.parquet.
    With `--replications` the statistics of many seeds stand in OUT/replications.parquet, a table of a sweep.
    With folders of both (operating points, say) the runs in EXECUTED/NAME are simulated on TRACE/NAME.trace.parquet.

    Example: `python -m simulate like executed wide.trace.parquet --costs costs.parquet --out simulated`
    """
    check_place(out, [executed, trace_path, costs, file_of(known)], folder=True)
    work, repeated = [], []
    for folder, path, target in executed_folders(executed, trace_path, out):
        trace = load_trace(path)
        names = fnmatch.filter(run_names(folder), only)
        if not names:
            raise InputError(f"{folder}: no complete run whose name matches {only!r}")
        headers = {name: executed_header(folder, name, trace) for name in names}
        configs = {name: RunConfig.from_dict(header["config"]) for name, header in headers.items()}
        for table, served in dict.fromkeys((table_for(costs, each.memory), each.served) for each in configs.values()):
            own = {name: config for name, config in configs.items()
                   if (table_for(costs, config.memory), config.served) == (table, served)}  # fmt: skip
            lesson = lesson_again(trace, known, own, served, headers)
            model = read_costs(table, affine, resample)
            work.append((new_runs(trace, model, target, list(own.values()), lesson, engine, force), own, lesson.said))
        if command.seeds(replications) != [None]:
            study = Study(path, costs, affine, resample, file_of(known), engine)
            repeated.append((study, list(configs.values()), replications, target, jobs, force))
    for runs, configs, said in work:
        report(runs, configs, jobs)
        if said:
            print(said)
    for each in repeated:
        print(f"{len(replicate(*each))} replications in {each[3]}")


@app.command("open-loop")
def open_loop_command(
    source: Annotated[Path, typer.Argument(metavar="SOURCE", help="X.trace.parquet, with all candidates and scores.")],
    rules: Annotated[Path, typer.Argument(metavar="RULES", help="Folder of X-*.trace.parquet, recorded under rules.")],
    out: Annotated[Path, typer.Option(help="Folder for the tables; points that are there are kept.")],
    costs: Costs = None,
    affine: Affine = None,
    queue_size: Annotated[int, typer.Option(min=1, help="B of the queues.")] = 32,
    in_flight: Annotated[int, typer.Option(min=1, help="Sequences in flight of the closed loop.")] = 256,
    load: Annotated[float, typer.Option(min=1e-9, help="Poisson rate over the re-gated trace's capacity.")] = 0.6,
    sequences: Sequences = None,
    replications: Annotated[int, typer.Option(min=1, help="Seeds 0..n-1.")] = 1,
    engine: EngineName = "auto",
    jobs: Jobs = 0,
    force: command.Force = False,
) -> None:
    """Simulate the source re-gated to every recorded rule, and what was recorded under it, alike.

    Tables of sweeps: OUT/source.parquet, and OUT/NAME/regated.parquet and OUT/NAME/recorded.parquet of every rule.

    Example: `python -m simulate open-loop wide.trace.parquet rules --costs costs.parquet --out simulated/open_loop`
    """
    check_place(out, [source, rules, costs], folder=True)
    plan = OpenLoopPlan(queue_size, in_flight, load, command.seeds(replications), sequences)
    files = rule_files(rules, source)
    refuse_failed(simulate_open_loop(Study(source, costs, affine, engine=engine), files, plan, out, jobs, force))
    print(f"{len(files)} rules in {out}")


app.command("sweep")(sweep_command)
app.command("compile")(compile_command)
app.command("misses")(misses_command)
app.command("memory")(memory_command)
app.command("plan")(plan_command)
app.command("costs")(costs_command)


def executed_folders(executed: Path, trace: Path, out: Path) -> list[tuple[Path, Path, Path]]:
    """Return (executed runs, their trace, where simulated ones go): one, or one per folder in `executed`."""
    if not trace.is_dir():
        return [(executed, trace, out)]
    names = sorted(path.name for path in executed.iterdir() if path.is_dir()) if executed.is_dir() else []
    if not names:
        raise InputError(f"{executed}: holds no folders of executed runs, as {trace}, a folder of traces, asks for")
    return [(executed / name, trace / f"{name}.trace.parquet", out / name) for name in names]


def listed(text: str | None, option: str, low: float = 1, kind: type = int) -> list:
    """Return the numbers of an option's value, none where it is not given."""
    return command.numbers(text, option, low, kind) if text else []


def in_ns(option: str, time_us: float | None) -> int | None:
    """Return a time in whole ns, None where there is none."""
    return None if time_us is None else whole_ns(option, time_us, 1000)


def given(**options: float | None) -> dict:
    """Return the options that are given."""
    return {name: value for name, value in options.items() if value is not None}


def capacities(sweep: RunGrid, trace: Trace, costs: CostModel) -> dict[int | None, float]:
    """Return the capacity at the largest queue size for every k that is swept."""
    largest, dense = max(sweep.queue_sizes), sweep.fixed["dense"]
    where = sweep.fixed["devices"], sweep.fixed["placement"]
    cost = replace(costs, resampled=False).cost(rng=None)
    if dense:
        costs.check_dense(trace.L)
    workloads = {k: trace_workload(trace, RunConfig(k=k)) for k in sweep.ks}
    return {k: capacity_per_s(workload, cost, largest, dense, *where) for k, workload in workloads.items()}


def executed_header(folder: Path, name: str, trace: Trace) -> dict:
    """Return the header of an executed run; refuse one that ran another trace."""
    header = load_run(folder, name).header
    if header.get("trace_digest") != trace.digest:
        raise InputError(
            f"{folder / name}: executed trace {header.get('trace_digest')}, the trace given is {trace.digest}; "
            "allowed: the trace that was executed"
        )
    return header


if __name__ == "__main__":
    command.run(app, "simulate")
