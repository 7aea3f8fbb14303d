"""Every setting of a run as columns, so that no two rows read the same unless they are of one configuration."""

import dataclasses
import json
import re
from collections.abc import Iterable

import pandas as pd

from moe_replay.simulate.config.cluster_config import ClusterConfig
from moe_replay.simulate.config.memory_config import MemoryConfig
from moe_replay.simulate.config.run_config import DEFAULTS, ONLY_UNDER
from moe_replay.simulate.policies.rule_names import TABLES
from moe_replay.traces.glossary.lookup import title

NOT_SAID = "not said"
RESIDENT = "resident"  # the cache of a run with all experts in device memory
INPUTS = (
    "source",
    "device",
    "trace_digest",
    "costs_digest",
    "known_digest",
    "own_rules",
)  # of a header, where they differ
# What a machine's name says as well.
SPEEDS = ("inside_latency_ns", "inside_bytes_per_s", "network_latency_ns", "network_bytes_per_s", "nics")
# Replications differ in their seed only; the fields of a memory and of a cluster are columns themselves.
NOT_SETTINGS = ("seed", "memory", "cluster")
MEMORY = tuple(each.name for each in dataclasses.fields(MemoryConfig))
CLUSTER = tuple(each.name for each in dataclasses.fields(ClusterConfig))
ORDER = (*(name for name in DEFAULTS if name not in NOT_SETTINGS), *MEMORY, *CLUSTER)
SWEPT = ("queue_size", "max_step", "slots")  # rows are sorted by them last, so that a curve's rows follow each other
# Fields that mean nothing elsewhere keep a default there, which a table need not tell.
WHERE = ONLY_UNDER | {"look_ahead": ("prefetch", "oracle"), "host_factor": ("miss", "host")}
SHORT_DIGEST = 8
# What every row of most tables has: not worth a word.
PLAIN = {"served": "all", "speed": 1.0, "dense": True, "devices": 1, "placement": "contiguous", "cache": RESIDENT}


def every_setting(config: dict) -> dict:
    """Return all fields of a configuration (a RunConfig as a dictionary), those of its memory and cluster among them.

    A field that means nothing under the run's scheduler, arrivals, prefetcher or handling of a miss is empty.
    """
    memory = config.get("memory") or {"cache": RESIDENT}
    silent = {name: value for name, value in DEFAULTS.items() if value is not None}  # what a header may leave out
    # In a table of many runs what one header leaves out is empty, not absent.
    said = {name: value for name, value in config.items() if value is not None or name not in silent}
    whole = {name: value for name, value in {**silent, **said}.items() if name not in NOT_SETTINGS} | memory
    whole |= config.get("cluster") or {}
    kept = {name: whole.get(name) for name in (*ORDER, *(name for name in whole if name not in ORDER)) if name in whole}
    return {name: written(value) if applies(name, whole) else None for name, value in kept.items()}


def knowledge(config: dict, known: str | None) -> dict:
    """Return where what the policies of an expert memory know beforehand comes from, as a setting; nothing without one.

    `known` is what the records say, None where they were made before it was noted.
    """
    return {"known": known or NOT_SAID} if config.get("memory") else {}


def applies(name: str, settings: dict) -> bool:
    """Whether a field means something in a configuration."""
    if name in MEMORY and name != "cache" and settings.get("cache") == RESIDENT:
        return False
    under, needed = WHERE.get(name, (None, None))
    rule = settings.get(under)
    return under is None or rule == needed or (under in TABLES and rule is not None and TABLES[under].is_own(rule))


def written(value: object) -> object:
    """Return a setting as a table holds it: slots of every layer as `4.8.8`."""
    return ".".join(map(str, value)) if isinstance(value, list | tuple) else value


def inputs_of(header: dict) -> dict:
    """Return what a run was made from, as far as its header says."""
    found = {name: header[name] for name in INPUTS if header.get(name) is not None}
    return {
        name: json.dumps(value, sort_keys=True) if isinstance(value, dict) else value for name, value in found.items()
    }


def configuration_key(settings: dict) -> tuple:
    """Return what rows of one configuration have in common, as a key."""
    return tuple(sorted((name, repr(value)) for name, value in settings.items()))


def only_differing(rows: list[dict]) -> list[dict]:
    """Return the rows without those inputs that all of them share."""
    shared = [name for name in INPUTS if len({row.get(name) for row in rows}) < 2]
    return [{name: value for name, value in row.items() if name not in shared} for row in rows]


def settings_table(rows: list[dict]) -> pd.DataFrame:
    """Return settings as a table that keeps numbers whole: an integer beside an empty field stays one."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    return pd.DataFrame({name: pd.Series([row.get(name) for row in rows], dtype=object) for name in names})


def in_order(settings: pd.DataFrame) -> list[int]:
    """Return the places of the rows sorted by their settings, column by column: numbers as numbers, empty ones last."""
    names = sorted(settings, key=lambda name: SWEPT.index(name) + 1 if name in SWEPT else 0)
    keys = [tuple(map(sorting_key, row)) for row in settings[names].itertuples(index=False)]
    return sorted(range(len(keys)), key=keys.__getitem__)


def sorting_key(value: object) -> tuple:
    """Return a key that sorts numbers as numbers, before texts, in which digits count as numbers too."""
    if value is None or value != value:
        return (2, ())
    if isinstance(value, int | float):
        return (0, (value,))
    parts = re.split(r"(\d+)", str(value))
    return (1, tuple((place % 2, int(part) if place % 2 else part) for place, part in enumerate(parts)))


def differing(settings: pd.DataFrame) -> list[str]:
    """Return the names of the settings that tell rows apart, as few as do.

    Left out are a setting with one value in all rows where it applies (in_flight in those of a closed loop), and inputs
    (digests) and speeds of links that the other settings tell apart already.
    """
    found = [name for name in settings if len(reprs(settings, name)) > 1]
    needed = [name for name in found if name not in (*INPUTS, *SPEEDS) and values_of(settings, name) > 1]
    for name in found:
        if name not in needed and groups(settings, [*needed, name]) > groups(settings, needed):
            needed.append(name)
    return [name for name in found if name in needed]


def reprs(settings: pd.DataFrame, name: str) -> set[str]:
    """Return the distinct values of a setting as text."""
    return {repr(value) for value in settings[name]}


def values_of(settings: pd.DataFrame, name: str) -> int:
    """Return how many values a setting has where it applies; empty is one of them, such as no time-out."""
    rows = settings.to_dict("records")
    return len({repr(row[name]) for row in rows if applies(name, row)})


def groups(settings: pd.DataFrame, names: list[str]) -> int:
    """Return into how many groups some settings part the rows."""
    return len({tuple(map(repr, row)) for row in settings[names].itertuples(index=False)}) if names else 1


def texts(values: Iterable[object]) -> list[str]:
    """Return values as printed tables hold them: whole numbers whole, others with four digits, nothing for empty."""
    return [text(value) for value in values]


def text(value: object) -> str:
    """Return one value as text."""
    if value is None or value != value:
        return ""
    if isinstance(value, float):
        return f"{value:.0f}" if value.is_integer() and abs(value) < 1e15 else f"{value:.4g}"
    return str(value)


def exact(values: Iterable[object]) -> list[str]:
    """Return settings as text, with as many digits as it takes to tell different ones apart."""
    values = list(values)
    short, apart = texts(values), {repr(value) for value in values}
    return short if len(set(short)) == len(apart) else ["" if value is None else str(value) for value in values]


def printed_settings(settings: pd.DataFrame) -> dict[str, list[str]]:
    """Return {title: texts} of the settings in which rows differ; of digests the first digits."""
    found = {}
    for name in differing(settings):
        values = settings[name]
        if name.endswith("_digest"):
            values = [None if value is None else value[:SHORT_DIGEST] for value in values]
        found[title(name)] = exact(values)
    return found


def said_of_all(settings: pd.DataFrame, but: Iterable[str] = ()) -> str:
    """Return the settings that are the same wherever they apply, in words; those that are plain are not worth one.

    Nothing is said of `but`, which the table shows anyway.
    """
    apart = {*differing(settings), *but}
    shared = {name: next((v for v in settings[name] if text(v)), None) for name in settings if name not in apart}
    words = [
        f"{title(name)} {text(value)}" for name, value in shared.items()
        if text(value) and PLAIN.get(name) != value and name not in (*INPUTS, *SPEEDS)
    ]  # fmt: skip
    return f"the same wherever it applies: {', '.join(words)}" if words else ""
