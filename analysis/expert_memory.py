"""What expert slots cost in time, and why: one row per memory of a folder of runs, the lost time split by cause."""

from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.configurations import NOT_SAID
from analysis.intervals import half_width
from analysis.lost_mass import Relation
from simulate.policies.config import RunConfig
from simulate.policies.memory.config import MASKED
from simulate.regret import CAUSES, split, worlds
from traces.errors import InputError
from traces.glossary.lookup import titles
from traces.run_records import RunRecords, load_run, run_names
from traces.run_window import is_open

OF_MEMORY = ("cache", "slots", "scope", "miss", "prefetch", "period", "filled")
SHOWN = titles((
    "cache", "slots", "scope", "miss", "prefetch", "period", "known", "runs", "hit_ratio", "delayed_ratio",
    "transfers_per_pass", "time_ms", "lost_ms", *(f"{cause}_ms" for cause in CAUSES), "lost_mass", "measured_loss",
))  # fmt: skip
NOT_VALIDATED = "lost mass: share of the gate mass that did not run; what it costs in quality is not validated"
ASK = "--quality TABLE (of `collect swap-quality`) shows beside it what as much lost mass cost where it was measured"
ALWAYS = ("cache", "C", "miss", "known", "ms/pass")  # shown even where all rows are alike
NOT_EXACT = (
    "policy: against the fastest of Belady's optimum, the one that may decline, and the policy itself; an optimum "
    "knows the order of a run with LRU: exact in lockstep and where misses block in a closed loop"
)


def memory_table(folder: Path) -> pd.DataFrame:
    """Return one row per memory and setting in a folder of run records, seeds combined.

    `time_ms` is the run's length over its passes; under arrivals that do not wait for the model it
    is the mean time from arrival to end. `lost_ms` is what it exceeds the run with all experts resident by, the
    causes (`simulate.regret`) are empty where the folder lacks a world; half-widths are of 95 % intervals over seeds.
    InputError where no run has expert slots.
    """
    runs = {}
    for name in run_names(folder):
        records = load_run(folder, name)
        runs[RunConfig.from_dict(records.header["config"])] = records
    times_ms = {config: time_ms(records) for config, records in runs.items()}
    groups = defaultdict(list)
    for config, records in runs.items():
        if config.memory is not None and config.memory.link == "fifo":  # the other worlds only explain
            groups[replace(config, seed=None) if config.arrivals != "poisson" else config].append(
                one_run(config, records, times_ms)
            )
    if not groups:
        raise InputError(f"{folder}: no run with expert slots; allowed: what `simulate memory` wrote")
    rows = [{**settings(config), **combined(found)} for config, found in groups.items()]
    return pd.DataFrame(rows).sort_values(["miss", "slots", "cache", "prefetch"], kind="stable")


def settings(config: RunConfig) -> dict:
    """Return the columns that tell memories apart, and the schedule they stand in."""
    memory = config.memory
    return {"scheduler": config.scheduler, "arrivals": config.arrivals} | {
        name: getattr(memory, name) for name in OF_MEMORY
    }


def time_ms(records: RunRecords) -> float:
    """Return the time per pass in ms: of the whole run, or where arrivals do not wait, from arrival to end."""
    passes = records.passes
    if is_open(records.header["config"]):
        return float((passes["end_ns"] - passes["arrival_ns"]).mean()) / 1e6
    return float(passes["end_ns"].max() - passes["arrival_ns"].min()) / len(passes["end_ns"]) / 1e6


def one_run(config: RunConfig, records: RunRecords, times_ms: dict[RunConfig, float]) -> dict:
    """Return the numbers of one run."""
    counts = records.header["memory"]
    accesses = max(1, counts["accesses"])
    numbers = {
        "known": records.header.get("known", NOT_SAID),
        "hit_ratio": counts["hits"] / accesses, "delayed_ratio": counts["delayed_hits"] / accesses,
        "transfers_per_pass": len(records.transfers["link"]) / len(records.passes["end_ns"]),
        "time_ms": times_ms[config], "lost_mass": counts.get("lost_mass", np.nan),
        "lost_ms": times_ms[config] - times_ms.get(replace(config, memory=None), np.nan),
    }  # fmt: skip
    around = {name: times_ms.get(each, np.nan) for name, each in worlds(config, counts["experts"]).items()}
    causes = split(around) if around else dict.fromkeys(CAUSES, np.nan)
    return numbers | {f"{cause}_ms": value for cause, value in causes.items()}


def combined(found: list[dict]) -> dict:
    """Return the means of several runs, the half-width of the time's interval among them."""
    times = np.array([numbers["time_ms"] for numbers in found])
    means = {name: float(np.mean([numbers[name] for numbers in found])) for name in found[0] if name != "known"}
    return {"known": found[0]["known"], "runs": len(found), **means, "time_half_ms": half_width(times)}


def with_measured_loss(table: pd.DataFrame, relation: Relation) -> pd.DataFrame:
    """Return the table with the loss of quality that as much lost mass cost where both were measured."""
    loss = [relation.loss(row["miss"], row["lost_mass"]) for row in table.to_dict("records")]
    return table.assign(measured_loss=loss)


def shown_memory(table: pd.DataFrame) -> pd.DataFrame:
    """Return the columns that a person reads first, as text; left out are empty ones, and settings alike in all rows.

    Of the numbers those that are zero in every row are left out.
    """
    kept = table[[name for name in SHOWN if name in table]].rename(columns=SHOWN)
    text = kept.map(lambda value: f"{value:.4g}" if isinstance(value, float) else str(value))
    text = text.replace({"nan": "", "None": "", "<NA>": ""})
    settings = [SHOWN[name] for name in (*OF_MEMORY, "runs") if name in SHOWN]
    said = [
        name for name in text
        if name in ALWAYS or (text[name].nunique() > 1 if name in settings else ~text[name].isin(("", "0")).all())
    ]  # fmt: skip
    return text[said]


def remarks(table: pd.DataFrame, relation: Relation | None = None) -> list[str]:
    """Return what a reader of the table must know."""
    said = [NOT_EXACT] if table["capacity_ms"].notna().any() else []
    if table["miss"].isin(MASKED).any():
        said.append(f"{NOT_VALIDATED}; {ASK}" if relation is None else NOT_VALIDATED)
        if relation is not None:
            said.append(
                f"measured loss ({relation.measure}): what as much lost mass cost in the table of --quality, whose "
                f"points lie {relation.spread:.3g} off in the middle; empty outside of what was measured"
            )
    return said
