"""The list of figures beside them: which command drew them, and the digest of every file."""

from pathlib import Path

from moe_replay.traces.command_line.files import sha256_of, write_json
from moe_replay.traces.command_line.outputs import is_by_this_command, json_in
from moe_replay.traces.command_line.provenance import provenance

LIST = "figures.json"


def write_list(written: Path, out: Path) -> None:
    """Write the list of the files that were just drawn; it keeps what it says of others in the folder `out`."""
    drawn = {path.name: sha256_of(path) for path in sorted(written.iterdir())}
    known = json_in(out / LIST).get("files", {}) if is_drawn(out / LIST) else {}
    write_json(written / LIST, {"files": {**known, **drawn}, "provenance": provenance()})


def is_drawn(path: Path) -> bool:
    """Say whether the running command drew a file, whichever figures it was asked for, and nobody changed it since."""
    about = path.with_name(LIST)
    files = json_in(about).get("files")
    own = isinstance(files, dict) and is_by_this_command(about, ("--only",))
    return own and (path == about or (path.is_file() and files.get(path.name) == sha256_of(path)))
