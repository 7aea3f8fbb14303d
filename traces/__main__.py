"""`python -m traces`: describe and check traces, make synthetic ones, import, export and re-gate recorded ones."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console

from moe_replay.traces.command_line.command import Force, length_range, new_app, run
from moe_replay.traces.command_line.outputs import staged
from moe_replay.traces.command_line.provenance import provenance
from moe_replay.traces.command_line.units import COUNT, SHARE
from moe_replay.traces.commands.arrivals_command import arrivals_command
from moe_replay.traces.commands.import_command import import_command
from moe_replay.traces.commands.import_costs_command import import_costs_command
from moe_replay.traces.commands.roofline_command import roofline_command
from moe_replay.traces.describe import description
from moe_replay.traces.describe_loads import counts_text, load_description
from moe_replay.traces.errors import InputError
from moe_replay.traces.exporters.export_subject import Subject
from moe_replay.traces.exporters.exporter_names import EXPORTERS, export
from moe_replay.traces.file.trace_file import load_trace, save_trace
from moe_replay.traces.k_rules import RULE_HELP, given_rule
from moe_replay.traces.load_trace import holds_loads, read_loads
from moe_replay.traces.no_data import check_data
from moe_replay.traces.placements.balanced_placement import balance_text, balanced_placement
from moe_replay.traces.placements.expert_placement import holds_placement, load_placement
from moe_replay.traces.regating import regate, rule_text
from moe_replay.traces.routes import uncomputed
from moe_replay.traces.runs.run_records import load_run, run_names
from moe_replay.traces.synthetic import SyntheticSpec, synthetic_trace

app = new_app(
    "Traces: which experts a MoE run selected. Files are Parquet; a recording in progress is a folder of parts."
)
Source = Annotated[Path, typer.Argument(help="a trace's file, or the folder of a recording in progress")]


@app.command()
def describe(
    path: Source,
    k: Annotated[int | None, COUNT.option(low=1, help="count the first k slots; default: the model's k")] = None,
) -> None:
    """Print model, shapes, load per expert and reuse between adjacent tokens; of a load trace its counts.

    Example: `python -m traces describe logs/base.trace.parquet --k 2`
    """
    if holds_placement(path):
        print(f"{path.name}: {load_placement(path).said}")
        return
    if holds_loads(path):
        if k is not None:
            raise InputError(f"{path}: holds counts only, --k is allowed for traces of tokens")
        Console().print(load_description(read_loads(path), path.name))
        return
    trace = load_trace(path)
    Console().print(description(trace, path.name, k))


@app.command()
def check(paths: Annotated[list[Path], typer.Argument(help="traces' files or folders of parts")]) -> None:
    """Verify traces: one line per good file; the first bad one ends with its line on stderr and exit status 2.

    Example: `python -m traces check logs/*.trace.parquet`
    """
    for path in paths:
        if holds_placement(path):
            placed = load_placement(path)
            print(f"{path}: ok, {placed.said}, digest {placed.digest}")
            continue
        if holds_loads(path):
            loads = read_loads(path)
            print(f"{path}: ok, {counts_text(loads)}, digest {loads.digest}")
            continue
        trace = load_trace(path)
        try:
            check_data(trace)
        except InputError as error:
            raise InputError(f"{path}: {error}") from None
        experts = f"{trace.K} of {trace.header.model.experts} experts"
        shape = f"{trace.T:,} tokens x {trace.L} layers x {experts}, {trace.S:,} sequences"
        print("; ".join([f"{path}: ok, {shape}, digest {trace.digest}", *uncomputed(trace)]))


@app.command()
def make(
    out: Annotated[Path, typer.Argument(help="file to write, X.trace.parquet")],
    layers: Annotated[int, COUNT.option(low=1)] = 4,
    experts: Annotated[int, COUNT.option(low=1, high=32767, help="experts per layer")] = 16,
    k: Annotated[int, COUNT.option(low=1, help="experts per token and layer")] = 4,
    alpha: Annotated[float, typer.Option(min=0, help="exponent of the Zipf law of popularity")] = 1.0,
    reuse: Annotated[float, SHARE.option(low=0, high=1, help="probability to repeat the token before")] = 0.3,
    sequences: Annotated[int | None, COUNT.option(low=1, help="default: 64")] = None,
    tokens: Annotated[
        int | None, COUNT.option(low=1, help="in place of --sequences: as many as hold so many tokens")
    ] = None,
    prompt: Annotated[str, typer.Option(help="tokens of a prompt: n, or low-high")] = "16",
    decode: Annotated[str, typer.Option(help="tokens decoded: n, or low-high")] = "16",
    batch: Annotated[int, COUNT.option(low=1, help="sequences that run together")] = 8,
    scores: Annotated[bool, typer.Option(help="with softmax scores")] = True,
    seed: Annotated[int, COUNT.option(low=0)] = 0,
    force: Force = False,
) -> None:
    """Make a synthetic trace with stated statistics.

    Example: `python -m traces make toy.trace.parquet --alpha 1.2 --reuse 0.5 --prompt 8-32`
    """
    lengths = {"prompt": length_range("--prompt", prompt), "decode": length_range("--decode", decode)}
    if sequences and tokens:
        raise InputError("--sequences and --tokens: allowed one of them")
    if tokens:
        sequences = math.ceil(tokens / np.mean([sum(each) for each in zip(*lengths.values(), strict=True)]))
    shape = {"layers": layers, "experts": experts, "k": k, "sequences": sequences or 64, "batch": batch}
    spec = SyntheticSpec(alpha=alpha, reuse=reuse, scores=scores, **shape, **lengths)
    with staged(out, force=force) as written:
        made = synthetic_trace(spec, np.random.default_rng(seed), provenance(seed))
        save_trace(made.trace, written)
    print(f"{out}: {made.trace.T:,} tokens, digest {made.trace.digest}")


@app.command("regate")
def regate_command(
    path: Source,
    out: Annotated[Path, typer.Option(help="file to write, NEW.trace.parquet")],
    rule: Annotated[str | None, typer.Option(help=RULE_HELP)] = None,
    k: Annotated[int | None, COUNT.option(low=1, help="in place of --rule: a fixed number of experts")] = None,
    force: Force = False,
) -> None:
    """Re-gate a recorded trace to another rule for K, or to a fixed k: open loop, exact in the first layer only.

    Example: `python -m traces regate logs/base.trace.parquet --rule delta:0.5 --out new.trace.parquet`
    """
    chosen = given_rule(rule, k)
    if chosen is None:
        raise InputError("--rule or --k: one of them is needed")
    with staged(out, [path], force) as written:
        trace = load_trace(path)
        try:
            made = regate(trace, chosen, provenance())
        except InputError as error:
            raise InputError(f"{path}: {error}") from None
        save_trace(made, written)
    mean_k = (made.experts_TLK >= 0).sum() / (made.T * made.L)
    print(f"{out}: {rule_text(chosen)}, open loop, {mean_k:.3f} experts per token and layer, digest {made.digest}")


@app.command()
def compact(
    runs: Annotated[Path, typer.Argument(help="folder of run records")],
    out: Annotated[Path, typer.Option(help="folder for the same runs")],
    plain: Annotated[
        bool, typer.Option("--plain", help="back to columns that other programs read as they are")
    ] = False,
    force: Force = False,
) -> None:
    """Write run records in half the room, for keeping: every command reads them, other programs need --plain first.

    Example: `python -m traces compact logs/executed --out kept/executed`
    """
    names = run_names(runs)
    if not names:
        raise InputError(f"{runs}: holds no complete run, expected NAME.passes.parquet with NAME.batches.parquet")
    with staged(out, [runs], force, folder=True) as written:
        for name in names:
            load_run(runs, name).save(written, name, compact=not plain)
    print(f"{out}: {len(names)} {'run' if len(names) == 1 else 'runs'}, {'plain' if plain else 'compact'}")


app.command("import")(import_command)
app.command("arrivals")(arrivals_command)
app.command("roofline", no_args_is_help=True)(roofline_command)
app.command("import-costs")(import_costs_command)


@app.command("export")
def export_command(
    kind: Annotated[str, typer.Argument(help=", ".join(EXPORTERS))],
    path: Source,
    out: Annotated[Path, typer.Option(help="file to write; its suffix says which form, where a kind has several")],
    placement: Annotated[Path | None, typer.Option(help="export this placement in place of loads")] = None,
    devices: Annotated[int | None, COUNT.option(low=1, help="... or one for so many devices, balanced by load")] = None,
    slots: Annotated[int | None, COUNT.option(low=1, help="with --devices: slots in all, replicas included")] = None,
    hidden_layers: Annotated[int | None, COUNT.option(low=1, help="sglang: all layers, dense ones too")] = None,
    force: Force = False,
) -> None:
    """Export expert loads, a placement, or (npz) selections, in the form that another program reads.

    Example: `python -m traces export sglang logs/base.trace.parquet --out counts.json`
    """
    if placement is not None and devices is not None:
        raise InputError("--placement and --devices: allowed one of them")
    if slots is not None and devices is None:
        raise InputError("--slots: needs --devices")
    folder = kind == "tensorrt-llm" and placement is None and devices is None
    with staged(out, [path, placement], force, folder=folder) as written:
        recorded = read_loads(path) if holds_loads(path) else load_trace(path)
        subject = Subject(recorded, load_placement(placement) if placement else None, hidden_layers)
        if devices is not None:
            model = subject.model
            placed = balanced_placement(model.name, model.layer_ids, subject.load_LE, devices, slots)
            subject = replace(subject, placement=placed)
        lost = export(kind, subject, written)
        if folder:
            check_alone(written, out)
    if subject.placement is not None:
        print(f"{out}: placement for {kind}: {balance_text(subject.load_LE, subject.placement)}")
    else:
        print(f"{out}: {'the whole trace' if kind == 'npz' else 'loads'} for {kind}")
    if lost:
        print(f"{out}: left out: {'; '.join(lost)}")


def check_alone(written: Path, out: Path) -> None:
    """Refuse a folder with other files than those just written: a program would read both together."""
    others = {path.name for path in out.iterdir()} - {path.name for path in written.iterdir()} if out.is_dir() else ()
    if others:
        raise InputError(f"{out}: holds {min(others)}, which would be read with the new files; allowed: a new folder")


if __name__ == "__main__":
    run(app, "traces")
