"""`python -m traces import`: what another program recorded, as a trace, a load trace or a placement."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from moe_replay.traces.command_line.command import Force
from moe_replay.traces.command_line.option_groups import grouped
from moe_replay.traces.command_line.outputs import staged
from moe_replay.traces.command_line.provenance import provenance
from moe_replay.traces.command_line.units import COUNT
from moe_replay.traces.describe_loads import counts_text
from moe_replay.traces.errors import InputError
from moe_replay.traces.file.trace_file import save_trace
from moe_replay.traces.header import SCORE_KINDS
from moe_replay.traces.importers.guessing.kind_guess import command_of, guessed
from moe_replay.traces.importers.importer_names import KINDS, Imported, import_files
from moe_replay.traces.importers.reading.import_source import FILES_ARE, LEAVE_OUT, PHASES, UNROUTED, Options
from moe_replay.traces.load_trace import LoadTrace
from moe_replay.traces.placements.expert_placement import ExpertPlacement, save_placement
from moe_replay.traces.routes import uncomputed

SAID = ("turns", "counts", "iterations")  # notes of the header that are printed too


@dataclass(frozen=True)
class ImportOptions:
    """What a file does not say of itself; each format takes those that it lacks."""

    model: Annotated[str | None, typer.Option(help="the model's name")] = None
    experts: Annotated[int | None, COUNT.option(low=1, high=32767, help="experts per layer")] = None
    zero_experts: Annotated[
        int | None, COUNT.option(low=0, help="how many of --experts, the last ids, have no weights")
    ] = None
    shared_slots: Annotated[
        int | None, COUNT.option(low=0, help="how many of a row's slots, the last, hold shared experts; 0: none")
    ] = None
    unrouted: Annotated[
        str | None, typer.Option(help=f"{', '.join(UNROUTED)}: rows filled with zeros have no route, or are real")
    ] = None
    leave_out: Annotated[str | None, typer.Option(help=f"not to import: {', '.join(LEAVE_OUT)}; a list")] = None
    id_map: Annotated[
        Path | None, typer.Option("--map", help="ids are of physical slots: file that says which expert each holds")
    ] = None
    k: Annotated[int | None, COUNT.option(low=1, help="experts per token and layer")] = None
    layers: Annotated[str | None, typer.Option(help="the model's own numbers of its MoE layers: 1-26, or all")] = None
    hidden_layers: Annotated[int | None, COUNT.option(low=1, help="all layers, dense ones too")] = None
    score_kind: Annotated[str | None, typer.Option(help=f"{', '.join(SCORE_KINDS)}, or none: leave them out")] = None
    ranked: Annotated[bool | None, typer.Option("--ranked", help="experts are best first")] = None
    phase: Annotated[str | None, typer.Option(help=", ".join(PHASES))] = None
    start_token: Annotated[int | None, COUNT.option(low=0, help="the request's first token that has rows")] = None
    prompt_tokens: Annotated[
        int | None, COUNT.option(low=0, help="of each response that does not say its own; also --generated-tokens")
    ] = None
    generated_tokens: Annotated[int | None, COUNT.option(low=0, help="of each response, the last one included")] = None
    dtype: Annotated[str | None, typer.Option(help="type of raw bytes: uint8, int16, ...; default: as they say")] = None
    approximate: Annotated[
        bool | None, typer.Option("--approximate", help="counts are estimates, which need not add up")
    ] = None
    sequence_tokens: Annotated[int | None, COUNT.option(low=1, help="tokens per sequence of a stream")] = None
    devices: Annotated[int | None, COUNT.option(low=1, help="of a placement: devices")] = None
    nodes: Annotated[int | None, COUNT.option(low=1, help="of a placement: nodes, 1")] = None
    array: Annotated[list[str] | None, typer.Option(help="FIELD=NAME: which array is which; may be repeated")] = None
    column: Annotated[list[str] | None, typer.Option(help="FIELD=NAME: which column is which; may be repeated")] = None
    first_expert: Annotated[int | None, COUNT.option(low=0, high=1, help="number of the first expert")] = None
    varying_k: Annotated[bool | None, typer.Option("--varying-k", help="rows have more or fewer experts")] = None
    axes: Annotated[str | None, typer.Option(help="of counts: S iterations, R ranks, L layers, E experts; SLE")] = None
    files_are: Annotated[str | None, typer.Option(help=f"of counts in several files: {', '.join(FILES_ARE)}")] = None

    def given(self) -> Options:
        """Return them as importers take them."""
        lists = {
            "arrays": tuple(self.array or ()),
            "columns": tuple(self.column or ()),
            "leave_out": tuple(self.leave_out.split(",") if self.leave_out else ()),
        }
        fields = {name: value for name, value in vars(self).items() if name not in ("array", "column")}
        return Options(**{**fields, **lists})


@grouped
def import_command(
    kind: Annotated[str, typer.Argument(help=f"{', '.join(KINDS)}; with --guess the first of the files")],
    said_of_it: ImportOptions,
    files: Annotated[list[Path] | None, typer.Argument(help="what the other program wrote: files or folders")] = None,
    out: Annotated[Path | None, typer.Option(help="file to write: X.trace.parquet, or X.placement.json")] = None,
    guess: Annotated[bool, typer.Option("--guess", help="say which kind the files are, and the command")] = False,
    force: Force = False,
) -> None:
    """Import what another program recorded; what does not fit its format is refused with the reason.

    Example: `python -m traces import npz mine.npz --experts 64 --phase prefill --out mine.trace.parquet`

    Example: `python -m traces import --guess moe_trace.csv`
    """
    if guess:
        paths = [Path(kind), *(files or [])]
        found = guessed(paths)
        print("\n".join([f"{paths[0]}: {found.kind}: {found.how}", *command_of(found, paths)]))
        return
    if not files:
        raise InputError("Missing argument 'FILES...'; `import --guess FILE` names the kind of a file")
    if out is None:
        raise InputError("Missing option '--out'")
    with staged(out, [*files, said_of_it.id_map], force) as written:
        made = import_files(kind, files, said_of_it.given(), provenance())
        said = save_imported(made, written)
    print("\n".join(f"{out}: {each}" for each in said if each))


def save_imported(made: Imported, path: Path) -> list[str]:
    """Write what was imported, and return what is to be said of it."""
    if isinstance(made, ExpertPlacement):
        save_placement(made, path, provenance())
        return [f"{made.said}, digest {made.digest}"]
    if isinstance(made, LoadTrace):
        made.save(path)
        notes, said = made.notes, [f"{counts_text(made)}, digest {made.digest}"]
    else:
        save_trace(made, path)
        notes, said = made.header.notes, [f"{made.T:,} tokens, digest {made.digest}"]
        said += uncomputed(made)
    said += [f"left out: {each}" for each in notes.get("left_out", [])]
    return said + [f"{name}: {notes[name]}" for name in SAID if name in notes]
