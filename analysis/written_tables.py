"""Tables on disk: `NAME.csv`, whole or absent, with `NAME.json` beside it that says how to make it again."""

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import numpy as np
import pandas as pd

from moe_replay.traces.command_line.distinct_names import told_apart
from moe_replay.traces.command_line.files import replacing, sha256_of, write_json
from moe_replay.traces.command_line.outputs import (
    WAY_OUT,
    check_output,
    digest_of,
    in_checkout,
    is_by_this_command,
    json_in,
    made_by,
    provenance_of,
    staged,
)
from moe_replay.traces.command_line.provenance import provenance
from moe_replay.traces.errors import InputError

CLAIMS = "claims.json"
WHOLE_HELP = "Write every column; TABLE.json beside it says how it came."
FINE = ("ok", "unstable", "short", "skipped")  # every other status is a hole and makes the command fail

_turn: AbstractContextManager = nullcontext()  # to change `claims.json`, where other processes change it too


def take_turns(lock: AbstractContextManager) -> None:
    """Let this process change `claims.json` only while it holds a lock that it shares with others."""
    global _turn
    _turn = lock


def write_whole(table: pd.DataFrame, out: Path | None, inputs: list[Path | None], force: bool) -> None:
    """Write every column of a table as CSV, where asked, and beside it from what and how it was made."""
    if out is None:
        return
    given = told_apart([each for each in inputs if each is not None])
    with staged(out, inputs, force, is_ours=is_of_this_command) as written:
        write_csv(written.parent, written.stem, table, {name: digest_of(each) for name, each in given.items()})


def check_whole(out: Path | None, inputs: list[Path | None], force: bool) -> None:
    """Refuse, before anything is worked out, a place where `write_whole` could not write."""
    if out is not None and out.suffix != ".csv":
        raise InputError(f"--out: {out.name!r} is not allowed; allowed: a name that ends in .csv")
    check_output(out, inputs, force)


def write_csv(folder: Path, name: str, table: pd.DataFrame, inputs: dict[str, str]) -> None:
    """Write a table and its provenance: columns with units in their names, nine digits, and digests of its inputs."""
    path = folder / f"{name}.csv"
    with replacing(path) as temporary:
        table.to_csv(temporary, index=False, float_format="%.9g", lineterminator="\n")
    about = {"table": name, "rows": len(table), "sha256": sha256_of(path), "inputs": inputs, "provenance": provenance()}
    write_json(folder / f"{name}.json", about)


def write_claims(folder: Path, claims: dict[str, dict]) -> None:
    """Add the claims of some figures to `claims.json`, replacing earlier ones of the same figures."""
    path = folder / CLAIMS
    with _turn:
        known = claims_in(path)
        write_json(path, known | {figure: plain(claim) for figure, claim in claims.items()})


def keep_claims(written: Path, out: Path) -> None:
    """Add the claims of other figures that a folder has already to those just written."""
    known = claims_in(out / CLAIMS)
    if known:
        write_json(written / CLAIMS, known | claims_in(written / CLAIMS))


def claims_in(path: Path) -> dict[str, dict]:
    """Return the claims in a file, empty where it holds none."""
    found = json_in(path)
    return found if all(isinstance(each, dict) and "claim" in each for each in found.values()) else {}


def is_of_this_command(path: Path) -> bool:
    """Say whether a file is a table, or is beside one, that the running command wrote and nobody changed since.

    Which tables were asked for makes no other command. Claims are everybody's: those of other figures are kept.
    """
    if path.name == CLAIMS:
        return bool(claims_in(path))
    about = path.with_suffix(".json")
    own = "table" in json_in(about) and is_by_this_command(about, ("--only",))
    return own and (path == about or json_in(about).get("sha256") == sha256_of(path))


def refuse_other_tables(out: Path) -> None:
    """Refuse a folder that holds tables of other logs or simulations, before new ones are made."""
    for about in sorted(out.glob("*.json")):
        words = in_checkout(str(provenance_of(about).get("command"))).split()
        if words[:4] == ["python", "-m", "analysis", "tables"] and not is_by_this_command(about, ("--only",)):
            raise InputError(f"{out}: holds {about.stem}.csv, {made_by(about)}; {WAY_OUT}")


def plain(value: object) -> object:
    """Return a copy that JSON can hold: numpy numbers as numbers, rounded to nine digits, NaN as null."""
    if isinstance(value, dict):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return float(f"{value:.9g}") if np.isfinite(value) else None
    return value


def holes(table: pd.DataFrame) -> list[str]:
    """Return one line per row of a table whose status names a hole."""
    if "status" not in table:
        return []
    bad = table[~table["status"].isin(FINE)]
    shown = [name for name in ("set", "source", "setting", "view", "k", "queue_size", "run") if name in bad]
    return [" ".join(str(row[name]) for name in shown if pd.notna(row[name])) + f": {row['status']}: {row['reason']}"
            for row in bad.to_dict("records")]  # fmt: skip


def hole_row(name: str, found: object, reason: str) -> dict:
    """Return the row of a set that has nothing to show: `missing` if the input is absent, `failed` if it is no use."""
    missing = found is None and (reason.startswith("no ") or reason.endswith("no such file"))
    return {"set": name, "status": "missing" if missing else "failed", "reason": reason}


def write_tables(out: Path, tables: dict[str, list[dict] | pd.DataFrame], digests: dict) -> dict[str, pd.DataFrame]:
    """Write each table under its name and return them as data frames."""
    frames = {name: pd.DataFrame(rows) for name, rows in tables.items()}
    for name, frame in frames.items():
        write_csv(out, name, frame, digests)
    return frames
