"""Long recordings: finished parts in a folder, merged and renamed at the end; `kill -9` loses the part being written.

The parts of `X.trace.parquet` are in `X.trace.parts/`, each a trace's file of its own under a name that it gets only
when it is whole. `close` merges them under a temporary name, renames the result, and only then takes the folder away,
by one rename too. So at every moment either the folder or the file can be read, and holds all that was finished.
"""

import shutil
from pathlib import Path
from types import TracebackType

import numpy as np

from moe_replay.traces.command_line.files import sync_folder
from moe_replay.traces.errors import InputError
from moe_replay.traces.file.joining import Pieces
from moe_replay.traces.file.trace_file import PART_NAME, load_trace, part_paths, parts_folder, save_trace, write_pieces
from moe_replay.traces.header import Header
from moe_replay.traces.selections import Trace


class Order:
    """Watches that chunks continue each other: steps do not run backwards, a pass is not taken up again."""

    def __init__(self) -> None:
        self.step = -1
        self.sequence = -1
        self.position = -1
        self.in_step: set[int] = set()

    def add(self, chunk: Trace) -> None:
        """Take the next chunk; InputError if it cannot follow the ones before."""
        passes = chunk.passes
        step, sequences = int(passes.step_P[0]), passes.sequence_P[passes.step_P == passes.step_P[0]].tolist()
        if step < self.step:
            raise InputError(f"step is {step}, allowed at least {self.step} as in the chunk before")
        if step == self.step:
            self.check_same_step(sequences, int(chunk.position_T[0]))
        last = int(passes.step_P[-1])
        known = self.in_step if last == self.step else set()
        self.in_step = known | set(passes.sequence_P[passes.step_P == last].tolist())
        self.step, self.sequence, self.position = last, int(passes.sequence_P[-1]), int(chunk.position_T[-1])

    def check_same_step(self, sequences: list[int], position: int) -> None:
        """Refuse rows that belong to a pass of this step which had ended, or that do not follow in it."""
        continues = sequences[0] == self.sequence
        if continues and position <= self.position:
            raise InputError(f"position is {position}, allowed above {self.position} as in the chunk before")
        again = self.in_step.intersection(sequences[continues:])
        if again:
            raise InputError(f"sequence {min(again)} had rows in step {self.step} before, allowed: a pass in one place")


class TraceWriter:
    """Records a trace chunk by chunk; `with TraceWriter(path, header) as writer: writer.append(chunk)`.

    Every `flush_rows` tokens become one finished part on disk; memory holds one part, also while merging. Leaving
    the `with` block normally merges the parts into `path`; leaving it by an exception keeps them as they are.
    `resume=True` goes on behind the parts of a recording that was cut off: `safe_rows` tells where. Without it,
    parts found at the start are refused, so that no recording is lost by starting another.
    """

    def __init__(self, path: Path | str, header: Header, flush_rows: int = 16384, resume: bool = False) -> None:
        if flush_rows < 1:
            raise InputError(f"flush_rows is {flush_rows}, allowed >= 1")
        self.path, self.header = Path(path), header
        self.folder = parts_folder(self.path)
        self.pieces, self.order = Pieces(flush_rows), Order()
        self.parts, self.safe_rows = 0, 0
        self.folder.mkdir(parents=True, exist_ok=True)
        remove_leftovers(self.path)
        if any(self.folder.glob("part-*.parquet")):
            if not resume:
                raise InputError(f"{self.folder}: holds an unfinished recording, allowed: resume it, or move it away")
            self.resume()

    def resume(self) -> None:
        """Continue after the finished parts, whose header must be this one."""
        paths = part_paths(self.folder)
        for path in paths:
            part = load_trace(path)
            if part.header != self.header:
                raise InputError(f"{path}: another header than this recording's, allowed: the same")
            self.order.add(part)
            self.safe_rows += part.T
        self.parts = len(paths)

    def append(self, chunk: Trace) -> None:
        """Take the next tokens in execution order; InputError if they cannot follow the ones before."""
        if chunk.header != self.header:
            raise InputError("the chunk has another header than the recording, allowed: the same")
        self.order.add(chunk)
        self.write(self.pieces.add(chunk))

    def append_arrays(self, **arrays: np.ndarray | None) -> None:
        """Take the next tokens as arrays named like the fields of a Trace."""
        self.append(Trace(header=self.header, **arrays))

    def flush(self) -> None:
        """Make a part of what waits, so that all appended tokens are safe."""
        self.write(self.pieces.rest())

    def forget(self) -> None:
        """Drop what waits and is in no part yet."""
        self.pieces.rest()

    def write(self, pieces: list[Trace]) -> None:
        """Write finished parts."""
        for piece in pieces:
            save_trace(piece, self.folder / PART_NAME.format(self.parts))
            self.parts += 1
            self.safe_rows += piece.T

    def close(self) -> None:
        """Merge the parts into the final file and take their folder away; InputError if nothing was recorded."""
        self.flush()
        if not self.parts:
            self.folder.rmdir()
            raise InputError(f"{self.path}: nothing was recorded, allowed: one token or more")
        finish_recording(self.path)

    def __enter__(self) -> "TraceWriter":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, where: TracebackType | None) -> None:
        if kind is None:
            self.close()
        else:
            self.flush()
            if not self.parts:  # nothing to go on from
                self.folder.rmdir()


def finish_recording(path: Path | str) -> None:
    """Merge the finished parts of `path` into it, row group by row group, and take their folder away."""
    path = Path(path)
    folder = parts_folder(path)
    remove_leftovers(path)
    write_pieces((load_trace(part) for part in part_paths(folder)), path)
    discarded = discarded_folder(path)
    folder.rename(discarded)  # at once: a folder with some of its parts missing is never seen under its name
    sync_folder(folder.parent)
    shutil.rmtree(discarded)


def discarded_folder(path: Path) -> Path:
    """Return the name under which a recording's folder waits for its removal."""
    return path.with_name(f".{parts_folder(path).name}.discarded")


def remove_leftovers(path: Path) -> None:
    """Remove what a killed recording of `path` left beside its parts: half a part, half a merge, a discarded folder."""
    shutil.rmtree(discarded_folder(path), ignore_errors=True)
    for half in (*parts_folder(path).glob(".part-*.tmp"), *path.parent.glob(f".{path.name}.*.tmp")):
        half.unlink(missing_ok=True)
