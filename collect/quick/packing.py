"""Logs packed for the way back from a machine: a tar file per step, none above what one file may weigh."""

from __future__ import annotations

import re
import tarfile
from collections.abc import Callable
from pathlib import Path

from moe_replay.collect.quick.steps import Step
from moe_replay.traces.command_line.files import replacing
from moe_replay.traces.errors import InputError

MOST_FILES = 8  # beside each other in the folder, quick.log among them
MOST_BYTES = 16 << 20  # of one file
PER_FILE = 1536  # bytes that a file's name and padding may add to a tar file, compressed or not
ALLOWED = re.compile(r"[A-Za-z0-9._-]+")


def pack(step: Step, logs: Path, device: str, folder: Path, say: Callable[[str], object]) -> None:
    """Write what a step has made so far as `folder/DEVICE-NUMBER-NAME.tar.gz`, whole; nothing where it made nothing.

    Paths in it begin with the device's name, so that it unpacks into any folder of logs. Small files go first; what
    does not fit any more is named and left out. InputError for a name that cannot travel.
    """
    name = f"{device}-{step.number}-{step.name}.tar.gz"
    if not ALLOWED.fullmatch(name):
        raise InputError(f"--pack: {name!r}: allowed in names: letters, digits, '.', '_', '-'")
    files, room = whole_files(step, logs / device), MOST_BYTES - (64 << 10)
    if not files:
        return
    with replacing(folder / name) as temporary, tarfile.open(temporary, "w:gz", compresslevel=6) as packed:
        for path in files:
            room -= path.stat().st_size + PER_FILE
            if room < 0:
                say(f"{path}: left out of {name}, which may hold {MOST_BYTES >> 20} MiB")
            else:
                packed.add(path, path.relative_to(logs).as_posix(), recursive=False)


def whole_files(step: Step, logs: Path) -> list[Path]:
    """Return the files of a step, smallest first, without what has a temporary name or lies in such a folder."""
    found = {path for pattern in step.packs for path in logs.glob(pattern) if path.is_file()}
    whole = [path for path in found if not any(part.startswith(".") for part in path.relative_to(logs).parts)]
    return sorted(whole, key=lambda path: (path.stat().st_size, path))
