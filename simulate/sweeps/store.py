"""A sweep on disk: finished points in part files while it runs, one table when it is done.

The parts of `X.parquet` are in the folder `X.parts/`, beside `grid.json`, which says whose they are. A part gets its
name only when it is whole; so after a crash everything is there but what finished in the last second. The table
is written beside the folder, which goes away last. Both name the grid, and are never taken for those of another one.

Several shards may write to one folder at once: each has a lock and names of parts of its own, and holds the folder's
lock only while it begins. Whoever takes a sweep as a whole holds that lock, and every shard's, to the end.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from moe_replay.simulate.sweeps.shards import Shard
from moe_replay.traces.command_line.files import replacing, write_json
from moe_replay.traces.errors import InputError
from moe_replay.traces.file.mixed_table import mixed_header
from moe_replay.traces.file.parquet import header_digest
from moe_replay.traces.file.trace_file import parts_folder
from moe_replay.traces.file.trace_writer import discarded_folder
from moe_replay.traces.runs.sweep_table import KIND

FLUSH_S = 1.0  # points that finish within such a time share a part file
GRID_FILE, LOCK_FILE, PART = "grid.json", "lock", "part-"
OTHERS_BEGIN_S = 10.0  # how long shards that begin at the same time wait for each other


@dataclass(frozen=True)
class SweepIdentity:
    """What makes a sweep this one: the digests of its files and configurations, the engine asked for, and its size.

    `about` is that as a dictionary; `provenance` says how it came about and is no part of it.
    """

    about: dict
    provenance: dict

    @property
    def digest(self) -> str:
        """A digest of all that the results depend on."""
        return header_digest(self.about)

    @property
    def header(self) -> dict:
        """What the header of the table and the folder of parts hold."""
        return {**self.about, "grid_digest": self.digest, "provenance": self.provenance}

    def check(self, path: Path, other: dict) -> None:
        """Refuse the header `other` of what is at `path` if it is of another grid."""
        if other.get("grid_digest") == self.digest:
            return
        names = [name for name, value in self.about.items() if other.get(name) != value]
        command = other.get("provenance", {}).get("command", "unknown")
        raise InputError(
            f"{path}: holds another sweep, grid {other.get('grid_digest')} of `{command}`, this one is grid"
            f" {self.digest}: {', '.join(names)} differ; allowed: the same grid, or another --out"
        )


class Store:
    """The finished points of a sweep in progress: those found on disk, and those that `add` brings.

    `results` maps places in the grid to what `SweepPoint.result` gives; `provenance` is that of the command which
    began the sweep. `opened_store` makes one.
    """

    def __init__(
        self, folder: Path, provenance: dict, results: dict[int, dict], parts: int, prefix: str = PART
    ) -> None:
        self.folder, self.provenance, self.results, self.parts = folder, provenance, results, parts
        self.prefix = prefix
        self.waiting: dict[int, dict] = {}
        self.flushed_s = time.monotonic()
        self.writing, self.timer = threading.Lock(), None

    def add(self, place: int, result: dict) -> None:
        """Take a finished point; it is on disk within about a second, even where the next takes long to finish."""
        with self.writing:
            self.results[place] = self.waiting[place] = result
        if time.monotonic() - self.flushed_s >= FLUSH_S:
            self.flush()
        elif self.timer is None:
            self.timer = threading.Timer(FLUSH_S, self._flush_in_time)
            self.timer.daemon = True
            self.timer.start()

    def flush(self) -> None:
        """Write what waits as one part."""
        with self.writing:
            if self.timer is not None:
                self.timer.cancel()
                self.timer = None
            if self.waiting:
                results = {str(place): result for place, result in self.waiting.items()}
                content = {"digest": header_digest(results), "results": results}
                with replacing(self.folder / f"{self.prefix}{self.parts:06d}.json") as temporary:
                    temporary.write_text(json.dumps(content) + "\n")
                self.parts += 1
                self.waiting = {}
            self.flushed_s = time.monotonic()

    def _flush_in_time(self) -> None:
        with contextlib.suppress(OSError):  # what waits keeps waiting: the next flush meets the error, and shows it
            self.flush()


@contextlib.contextmanager
def opened_store(out: Path, grid: SweepIdentity, shard: Shard | None = None) -> Iterator[Store]:
    """Yield the store of a sweep, or of a shard, with what earlier tries have finished; nothing finished is lost.

    InputError where the folder of parts belongs to another grid or to another version of the program, a part is
    damaged, or another process is writing there.
    """
    folder = parts_folder(out)
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as held:
        whole = held.enter_context(locked(folder / LOCK_FILE, 0 if shard is None else OTHERS_BEGIN_S))
        if shard is None:
            for path in sorted(folder.glob(f"{LOCK_FILE}-*")):
                held.enter_context(locked(path))
        else:
            held.enter_context(locked(folder / f"{LOCK_FILE}-{shard.name}"))
        prefix = PART if shard is None else f"{PART}{shard.name}-"
        remove_halves(out, prefix if shard else "")
        provenance = begun(folder, grid)
        paths = sorted(folder.glob(f"{PART}*.json"))
        results = {place: result for path in paths for place, result in read_part(path)}
        own = [int(path.stem.removeprefix(prefix)) for path in paths if path.stem.removeprefix(prefix).isdecimal()]
        store = Store(folder, provenance, results, max(own, default=-1) + 1, prefix)
        if shard is not None:
            whole.release()
        try:
            yield store
        finally:
            store.flush()


@contextlib.contextmanager
def locked(path: Path, patience_s: float = 0) -> Iterator[FileLock]:
    """Keep a folder of parts for this sweep, or for one of its shards; InputError if another holds it.

    The lock is given back by name: closing its file would leave it to a process that was just forked and has a copy.
    """
    lock = FileLock(path)
    try:
        lock.acquire(timeout=patience_s)
    except Timeout:
        shard = path.name.removeprefix(LOCK_FILE).removeprefix("-").replace("of", "/")
        which = f"shard {shard} of this sweep" if shard else "this sweep"
        raise InputError(f"{path.parent}: another process is carrying out {which}; allowed: one at a time") from None
    try:
        yield lock
    finally:
        lock.release()


def begun(folder: Path, grid: SweepIdentity) -> dict:
    """Return the provenance of the command that began the sweep; write down that it is this one if none did."""
    path = folder / GRID_FILE
    if not path.exists():
        write_json(path, grid.header)
        return grid.provenance
    header = header_of(folder)
    grid.check(folder, header)
    made = header["provenance"]
    for name in ("source_revision", "python", "packages"):
        if made[name] != grid.provenance[name]:
            raise InputError(
                f"{folder}: was begun with {name} {made[name]}, this is {grid.provenance[name]}; allowed: the same,"
                " or another --out"
            )
    return made


def read_part(path: Path) -> Iterator[tuple[int, dict]]:
    """Yield (place, result) of every point in a part; InputError where it was damaged."""
    try:
        content = json.loads(path.read_text())
        whole = content["digest"] == header_digest(content["results"])
    except (ValueError, LookupError, TypeError):
        whole = False
    if not whole:
        raise InputError(f"{path}: the part was damaged; allowed: remove it, and its points are carried out again")
    for place, result in content["results"].items():
        yield int(place), result


def is_complete(out: Path, grid: SweepIdentity) -> bool:
    """Say whether the table is there already; InputError if it is another grid's, or no table of a sweep."""
    if out.is_dir():
        raise InputError(f"{out}: is a folder, allowed a file to write")
    if not out.exists():
        return False
    grid.check(out, mixed_header(out, KIND))
    if header_of(parts_folder(out)).get("grid_digest") == grid.digest:
        discard(out)  # as after a crash between the two
    shutil.rmtree(discarded_folder(out), ignore_errors=True)
    return True


def remove_other(out: Path, grid: SweepIdentity) -> None:
    """Remove what is at the output unless it is this grid's: a table, any other file, or unfinished parts."""
    parts = parts_folder(out)
    if parts.is_dir() and header_of(parts).get("grid_digest") != grid.digest:
        discard(out)
    try:
        is_complete(out, grid)
    except InputError:
        if not out.is_file():
            raise
        out.unlink()


def header_of(folder: Path) -> dict:
    """Return what a folder of parts says of its grid, nothing where it is none or was damaged."""
    try:
        found = json.loads((folder / GRID_FILE).read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def discard(out: Path) -> None:
    """Take the folder of parts away, by one rename: it is never seen with some of its parts missing."""
    folder, discarded = parts_folder(out), discarded_folder(out)
    if folder.is_dir():
        folder.rename(discarded)
    shutil.rmtree(discarded, ignore_errors=True)


def remove_halves(out: Path, prefix: str = "") -> None:
    """Remove what a killed sweep left under temporary names; only parts with a prefix where that of a shard is given.

    Another shard may be writing its own at this moment.
    """
    halves = list(parts_folder(out).glob(f".{prefix}*.tmp"))
    if not prefix:
        shutil.rmtree(discarded_folder(out), ignore_errors=True)
        halves += out.parent.glob(f".{out.name}.*.tmp")
    for half in halves:
        half.unlink(missing_ok=True)
