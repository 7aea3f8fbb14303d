"""Cost tables, served layers and links that come with the project, by name, as `nvidia-h200/mixtral-8x7b`."""

from __future__ import annotations

from pathlib import Path

from moe_replay.traces.errors import InputError

DATA = Path(__file__).parent / "data"
COSTS = ".costs.parquet"
SERVED_TIMES = ".served.parquet"  # measured by others: each says by whom, under which license
LINK = "link.parquet"
FOLDER = "shapes"  # of a device's logs: what was measured at published layer shapes


def shipped_costs() -> dict[str, Path]:
    """Return the cost tables by name, DEVICE/SHAPE."""
    return named(COSTS)


def shipped_served() -> dict[str, Path]:
    """Return the times of served layers by name, DEVICE/MODEL-FRAMEWORK."""
    return named(SERVED_TIMES)


def named(ending: str) -> dict[str, Path]:
    """Return the files of layer shapes that end so, by DEVICE/NAME."""
    found = sorted(DATA.glob(f"*/{FOLDER}/*{ending}"))
    return {f"{path.parent.parent.name}/{path.name.removesuffix(ending)}": path for path in found}


def shipped_links() -> dict[str, Path]:
    """Return the measured links by name, that of the device to which they lead."""
    return {path.parent.parent.name: path for path in sorted(DATA.glob(f"*/{FOLDER}/{LINK}"))}


def found_by_name(given: Path, kind: str, shipped: dict[str, Path]) -> Path:
    """Return a file or folder as it was given, or what is shipped under that name.

    A name that is neither is refused with the known ones; a missing file that ends in .parquet is left to its reader.
    """
    if given.exists() or given.suffix == ".parquet":
        return given
    if given.as_posix() not in shipped:
        known = ", ".join(shipped) or "none is shipped"
        raise InputError(f"{given}: no such file, and no {kind} of that name; known: {known}")
    return shipped[given.as_posix()]
