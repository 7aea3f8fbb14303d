"""Link files: latency and bandwidth inside a node and between nodes, as TOML; those of common machines by name."""

from __future__ import annotations

import json
import tomllib
from dataclasses import dataclass
from pathlib import Path

from moe_replay.traces.command_line.number_limits import MOST_DEVICES
from moe_replay.traces.command_line.units import BANDWIDTH, SIZE, Quantity, time_in
from moe_replay.traces.errors import InputError, unknown_name

MACHINES = Path(__file__).parent / "machines"
MODES, UNITS = ("direct", "hierarchical"), ("device", "selection")
# What a file may hold, section by section; the keys that it must hold are in NEEDED.
KEYS = {
    "": ("source",),
    "inside": ("latency", "bandwidth"),
    "network": ("latency", "bandwidth", "nics"),
    "exchange": ("mode", "unit", "dispatch_bytes", "combine_bytes"),
}
NEEDED = [(section, key) for section in ("inside", "network") for key in ("latency", "bandwidth")]
WORDS = {"mode": MODES, "unit": UNITS}
QUANTITIES = {
    "latency": (time_in("us"), 0),
    "bandwidth": (BANDWIDTH, 1),
    "dispatch_bytes": (SIZE, 1),
    "combine_bytes": (SIZE, 1),
}


@dataclass(frozen=True)
class LinkFile:
    """The links of a cluster: `inside` a node and on the `network`, each with ns of latency and bytes per second.

    `nics` are the network ports of a node, None: one for each device. `mode`, `unit` and the bytes per token are None
    where the file leaves them to the run. `source` says where the numbers are from.
    """

    inside_latency_ns: int
    inside_bytes_per_s: float
    network_latency_ns: int
    network_bytes_per_s: float
    nics: int | None = None
    mode: str | None = None
    unit: str | None = None
    dispatch_bytes: int | None = None
    combine_bytes: int | None = None
    source: str = ""


def read_links(path: Path | str) -> LinkFile:
    """Return the links in a TOML file; InputError naming the file, the key and what is allowed for anything else."""
    try:
        content = tomllib.loads(Path(path).read_text())
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: no TOML file ({str(error)[:80]})") from None
    try:
        return links_of(content)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def write_links(path: Path | str, links: LinkFile) -> None:
    """Write a file that `read_links` reads as these links."""
    sections = {
        "": {"source": links.source},
        "inside": {"latency": links.inside_latency_ns, "bandwidth": links.inside_bytes_per_s},
        "network": {
            "latency": links.network_latency_ns, "bandwidth": links.network_bytes_per_s, "nics": links.nics,
        },
        "exchange": {name: getattr(links, name) for name in KEYS["exchange"]},
    }  # fmt: skip
    text = ""
    for section, values in sections.items():
        given = {key: value for key, value in values.items() if value not in (None, "")}
        if given:
            text += (f"\n[{section}]\n" if text else f"[{section}]\n") if section else ""
            text += "".join(f"{key} = {written(key, value)}\n" for key, value in given.items())
    Path(path).write_text(text)


def written(key: str, value: object) -> str:
    """Return a value as TOML, times and bandwidths with their units."""
    if key == "latency":
        return f'"{value // 1000}.{value % 1000:03d}us"'
    if key == "bandwidth":
        return '"inf"' if value == float("inf") else f'"{value / 1e6:.12g}MB/s"'
    # TOML's basic strings escape what JSON's do, but for one character that JSON leaves as it is.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def links_of(content: dict) -> LinkFile:
    """Return the links that the sections of a file hold."""
    sections = {"": {name: value for name, value in content.items() if not isinstance(value, dict)}}
    sections |= {name: value for name, value in content.items() if isinstance(value, dict)}
    for section, values in sections.items():
        if section not in KEYS:
            raise unknown_name("section", section, [name for name in KEYS if name])
        for key in values:
            if key not in KEYS[section]:
                raise unknown_name(f"key of [{section}]" if section else "key", key, KEYS[section])
    for section, key in NEEDED:
        if key not in sections.get(section, {}):
            raise InputError(f"[{section}] {key} is missing; needed: latency and bandwidth of [inside] and [network]")
    found = {
        (section, key): valued(section, key, value)
        for section, values in sections.items()
        for key, value in values.items()
    }
    named = {"latency": "latency_ns", "bandwidth": "bytes_per_s"}
    return LinkFile(
        **{f"{section}_{named[key]}" if key in named else key: value for (section, key), value in found.items()}
    )


def valued(section: str, key: str, value: object) -> object:
    """Return the value of a key in the base unit; InputError for what is not allowed there."""
    place = f"[{section}] {key}" if section else key
    if key in QUANTITIES:
        return quantity(place, value, *QUANTITIES[key])
    if key == "nics":
        if type(value) is not int or not 1 <= value <= MOST_DEVICES:
            raise InputError(f"{place} is {value!r}, allowed: integers 1..{MOST_DEVICES:,}")
        return value
    if not isinstance(value, str):
        raise InputError(f"{place} is {value!r}, allowed: a text")
    if key in WORDS and value not in WORDS[key]:
        raise unknown_name(place, value, WORDS[key])
    return value


def quantity(place: str, value: object, kind: Quantity, low: float) -> float:
    """Return a quantity that is written as text with its unit, or as a number without one."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise InputError(f"{place} is {value!r}, allowed: {kind.allowed(low)}")
    try:
        return kind.parsed(str(value), low)
    except ValueError as error:
        raise InputError(f"{place}: {error}") from None


def shipped_machines() -> dict[str, Path]:
    """Return the link files that come with the project, by name."""
    return {path.stem: path for path in sorted(MACHINES.glob("*.toml"))}


def machine_by_name(given: Path | str) -> tuple[str, LinkFile]:
    """Return (name, links) of a file, or of the shipped machine of that name; InputError for neither."""
    path = Path(given)
    try:
        there = path.suffix == ".toml" or path.is_file()
    except (OSError, ValueError):  # no name that a file could have
        there = False
    if there:
        return path.stem, read_links(path)
    if str(given) not in shipped_machines():
        raise InputError(f"{given}: no machine of that name, and no FILE.toml; known: {', '.join(shipped_machines())}")
    return str(given), read_links(shipped_machines()[str(given)])
