"""Where a data set's files are: `--data-dir`, then `MOE_REPLAY_DATA`, then what the data set itself knows of."""

import os
from pathlib import Path

from moe_replay.traces.errors import InputError


def find_folder(name: str, files: tuple[str, ...], data_dir: Path | None, known: tuple[Path, ...] = ()) -> Path | None:
    """Return the first folder that holds all `files`: of the places above, `NAME/` inside each before the place itself.

    None where no place holds any of them. Raises InputError where a folder holds some files but not all.
    """
    environment = os.environ.get("MOE_REPLAY_DATA")
    places = [place for place in (data_dir, Path(environment) if environment else None, *known) if place]
    for folder in (inner for place in places for inner in (place / name, place)):
        missing = [file for file in files if not (folder / file).is_file()]
        if not missing:
            return folder
        if len(missing) < len(files):
            raise InputError(f"{folder}: {missing[0]} is missing; {name} needs {', '.join(files)}")
    return None
