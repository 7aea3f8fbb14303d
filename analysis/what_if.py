"""The answer to a what-if question: one row per configuration of any folder of runs, executed or simulated."""

from pathlib import Path

import pandas as pd

from analysis.replications import by_configuration, combined
from analysis.settings import describe_config
from traces.errors import InputError
from traces.run_records import load_run, run_names
from traces.run_statistics import run_statistics

SHOWN = {
    "scheduler": "scheduler", "setting": "setting", "queue_size": "B", "variant": "variant", "replications": "runs",
    "throughput_per_s": "passes/s", "latency_p50_ms": "p50 ms", "latency_p95_ms": "p95 ms",
    "forced_batches": "forced", "utilisation": "busy", "status": "status",
}  # fmt: skip


def runs_table(folder: Path) -> pd.DataFrame:
    """Return one row per configuration in a folder of run records, replications combined, intervals beside the means.

    A configuration that cannot be measured is a row with status `failed` and the reason. InputError where the folder
    holds no complete run.
    """
    names = run_names(folder)
    if not names:
        raise InputError(f"{folder}: holds no complete run, expected NAME.passes.parquet with NAME.batches.parquet")
    measured, failed = [], []
    for name in names:
        records = load_run(folder, name)
        try:
            measured.append(run_statistics(records))
        except InputError as error:
            config = describe_config(records.header["config"], None)
            failed.append({**config, "status": "failed", "reason": str(error)})
    rows = [{**describe_config(runs[0].config, None), **combined(runs)} for runs in by_configuration(measured)]
    return pd.DataFrame(rows + failed).sort_values(["scheduler", "mode", "setting", "variant", "queue_size"])


def shown(table: pd.DataFrame) -> pd.DataFrame:
    """Return the columns of a runs table that a person reads first, as text, empty ones left out."""
    kept = table[[name for name in SHOWN if name in table]].rename(columns=SHOWN)
    text = kept.map(lambda value: f"{value:.4g}" if isinstance(value, float) else str(value)).replace("nan", "")
    return text.loc[:, (text != "").any()]
