"""The answer to a what-if question: one row per configuration of a folder of runs, or of a sweep's table."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from moe_replay.analysis.estimates.replications import combined
from moe_replay.analysis.printing import fitted
from moe_replay.analysis.reading.configurations import (
    configuration_key,
    every_setting,
    in_order,
    inputs_of,
    knowledge,
    only_differing,
    printed_settings,
    said_of_all,
    settings_table,
    texts,
)
from moe_replay.traces.errors import InputError
from moe_replay.traces.glossary.lookup import title
from moe_replay.traces.runs.run_records import load_run, run_names
from moe_replay.traces.runs.run_statistics import RunStatistics, run_statistics
from moe_replay.traces.runs.sweep_table import load_sweep

SHOWN = (
    "replications", "throughput_per_s", "tokens_per_s", "requests_per_s", "latency_p50_ms", "latency_p95_ms",
    "request_mean_ms", "ttft_p95_ms", "tpot_p95_ms",
    "forced_batches", "utilisation", "dense_share", "expert_share", "wire_share", "waiting_share",
    "inside_bytes", "network_bytes", "status", "values_of",
)  # fmt: skip
# Left out of a printed table that is too wide, first to last.
SPARED = (
    "values_of", "forced_batches", "replications", "utilisation", "requests_per_s", "request_mean_ms", "tokens_per_s",
    "tpot_p95_ms", "ttft_p95_ms",
    "inside_bytes", "network_bytes", "dense_share", "expert_share", "waiting_share", "wire_share",
)  # fmt: skip
OF_PASSES = {
    "tokens_per_s": "throughput_per_s",
    "requests_per_s": "throughput_per_s",
    "request_mean_ms": "latency_mean_ms",
}
REASONS_SHOWN = 8
NO_TOKENS = "no TTFT and TPOT: no pass is known to decode (the trace has prompts alone, or the records are older)"
NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?")


@dataclass(frozen=True)
class RunsTable:
    """One row per configuration: its settings, then its results. `worlds` counts the runs that are no results."""

    settings: pd.DataFrame
    results: pd.DataFrame
    worlds: int = 0

    @property
    def whole(self) -> pd.DataFrame:
        """Settings and results side by side."""
        return pd.concat([self.settings, self.results], axis=1)


def runs_table(path: Path, with_worlds: bool = False) -> RunsTable:
    """Return one row per configuration in a folder of run records, or in the table of a sweep (`simulate sweep`).

    Replications are combined: means, with their intervals beside them. A configuration that cannot be measured is a
    row with status `failed` and the reason. In a folder, worlds in which links do what no link can (`simulate memory`
    explains lost time by them) are left out and counted, unless `with_worlds`. InputError where a folder holds no
    complete run.
    """
    measured: dict[tuple, tuple[dict, list[RunStatistics]]] = {}
    failed, worlds = [], 0
    for settings, statistics in of_sweep(path) if path.is_file() else of_folder(path):
        if path.is_dir() and is_world(settings) and not with_worlds:
            worlds += 1
            continue
        try:
            found = statistics()
        except InputError as error:
            failed.append((settings, {"status": "failed", "reason": str(error)}))
        else:
            measured.setdefault(configuration_key(settings), (settings, []))[1].append(found)
    rows = [(settings, combined(runs)) for settings, runs in measured.values()] + failed
    if not rows:
        raise InputError(f"{path}: holds {worlds} worlds that explain lost time and no result; allowed: --worlds")
    settings = settings_table(only_differing([settings for settings, _ in rows]))
    order = in_order(settings)
    results = pd.DataFrame([results for _, results in rows])
    return RunsTable(*(part.iloc[order].reset_index(drop=True) for part in (settings, results)), worlds)


def is_world(settings: dict) -> bool:
    """Whether a run is a world that explains lost time: its link does what no link can."""
    return settings.get("link", "fifo") != "fifo"


def of_folder(folder: Path) -> Iterator[tuple[dict, Callable[[], RunStatistics]]]:
    """Yield the settings of every run in a folder, and what gives its statistics or says why there are none."""
    names = run_names(folder)
    if not names:
        raise InputError(f"{folder}: holds no complete run, expected NAME.passes.parquet with NAME.batches.parquet")
    for name in names:
        records = load_run(folder, name)
        config = records.header["config"]
        settings = every_setting(config) | knowledge(config, records.header.get("known")) | inputs_of(records.header)
        yield settings, lambda records=records: run_statistics(records)


def of_sweep(path: Path) -> Iterator[tuple[dict, Callable[[], RunStatistics]]]:
    """Yield the same of every point of a sweep."""
    for point in load_sweep(path)[0]:
        settings = every_setting(point.config) | knowledge(point.config, point.known)
        yield settings, lambda point=point: point.statistics


def shown(table: RunsTable) -> tuple[pd.DataFrame, list[str]]:
    """Return what a person reads first, as text, and what there is to say beside it.

    Columns are the settings in which rows differ and the results that say something: counts of tokens and sequences
    only where they are others than those of passes, what would be empty or zero everywhere not at all.
    """
    results = table.results
    kept = [name for name in SHOWN if name in results and says_something(results, name)]
    why = reasons(results)
    tokens = without_tokens(results)
    numbered_rows = why or any(line != NO_TOKENS for line in tokens)
    numbers = {title("row"): [str(place) for place in range(1, len(results) + 1)]} if numbered_rows else {}
    columns = {title(name): texts(results[name]) for name in kept}
    printed = pd.DataFrame({**numbers, **printed_settings(table.settings), **columns})
    said = [said_of_all(table.settings), *why, *tokens]
    if table.worlds:
        said.append(f"left out: {table.worlds} worlds that explain lost time and are no results (--worlds shows them)")
    spared = [title(name) for name in SPARED if name in kept]
    return fitted(printed, spared), [line for line in said if line]


def says_something(results: pd.DataFrame, name: str) -> bool:
    """Whether a column of results is worth its place."""
    values = results[name]
    if name in OF_PASSES:
        of_passes = results[OF_PASSES[name]]
        return bool(((values - of_passes).abs() > 1e-9 * of_passes.abs()).any())
    if name == "values_of":
        return bool((results["status"] == "short").any())
    if name == "replications":
        return bool((values > 1).any())
    return name in ("status", "throughput_per_s") or bool((values.notna() & (values != 0)).any())


def reasons(results: pd.DataFrame) -> list[str]:
    """Return every reason and remark with the numbers of its rows, the first row being 1.

    Reasons that differ in their numbers only are one, with the least and the largest of each.
    """
    if "reason" not in results:
        return []
    found: dict[str, list[tuple[int, list[str]]]] = {}
    for place, (status, reason) in enumerate(zip(results["status"], results["reason"], strict=True), 1):
        if isinstance(reason, str) and reason:
            line = f"{status}: {reason}"
            found.setdefault(NUMBER.sub("\0", line), []).append((place, NUMBER.findall(line)))
    lines = [
        f"{numbered([place for place, _ in each])} {filled(template, [numbers for _, numbers in each])}"
        for template, each in found.items()
    ]
    more = len(lines) - REASONS_SHOWN
    return lines[:REASONS_SHOWN] + ([f"and {more} more reasons, in the table of --out"] if more > 0 else [])


def without_tokens(results: pd.DataFrame) -> list[str]:
    """Return why some rows have no times to tokens, with their numbers unless none has any."""
    measured = results["status"].isin(("ok", "short"))
    lacking = measured & (results["ttft_mean_ms"].isna() if "ttft_mean_ms" in results else True)
    if not lacking.any():
        return []
    places = [place for place, lacks in enumerate(lacking, 1) if lacks]
    return [NO_TOKENS if lacking.sum() == measured.sum() else f"{numbered(places)} {NO_TOKENS}"]


def filled(template: str, numbers: list[list[str]]) -> str:
    """Return a reason with the numbers of its rows: each once, or from the least to the largest."""
    for column in zip(*numbers, strict=True):
        ordered = sorted(set(column), key=lambda number: float(number.replace(",", "")))
        template = template.replace("\0", " to ".join(dict.fromkeys((ordered[0], ordered[-1]))), 1)
    return template


def numbered(rows: list[int]) -> str:
    """Return `row 3` or `rows 1, 4, 5, ...`."""
    first = ", ".join(map(str, rows[:6])) + (", ..." if len(rows) > 6 else "")
    return f"row{'s' * (len(rows) > 1)} {first}"
