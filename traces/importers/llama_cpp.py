"""`llama-cpp`: what llama.cpp and its forks leave, by what a file holds:

layer,expert CSV                   moe-trace: a selection per row in the order of evaluation; --k  -> Trace
phase,token,layer,rank,expert CSV  every selection with its place (any table of `table`)            -> Trace
.bin                               records of 32-bit numbers: layer, tokens, k, experts             -> Trace
.gguf                              an imatrix with counts by expert                                 -> LoadTrace
"""

from __future__ import annotations

from dataclasses import replace

from moe_replay.traces.errors import InputError
from moe_replay.traces.importers import table
from moe_replay.traces.importers.llamacpp.binary_records import read_records
from moe_replay.traces.importers.llamacpp.evaluation_order import runs_of, trace_of_runs
from moe_replay.traces.importers.llamacpp.imatrix import read_imatrix
from moe_replay.traces.importers.reading.import_source import Source, given
from moe_replay.traces.importers.tables.column_fields import fields_of
from moe_replay.traces.importers.tables.column_files import TableFile, read_table
from moe_replay.traces.importers.tables.column_values import layer_numbers_of, whole
from moe_replay.traces.load_trace import LoadTrace
from moe_replay.traces.selections import Trace


def read(source: Source) -> Trace | LoadTrace:
    """Return the trace, or for an imatrix the load trace, of one file."""
    if source.paths[0].suffix == ".gguf":
        return read_imatrix(source)
    if source.options.approximate:
        raise InputError(f"{source.kind}: --approximate is for counts; {source.paths[0]} holds selections")
    given(source, "experts", "the files do not tell")
    if source.paths[0].suffix == ".bin":
        runs, left_out = read_records(source.one_file(), source.options.k)
        made = trace_of_runs(source, runs)
        if not left_out:
            return made
        return replace(made, header=replace(made.header, notes=made.header.notes | {"left_out": left_out}))
    held = read_table(source.paths[0])
    fields = fields_of(held, source.options.columns, ("layer", "expert", "token"))
    if {*fields} == {"layer", "expert"}:
        source.one_file()
        return read_stream(source, held, fields)
    return table.read(source)


def read_stream(source: Source, held: TableFile, fields: dict[str, str]) -> Trace:
    """Return the trace of selections in the order of evaluation; files may have been appended to each other."""
    k = given(source, "k", "rows of layer and expert do not tell where a token ends")
    layer_R, expert_R = layer_numbers_of(held, fields["layer"]), whole(held, fields["expert"])
    if (expert_R < 0).any():
        row = int((expert_R < 0).argmax())
        raise InputError(
            f"{held.path}: row {row + 1}: expert is {expert_R[row]}, allowed 0..{source.options.experts - 1}"
        )
    return trace_of_runs(source, runs_of(str(held.path), layer_R, expert_R, k, held.appended))
