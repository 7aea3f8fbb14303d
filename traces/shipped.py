"""Cost tables and links that come with the project, by name: `nvidia-h200/mixtral-8x7b`; a link: `nvidia-h200`."""

from __future__ import annotations

from pathlib import Path

from moe_replay.traces.errors import InputError

DATA = Path(__file__).parent / "data"
COSTS = ".costs.parquet"
LINK = "link.parquet"
FOLDER = "shapes"  # of a device's logs: what was measured at published layer shapes


def shipped_costs() -> dict[str, Path]:
    """Return the cost tables by name, DEVICE/SHAPE."""
    found = sorted(DATA.glob(f"*/{FOLDER}/*{COSTS}"))
    return {f"{path.parent.parent.name}/{path.name.removesuffix(COSTS)}": path for path in found}


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
