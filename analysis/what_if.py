"""The answer to a what-if question: one row per configuration of a folder of runs, or of a sweep's table."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd

from analysis.replications import by_configuration, combined
from analysis.settings import describe_config
from traces.errors import InputError
from traces.glossary.lookup import titles
from traces.run_records import load_run, run_names
from traces.run_statistics import RunStatistics, run_statistics
from traces.sweep_table import load_sweep

SHOWN = titles((
    "scheduler", "setting", "queue_size", "variant", "replications", "throughput_per_s", "latency_p50_ms",
    "latency_p95_ms", "forced_batches", "utilisation", "status",
))  # fmt: skip


def runs_table(path: Path) -> pd.DataFrame:
    """Return one row per configuration in a folder of run records, or in the table of a sweep (`simulate sweep`).

    Replications are combined, intervals stand beside the means. A configuration that cannot be measured is a row with
    status `failed` and the reason. InputError where a folder holds no complete run.
    """
    measured, failed = [], []
    for config, statistics in of_sweep(path) if path.is_file() else of_folder(path):
        try:
            measured.append(statistics())
        except InputError as error:
            failed.append({**describe_config(config, None), "status": "failed", "reason": str(error)})
    rows = [{**describe_config(runs[0].config, None), **combined(runs)} for runs in by_configuration(measured)]
    return pd.DataFrame(rows + failed).sort_values(["scheduler", "mode", "setting", "variant", "queue_size"])


def of_folder(folder: Path) -> Iterator[tuple[dict, Callable[[], RunStatistics]]]:
    """Yield the configuration of every run in a folder, and what gives its statistics or says why there are none."""
    names = run_names(folder)
    if not names:
        raise InputError(f"{folder}: holds no complete run, expected NAME.passes.parquet with NAME.batches.parquet")
    for name in names:
        records = load_run(folder, name)
        yield records.header["config"], lambda records=records: run_statistics(records)


def of_sweep(path: Path) -> Iterator[tuple[dict, Callable[[], RunStatistics]]]:
    """Yield the same of every point of a sweep."""
    for point in load_sweep(path)[0]:
        yield point.config, lambda point=point: point.statistics


def shown(table: pd.DataFrame) -> pd.DataFrame:
    """Return the columns of a runs table that a person reads first, as text, empty ones left out."""
    kept = table[[name for name in SHOWN if name in table]].rename(columns=SHOWN)
    text = kept.map(lambda value: f"{value:.4g}" if isinstance(value, float) else str(value)).replace("nan", "")
    return text.loc[:, (text != "").any()]
