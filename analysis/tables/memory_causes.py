"""What expert slots cost in time, and why: one row per memory of a folder of runs, the lost time split by cause."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from moe_replay.analysis.estimates.intervals import half_width
from moe_replay.analysis.printing import WIDEST, fitted, width
from moe_replay.analysis.reading.configurations import (
    RESIDENT,
    configuration_key,
    differing,
    every_setting,
    exact,
    knowledge,
    said_of_all,
    settings_table,
    sorting_key,
    texts,
)
from moe_replay.analysis.tables.lost_mass import Relation
from moe_replay.simulate.config.memory_config import MASKED
from moe_replay.simulate.config.run_config import RunConfig
from moe_replay.simulate.sweeps.regret import CAUSES, split, worlds
from moe_replay.traces.errors import InputError
from moe_replay.traces.glossary.lookup import title
from moe_replay.traces.runs.run_records import RunRecords, load_run, run_names
from moe_replay.traces.runs.run_statistics import whole_values
from moe_replay.traces.runs.run_window import WHOLE_RUN, is_open
from moe_replay.traces.runs.served_sequences import served_sequences

RUN, BOUND, OPTIMUM = "run", "bound", "optimum"
OPTIMA = ("optimum", "declining")  # worlds of `simulate.sweeps.regret`, of which the faster one is the bound
LAST = ("slots", "cache", "prefetch")  # rows are sorted by the other settings first, but for these:
TOLD_BY_OTHERS = ("world", "look_ahead")
NUMBERS = (
    "replications", "hit_ratio", "delayed_ratio", "transfers_per_pass", "ms_per_pass", "sojourn_mean_ms",
    "tokens_per_s", "requests_per_s", "slowdown", "lost_ms", *(f"{cause}_ms" for cause in CAUSES), "lost_mass",
    "measured_loss",
)  # fmt: skip
ALWAYS = ("cache", "slots", "miss", "known")  # settings that are shown even where all rows are alike
# Left out of a printed table that is too wide, first to last.
SPARED = ("requests_per_s", "delayed_ratio", "replications", "transfers_per_pass", "tokens_per_s", "hit_ratio")
NOT_VALIDATED = "lost mass: share of the gate mass that did not run; what it costs in quality is not validated"
ASK = "--quality TABLE (of `collect swap-quality`) shows beside it what as much lost mass cost where it was measured"
NOT_EXACT = (
    "policy: against the fastest of Belady's optimum, the one that may decline, and the policy itself; an optimum "
    "knows the order of a run with LRU: exact in lockstep and where misses block in a closed loop"
)


BOUND_SAID = "bound: the faster of Belady's optimum and the one that may decline, its transfers never wait"


def memory_table(folder: Path) -> pd.DataFrame:
    """Return one row per memory and setting in a folder of run records, seeds combined.

    Columns: every setting; `world`, which is `run`, or what runs are held against: `resident` (all experts are) and
    `bound` (the slots under the faster optimum); numbers of whole runs. `lost_ms` is what the time exceeds that of all
    experts resident by, in terms of what `lost_in` names: ms/pass, or, under arrivals that do not wait for the model,
    the mean latency. The causes (`simulate.sweeps.regret`) are empty where the folder lacks a world, half-widths are of
    95 % intervals over seeds. InputError where no run has expert slots.
    """
    runs = {}
    for name in run_names(folder):
        records = load_run(folder, name)
        runs[RunConfig.from_dict(records.header["config"])] = records
    times_ms = {config: time_ms(records) for config, records in runs.items()}
    groups: dict[tuple, tuple[dict, list[dict]]] = {}
    for world, config in rows_of(runs):
        header = runs[config].header
        told = {"world": world, **every_setting(header["config"]), **knowledge(header["config"], header.get("known"))}
        told.pop("link", None)  # which the world tells
        numbers = one_run(config, runs[config], times_ms)
        groups.setdefault(configuration_key(told), (told, []))[1].append(numbers)
    if not groups:
        raise InputError(f"{folder}: no run with expert slots; allowed: what `simulate memory` wrote")
    found = best_bounds([(told, combined(numbers)) for told, numbers in groups.values()])
    found.sort(key=lambda row: place_of(row[0]))
    settings = settings_table([told for told, _ in found])
    return pd.concat([settings, pd.DataFrame([numbers for _, numbers in found])], axis=1)


def rows_of(runs: dict[RunConfig, RunRecords]) -> Iterator[tuple[str, RunConfig]]:
    """Yield (world, configuration) of every run with expert slots, and of what it is held against."""
    against: dict[tuple[str, RunConfig], None] = {}
    for config, records in runs.items():
        if config.memory is None or config.memory.link != "fifo":  # the other worlds only explain
            continue
        yield RUN, config
        around = worlds(config, records.header["memory"]["experts"])
        against[RESIDENT, replace(config, memory=None)] = None
        against |= dict.fromkeys((BOUND, around[name]) for name in OPTIMA if name in around)
    yield from (row for row in against if row[1] in runs)


def best_bounds(rows: list[tuple[dict, dict]]) -> list[tuple[dict, dict]]:
    """Return the rows with one bound for each memory: of both optima the faster; its cache is called the optimum."""
    best: dict[tuple, tuple[dict, dict]] = {}
    for told, numbers in rows:
        if told["world"] == BOUND:
            told = told | {"cache": OPTIMUM}
            key = configuration_key(told)
            if key not in best or numbers["time_ms"] < best[key][1]["time_ms"]:
                best[key] = told, numbers
    return [row for row in rows if row[0]["world"] != BOUND] + list(best.values())


def place_of(told: dict) -> tuple:
    """Return a key that sorts rows by their settings, all experts resident first, a bound before what it bounds."""
    others = [sorting_key(value) for name, value in told.items() if name not in (*LAST, *TOLD_BY_OTHERS)]
    slots, cache, prefetch = (sorting_key(told.get(name)) for name in LAST)
    return told["world"] != RESIDENT, others, slots, told["world"] != BOUND, cache, prefetch


def time_ms(records: RunRecords) -> float:
    """Return the time per pass in ms: of the whole run, or where arrivals do not wait, from arrival to end."""
    return sojourn_ms(records) if is_open(records.header["config"]) else ms_per_pass(records)


def sojourn_ms(records: RunRecords) -> float:
    """Return the mean time of a pass from its arrival to its end."""
    return float((records.passes["end_ns"] - records.passes["arrival_ns"]).mean()) / 1e6


def ms_per_pass(records: RunRecords) -> float:
    """Return the length of a run over its passes."""
    passes = records.passes
    return float(passes["end_ns"].max() - passes["arrival_ns"].min()) / len(passes["end_ns"]) / 1e6


def one_run(config: RunConfig, records: RunRecords, times_ms: dict[RunConfig, float]) -> dict:
    """Return the numbers of one run."""
    counts = records.header.get("memory", {})
    accesses = max(1, counts.get("accesses", 0))
    resident_ms = times_ms.get(replace(config, memory=None), np.nan)
    whole = whole_values(records.passes, served_sequences(records.passes))
    numbers = {
        "hit_ratio": counts.get("hits", np.nan) / accesses,
        "delayed_ratio": counts.get("delayed_hits", np.nan) / accesses,
        "transfers_per_pass": transfers(records) / len(records.passes["end_ns"]),
        "ms_per_pass": ms_per_pass(records), "sojourn_mean_ms": sojourn_ms(records),
        "tokens_per_s": whole["tokens_per_s"], "requests_per_s": whole["requests_per_s"],
        "time_ms": times_ms[config], "lost_ms": times_ms[config] - resident_ms,
        "slowdown": times_ms[config] / resident_ms if resident_ms else np.nan,
        "lost_mass": counts.get("lost_mass", np.nan),
    }  # fmt: skip
    around = {}
    if config.memory is not None and config.memory.link == "fifo":
        around = {name: times_ms.get(each, np.nan) for name, each in worlds(config, counts["experts"]).items()}
    causes = split(around) if around else dict.fromkeys(CAUSES, np.nan)
    lost_in = title("sojourn_mean_ms" if is_open(records.header["config"]) else "ms_per_pass")
    return numbers | {f"{cause}_ms": value for cause, value in causes.items()} | {"lost_in": lost_in}


def transfers(records: RunRecords) -> int:
    """Return how many experts crossed a link."""
    return 0 if records.transfers is None else len(records.transfers["link"])


def combined(found: list[dict]) -> dict:
    """Return the means of several runs, the half-width of the time's interval among them."""
    times = np.array([numbers["time_ms"] for numbers in found])
    means = {name: float(np.mean([numbers[name] for numbers in found])) for name in found[0] if name != "lost_in"}
    told = {"replications": len(found), "values_of": WHOLE_RUN, "lost_in": found[0]["lost_in"]}
    return {**told, **means, "time_half_ms": half_width(times)}


def with_measured_loss(table: pd.DataFrame, relation: Relation) -> pd.DataFrame:
    """Return the table with the loss of quality that as much lost mass cost where both were measured."""
    loss = [relation.loss(row["miss"], row["lost_mass"]) for row in table.to_dict("records")]
    return table.assign(measured_loss=loss)


def shown_memory(table: pd.DataFrame) -> list[pd.DataFrame]:
    """Return the columns that a person reads first, as text; left out are empty ones, and settings alike in all rows.

    Of the numbers those that are zero in every row are left out, and of times that which nothing lost is counted in.
    Where they do not all fit side by side, the causes of lost time are a table of their own, row by row of the first.
    """
    settings = table[list(table.columns[: table.columns.get_loc("replications")])]
    apart = [name for name in settings if name in {*differing(settings), *ALWAYS, "world"}]
    told = {title(name): exact(settings[name]) for name in apart}
    numbers = {title(name): texts(table[name]) for name in NUMBERS if name in table and counts(table, name)}
    whole = pd.DataFrame({**told, **numbers})
    if width(whole) <= WIDEST:
        return [whole]
    row = {title("row"): [str(place) for place in range(1, len(table) + 1)]}
    split_up = [title(f"{cause}_ms") for cause in CAUSES if title(f"{cause}_ms") in numbers]
    first = {name: values for name, values in numbers.items() if name not in split_up}
    cause_of = {name: told[name] for name in map(title, ("cache", "slots", "miss", "prefetch")) if name in told}
    second = {title("lost_ms"): numbers.get(title("lost_ms"), []), **{name: numbers[name] for name in split_up}}
    spared = [title(name) for name in SPARED if title(name) in first]
    tables = [fitted(pd.DataFrame({**row, **told, **first}), spared)]
    return tables + ([pd.DataFrame({**row, **cause_of, **second})] if split_up else [])


def counts(table: pd.DataFrame, name: str) -> bool:
    """Whether a number is worth its column."""
    values = table[name]
    if name == "replications":
        return bool((values > 1).any())
    if name in ("ms_per_pass", "sojourn_mean_ms"):
        return bool((table["lost_in"] == title(name)).any())
    return bool((values.notna() & (values != 0)).any())


def settings_said(table: pd.DataFrame) -> str:
    """Return the settings that all rows share."""
    return said_of_all(table[list(table.columns[: table.columns.get_loc("replications")])], ("world", *ALWAYS))


def remarks(table: pd.DataFrame, relation: Relation | None = None) -> list[str]:
    """Return what a reader of the table must know."""
    said = [BOUND_SAID] if (table["world"] == BOUND).any() else []
    said += [NOT_EXACT] if table["capacity_ms"].notna().any() else []
    if table["miss"].isin(MASKED).any():
        said.append(f"{NOT_VALIDATED}; {ASK}" if relation is None else NOT_VALIDATED)
        if relation is not None:
            said.append(
                f"measured loss ({relation.measure}): what as much lost mass cost in the table of --quality, whose "
                f"points lie {relation.spread:.3g} off in the middle; empty outside of what was measured"
            )
    return said
