"""Reads the tables and claims in a folder, and remembers what was missing."""

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

FINE = ("ok", "unstable", "short", "skipped")


@dataclass
class TableFiles:
    """A folder of tables; `holes` collects what a figure had to do without, `digests` what it read."""

    folder: Path
    holes: list[str] = field(default_factory=list)
    digests: dict[str, str] = field(default_factory=dict)
    _read: dict[str, pd.DataFrame] = field(default_factory=dict)

    def read(self, name: str) -> pd.DataFrame:
        """Return a whole table; an empty one where the file is absent. Both that and its failed rows become holes."""
        if name not in self._read:
            self._read[name] = self._load(name)
        return self._read[name]

    def rows(self, name: str) -> pd.DataFrame:
        """Return the rows of a table that hold results."""
        table = self.read(name)
        return table[table["status"].isin(FINE)] if "status" in table else table

    def _load(self, name: str) -> pd.DataFrame:
        path = self.folder / f"{name}.csv"
        try:
            content = path.read_bytes()
            table = pd.read_csv(path)
        except FileNotFoundError:
            self.holes.append(f"{path.name}: no such file")
            return pd.DataFrame()
        except pd.errors.EmptyDataError:
            table = pd.DataFrame()  # a table without rows: the table it was made from says what is missing
        except (OSError, ValueError) as error:
            self.holes.append(f"{path.name}: not a CSV table ({str(error)[:60]})")
            return pd.DataFrame()
        self.digests[path.name] = hashlib.sha256(content).hexdigest()[:12]
        if "status" in table:
            lines = [hole_line(row) for row in table[~table["status"].isin(FINE)].to_dict("records")]
            self.holes += [line for line in dict.fromkeys(lines) if line not in self.holes]
        return table

    def holes_of(self, name: str) -> list[str]:
        """Return what is missing of one set, without repeating its name."""
        return [line.removeprefix(name).lstrip(" :") for line in self.holes if line.startswith(name)]

    def missing(self, table: str, place: str = "") -> list[str]:
        """Return why a panel has nothing to show, of one set where one is named: at least one hole.

        A table without a row that can be drawn is a hole too, so that no panel is empty beside "0 holes".
        """
        found = self.holes_of(place) if place else []
        if not found and not self.holes:
            self.holes.append(f"{table}.csv: holds no row that can be drawn")
        return found or self.holes

    def claim(self, figure: str) -> dict:
        """Return {"claim", "numbers"} of a figure; a hole where `claims.json` has none."""
        found = self._claims().get(figure)
        if isinstance(found, dict) and isinstance(found.get("claim"), str) and isinstance(found.get("numbers"), dict):
            return found
        self.holes.append(f"claims.json: no claim for {figure}")
        return {"claim": "No claim was computed for this figure.", "numbers": {}}

    def numbers(self, figure: str) -> dict:
        """Return the numbers behind a figure's claim; none where there is no claim (`claim` tells of that)."""
        found = self._claims().get(figure)
        return found["numbers"] if isinstance(found, dict) and isinstance(found.get("numbers"), dict) else {}

    def tells_of(self, figure: str) -> bool:
        """Say whether the folder has a figure's table or its claim: whether it was asked for, failed or not."""
        return (self.folder / f"{figure}.csv").exists() or figure in self._claims()

    def _claims(self) -> dict:
        """Return all claims, empty where there are none."""
        try:
            found = json.loads((self.folder / "claims.json").read_text())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def about(self) -> str:
        """Return the digests of what was read, for the metadata of the figure's files."""
        return "  ".join(f"{name} sha256 {digest}" for name, digest in sorted(self.digests.items()))


def hole_line(row: dict) -> str:
    """Return what is missing, where and why, in one line."""
    named = [str(row[key]) for key in ("source", "setting", "view", "run") if pd.notna(row.get(key))]
    sizes = [f"{letter}={row[key]:g}" for key, letter in (("queue_size", "B"), ("k", "k")) if pd.notna(row.get(key))]
    return f"{' '.join([row['set'], *named, *sizes])}: {row['status']}: {row['reason']}"
