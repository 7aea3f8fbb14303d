"""Which commands of a quick run are done: a JSON file among the logs, whole after every entry."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

from moe_replay.collect.quick.steps import Command
from moe_replay.traces.command_line.files import write_json
from moe_replay.traces.errors import InputError


class Journal:
    """What is done, by the command's words: `seconds` it took. `about` describes the machine."""

    def __init__(self, path: Path, about: dict) -> None:
        self.path, self.about, self.seconds = path, about, {}
        if path.exists():
            try:
                self.seconds = {
                    str(key): float(value) for key, value in json.loads(path.read_text())["seconds"].items()
                }
            except (ValueError, LookupError, TypeError, AttributeError):
                raise InputError(f"{path}: is no journal of a quick run; allowed: another --out") from None

    def is_done(self, command: Command) -> bool:
        """Return whether a command has ended well and what it made is still there."""
        return shlex.join(command.words[1:]) in self.seconds and all(path.exists() for path in command.makes)

    def note(self, command: Command, seconds: float) -> None:
        """Note that a command has ended well."""
        self.seconds[shlex.join(command.words[1:])] = round(seconds, 1)
        write_json(self.path, {**self.about, "seconds": self.seconds})
