"""Tables that a command of `simulate` wrote, with TABLE.json beside: read where they are of the input that is here."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from moe_replay.traces.errors import InputError


@dataclass(frozen=True)
class AnswerTable:
    """What a table is about (in words), the command that makes it, and the columns that it must have."""

    about: str
    made_by: str
    columns: tuple[str, ...]

    def read(self, path: Path, name: str, digest: str) -> pd.DataFrame:
        """Return the rows; InputError where it is no such table, or not of the input `name` with this digest."""
        try:
            table = pd.read_csv(path, keep_default_na=False, na_values=[""])
            told = json.loads(path.with_suffix(".json").read_text())["inputs"].get(name)
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            why = getattr(error, "strerror", None) or f"is no table of {self.about}"
            raise InputError(f"{path}: {why}; allowed: what `{self.made_by}` writes, with its TABLE.json") from None
        if lacking := [each for each in self.columns if each not in table]:
            raise InputError(f"{path}: lacks column {lacking[0]}; allowed: what `{self.made_by}` writes")
        if told != digest:
            raise InputError(f"{path}: is of another {name} than the one here")
        return table
