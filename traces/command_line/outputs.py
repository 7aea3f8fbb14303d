"""What an output may replace: nothing that is there is lost unasked, and an input is never an output.

An output that exists is refused, unless it is the same command's (it is left or continued) or `--force` is given.
Files are written into a folder beside their place and moved there once all of them are whole.
"""

from __future__ import annotations

import contextlib
import filecmp
import hashlib
import json
import os
import shlex
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from moe_replay.traces.command_line.distinct_names import told_apart
from moe_replay.traces.command_line.files import read_text, sha256_of, sync_folder, write_json
from moe_replay.traces.command_line.former_names import present_words
from moe_replay.traces.command_line.provenance import FORCE, note_inputs, running_command, shortened, without_options
from moe_replay.traces.errors import InputError

WAY_OUT = f"allowed: {FORCE} to replace it, or another place"


def is_by_this_command(path: Path, left_out: tuple[str, ...] = ()) -> bool:
    """Say whether an output states that the running command made it, whatever the options in `left_out` were."""
    made = provenance_of(path).get("command")
    return isinstance(made, str) and compared(made, left_out) == compared(shortened(running_command()), left_out)


def compared(command: str, left_out: tuple[str, ...]) -> list[str]:
    """Return the words of a command that say what it makes, former names as today's; who made it is none of them."""
    try:
        return without_options(present_words(shlex.split(in_checkout(command))), ("--jobs", *left_out))
    except ValueError:  # what no command looks like
        return [command]


def in_checkout(command: str) -> str:
    """Return a command as a checkout runs it: `python -m traces ...` for an installation's `moe_replay.traces`."""
    return command.replace("python -m moe_replay.", "python -m ", 1)


def provenance_of(path: Path) -> dict:
    """Return the provenance that an output states, in its header, in itself or beside it; empty where none is."""
    for found in (parquet_header(path), json_in(path), json_in(path.with_suffix(".json"))):
        stated = found.get("provenance")
        if isinstance(stated, dict):
            return stated
    return {}


def parquet_header(path: Path) -> dict:
    """Return the header of a Parquet file of this project, empty where there is none."""
    if not path.is_file() or path.stat().st_size < 12:
        return {}
    with open(path, "rb") as opened:
        if opened.read(4) != b"PAR1":
            return {}
    import pyarrow.parquet as pq  # late: most commands never meet an output that is there

    from moe_replay.traces.file.parquet import DAMAGE, HEADER_KEY

    try:
        found = json.loads((pq.read_schema(path).metadata or {})[HEADER_KEY])
    except DAMAGE:
        return {}
    return found if isinstance(found, dict) else {}


def json_in(path: Path) -> dict:
    """Return the object in a JSON file, empty where there is none."""
    if path.suffix != ".json" and path.suffixes[-2:] != [".json", ".gz"]:
        return {}
    try:
        found = json.loads(read_text(path))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def check_place(out: Path, inputs: Iterable[Path | None] = (), folder: bool = False) -> None:
    """Refuse an output that is an input, that lies in a folder which is one, or where nothing can be written.

    `folder`: the output is a folder. InputError says which.
    """
    if folder and out.exists() and not out.is_dir():
        raise InputError(f"{out}: is a file, allowed a folder to write in")
    if not folder and out.is_dir():
        raise InputError(f"{out}: is a folder, allowed a file to write")
    if out.exists() and not (out.is_file() or out.is_dir()):
        raise InputError(f"{out}: is a device or a pipe, allowed a file to write")
    for each in (path for path in inputs if path is not None):
        within = not folder and each.is_dir() and real(out).is_relative_to(real(each))
        if within or is_same(out, each):
            held = "is an input" if is_same(out, each) else f"lies in {each}, which is an input"
            raise InputError(f"{out}: {held}; allowed: another output, {FORCE} or not")
    above = next(each for each in (out if folder else out.parent, *real(out).parents) if each.exists())
    if not above.is_dir():
        raise InputError(f"{out}: {above} is a file, allowed a folder to write in")
    if not os.access(above, os.W_OK):
        raise InputError(f"{out}: {above} may not be written to; allowed: another output")


def real(path: Path) -> Path:
    """Return a path without links; InputError where links go round in a circle."""
    try:
        return path.resolve()
    except (OSError, RuntimeError):
        raise InputError(f"{path}: its links go round in a circle") from None


def is_same(one: Path, other: Path) -> bool:
    """Say whether two paths lead to one file or folder."""
    with contextlib.suppress(OSError):
        return one.samefile(other)
    return real(one) == real(other)


def refuse_other(path: Path) -> None:
    """Refuse an output that another command made, and say which, unless it does not tell."""
    if provenance_of(path) and not is_by_this_command(path):
        raise InputError(f"{path}: exists, {made_by(path)}; {WAY_OUT}")


def made_by(path: Path) -> str:
    """Return in words who made an output."""
    known = provenance_of(path).get("command")
    return f"made by `{known}`" if known else "and does not say how it was made"


def is_made(out: Path, inputs: Iterable[Path | None], force: bool) -> bool:
    """Say whether a measured output is there already, by this very command from these very inputs; print that it is.

    What is measured anew is never the same again, so it is kept. Files among `inputs` are told by their bytes, and
    from here on `provenance()` states them. InputError as in `check_place`, and for what another command left.
    """
    inputs = [each for each in inputs if each is not None]
    check_place(out, inputs)
    digests = {name: digest_of(each) for name, each in told_apart(inputs).items() if each.exists()}
    note_inputs(digests)
    if force or not out.exists():
        return False
    if not is_by_this_command(out):
        raise InputError(f"{out}: exists, {made_by(out)}; {WAY_OUT}")
    if json_in(out.with_suffix(".json")).get("sha256", sha256_of(out)) != sha256_of(out):
        raise InputError(f"{out}: exists, and was changed since this command made it; {WAY_OUT}")
    if provenance_of(out).get("inputs", {}) != digests:
        raise InputError(f"{out}: exists, made by this command from other inputs; {WAY_OUT}")
    print(f"{out}: is there already, made by this command from these inputs; {FORCE} makes it anew")
    return True


def digest_of(path: Path) -> str:
    """Return a digest of the bytes of a file, or of the names and bytes of all files in a folder."""
    if not path.is_dir():
        return sha256_of(path)[:32]
    state = hashlib.sha256()
    for each in sorted(each for each in path.rglob("*") if each.is_file()):
        state.update(f"{each.relative_to(path)} {sha256_of(each)}\n".encode())
    return state.hexdigest()[:32]


def check_output(
    out: Path | None, inputs: Iterable[Path | None] = (), force: bool = False, folder: bool = False
) -> None:
    """Refuse, before anything is worked out, an output that cannot be: as in `check_place`, or another command's."""
    if out is None:
        return
    check_place(out, inputs, folder)
    if not force and not folder and out.exists():
        refuse_other(out)


@contextlib.contextmanager
def staged(
    out: Path, inputs: Iterable[Path | None] = (), force: bool = False, folder: bool = False,
    is_ours: Callable[[Path], bool] = lambda path: False,
) -> Iterator[Path]:  # fmt: skip
    """Yield a path of the same name to write to, with files beside it; move all of them to their places at the end.

    What is there is left where it holds the same bytes, and replaced where `force` is given or `is_ours(file)`.
    InputError otherwise, as in `check_place`, and at once where the file that is there was made by another command.
    """
    inputs, out = [each for each in inputs if each is not None], out if out.name else real(out)
    check_output(out, inputs, force, folder)
    out.parent.mkdir(parents=True, exist_ok=True)
    room = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    room.mkdir()
    try:
        with said_of(out, room / out.name):
            yield room / out.name
        state_digest(room / out.name)
        move(room, out.parent, inputs, force, is_ours)
    finally:
        shutil.rmtree(room, ignore_errors=True)


def state_digest(path: Path) -> None:
    """Let what says beside a file how it was made say its digest too: a file that is changed later is another one."""
    beside = path.with_suffix(".json")
    about = json_in(beside) if path.is_file() and beside != path else {}
    if "provenance" in about and "sha256" not in about:
        write_json(beside, {**about, "sha256": sha256_of(path)})


@contextlib.contextmanager
def said_of(out: Path, written: Path) -> Iterator[None]:
    """Let what is wrong be said of an output by its own name, not the one it is written under."""
    try:
        yield
    except InputError as error:
        raise InputError(str(error).replace(str(written), str(out))) from None


def move(room: Path, place: Path, inputs: list[Path], force: bool, is_ours: Callable[[Path], bool]) -> None:
    """Move all files from a folder to another one: all of them or, where one may not replace what is there, none."""
    moving = {}
    for path in sorted(path for path in room.rglob("*") if path.is_file()):
        target = place / path.relative_to(room)
        if not target.exists():
            moving[path] = target
        elif not (target.is_file() and filecmp.cmp(path, target, shallow=False)):
            check_place(target, [each for each in inputs if not each.is_dir()])
            if not (force or is_ours(target)):
                raise InputError(f"{target}: exists with other content, {made_by(target)}; {WAY_OUT}")
            moving[path] = target
    for path, target in moving.items():
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(path, target)
    for folder in {target.parent for target in moving.values()}:
        sync_folder(folder)
