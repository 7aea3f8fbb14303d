"""The trace on disk: one Parquet file that loads as it was written or not at all.

A recording in progress is a folder of such files, its finished parts; every reader accepts that folder too.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from moe_replay.traces.command_line.files import replacing
from moe_replay.traces.errors import InputError
from moe_replay.traces.file.chunks import chunk_tokens
from moe_replay.traces.file.joining import Pieces, group
from moe_replay.traces.file.layout import Layout, column_of, open_writer
from moe_replay.traces.file.parquet import damage_refused, sealed
from moe_replay.traces.file.reading import KIND, Assembly, Part, open_part
from moe_replay.traces.selections import SEQUENCE_FIELDS, Trace, distinct, field_digest, field_leaf, field_root

PART_NAME = "part-{:06d}.parquet"


def load_trace(path: Path | str) -> Trace:
    """Return the trace in a file, or in the folder of parts of a recording in progress.

    Every column is checked against its digest, the header against its own, and every value against what a trace may
    hold; nothing is repaired. InputError in one line otherwise.
    """
    parts = [open_part(each) for each in part_paths(Path(path))]
    first = parts[0]
    for part in parts[1:]:
        if (part.header, part.layout) != (first.header, first.layout):
            raise InputError(f"{part.path}: not of the same recording as {first.path.name}: header or columns differ")
    assembly = Assembly(first.layout, sum(part.tokens for part in parts))
    with damage_refused(path):
        assembly.allocate()
    starts = np.cumsum([0, *(part.tokens for part in parts)]).tolist()
    leaves = [assembly.read(part, start) for part, start in zip(parts, starts, strict=False)]
    try:
        trace = assembly.trace(first.header)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    digests = [part_digests(*each, trace) for each in zip(parts, starts, leaves, strict=False)]
    if len(parts) == 1:
        trace.__dict__["field_digests"] = digests[0]  # just verified: no need to compute them again
    return trace


def parts_folder(path: Path) -> Path:
    """Return the folder that holds a recording's parts while it lasts: `X.trace.parts` for `X.trace.parquet`."""
    return path.with_suffix(".parts")


def part_paths(path: Path) -> list[Path]:
    """Return the files of a trace: itself, or a folder's finished parts in order; InputError if there are none."""
    if not path.is_dir():
        if not path.exists() and parts_folder(path).is_dir():
            raise InputError(f"{path}: no such file; the recording has not ended, see {parts_folder(path).name}")
        return [path]
    paths = sorted(path.glob("part-*.parquet"))
    if not paths:
        raise InputError(f"{path}: a folder without finished parts of a recording (part-000000.parquet, ...)")
    for number, each in enumerate(paths):
        if each.name != PART_NAME.format(number):
            raise InputError(f"{path}: {PART_NAME.format(number)} is missing, found {each.name}")
    return paths


def part_digests(part: Part, start: int, leaves: dict[str, list[bytes]], trace: Trace) -> dict[str, str]:
    """Return the digests of a part's fields as they were read; InputError if the file states others."""
    found = {}
    for name in part.layout.present:
        values = getattr(trace, name)
        if name in SEQUENCE_FIELDS:
            sequences = distinct(trace.sequence_T[start : start + part.tokens])
            found[name] = field_digest(name, values[np.searchsorted(trace.sequences_S, sequences)], trace.L)
        else:
            found[name] = field_root(name, (part.tokens, *values.shape[1:]), leaves[name])
        if found[name] != part.digests[name]:
            raise InputError(f"{part.path}: column {column_of(name)} does not match its digest: the file was changed")
    return found


@dataclass
class Seal:
    """Collects what a file's header says at the end: tokens, and a digest per field."""

    layout: Layout
    tokens: int = 0
    leaves: dict[str, list[bytes]] = field(default_factory=dict)
    sequences: list[np.ndarray] = field(default_factory=list)
    known: dict[str, list[np.ndarray]] = field(default_factory=dict)

    def add(self, trace: Trace) -> None:
        """Count in one row group."""
        self.tokens += trace.T
        self.sequences.append(trace.sequences_S)
        for name in trace.present:
            values = getattr(trace, name)
            if name in SEQUENCE_FIELDS:
                self.known.setdefault(name, []).append(values)
            else:
                self.leaves.setdefault(name, []).append(field_leaf(name, values))

    def digests(self) -> dict[str, str]:
        """Return the digest of every field; InputError if a sequence was given two labels, say."""
        sizes = {"T": self.tokens, "L": self.layout.layers, "K": self.layout.slots}
        found = {
            name: field_root(name, tuple(sizes[letter] for letter in name.rsplit("_", 1)[1]), leaves)
            for name, leaves in self.leaves.items()
        }
        groups = group(np.concatenate(self.sequences))
        for name, values in self.known.items():
            values_S = groups.collapse(name, np.concatenate(values))
            found[name] = field_root(name, values_S.shape, [field_leaf(name, values_S)])
        return found


def save_trace(trace: Trace, path: Path | str) -> None:
    """Write a trace as one Parquet file, which appears whole or not at all."""
    trace.__dict__["field_digests"] = write_pieces([trace], path)  # worked out on the way: no need to do so again


def write_pieces(traces: Iterable[Trace], path: Path | str) -> dict[str, str]:
    """Write traces that continue each other as one file, return the digests of its fields.

    Memory holds one row group beside the trace that is taken.

    (And four to a few dozen bytes per sequence, to see that nothing is said about a sequence twice and differently.)
    """
    traces = iter(traces)
    first = next(traces)
    layout = Layout(first.L, first.K, first.present)
    pieces, seal = Pieces(chunk_tokens(first.L)), Seal(layout)
    with replacing(path) as temporary, open_writer(temporary, layout) as writer:

        def write(complete: list[Trace]) -> None:
            for piece in complete:
                writer.write_table(layout.table(piece, seal.tokens), row_group_size=piece.T * piece.L)
                seal.add(piece)

        write(pieces.add(first))
        for trace in traces:
            if trace.header != first.header or Layout(trace.L, trace.K, trace.present) != layout:
                raise InputError("parts of one trace differ in header, in columns or in K, allowed: equal ones")
            write(pieces.add(trace))
        write(pieces.rest())
        digests = seal.digests()
        content = first.header.to_json() | {"tokens": seal.tokens, "slots": first.K, "digests": digests}
        writer.add_key_value_metadata(sealed(content, KIND))
    return digests
