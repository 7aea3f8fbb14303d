"""Runs, a sweep or their CSV as one result: the fastest and the quickest configuration, and what was not measured."""

from pathlib import Path

import pandas as pd

from moe_replay.analysis.reading.configurations import differing, said_of_all
from moe_replay.analysis.results.result import RUNS, Result, counted, described, percent, plain
from moe_replay.analysis.tables.what_if import SHOWN, reasons, runs_table

OK = ("ok", "short")
FIRST_RESULT = "replications"  # the columns before it are settings
WIDE = 0.1  # half an interval over its value from which it is called wide


def read_runs(path: Path, name: str, made: dict, header: dict) -> Result:
    """Return the runs in a folder of records or in a sweep's table; InputError where it holds none."""
    found = runs_table(path)
    left_out = f"{found.worlds} worlds that only explain lost time are left out." if found.worlds else ""
    return runs_result(found.whole, name, made, (*input_doubts(header), left_out))


def runs_result(table: pd.DataFrame, name: str, made: dict, doubts: tuple[str, ...] = ()) -> Result:
    """Return a table of `analysis runs` as a result; `doubts` are known already."""
    settings = table[list(table.columns[: table.columns.get_loc(FIRST_RESULT)])]
    settings = settings.astype(object).where(settings.notna(), None)
    axes = tuple(differing(settings))
    shared = said_of_all(settings)
    results = table.drop(columns=list(settings))
    said = [*row_doubts(results), *interval_doubts(table), *device_doubts(settings), *doubts]
    numbered = table.assign(row=range(1, len(table) + 1))
    first = dict.fromkeys(["row", *axes, *(name for name in SHOWN if name in table)])
    return Result(
        RUNS, name, numbered[[*dict.fromkeys([*first, *table.columns])]], axes=axes, made=made,
        findings=(*findings(table, axes), *([f"{shared.capitalize()}."] if shared else [])),
        doubts=tuple(line for line in said if line),
    )  # fmt: skip


def findings(table: pd.DataFrame, axes: tuple[str, ...]) -> list[str]:
    """Return what the measured configurations show."""
    rows = table[table["status"].isin(OK) & table["throughput_per_s"].notna()]
    said = [f"{counted(len(table), 'configuration')}, {len(rows)} of them measured."]
    if rows.empty:
        return said
    fastest = rows.loc[rows["throughput_per_s"].idxmax()].to_dict()
    said.append(
        f"Highest throughput: {with_interval(fastest, 'throughput_per_s')} passes/s ({described(fastest, axes)}), "
        f"p95 {with_interval(fastest, 'latency_p95_ms')} ms."
    )
    if len(rows) > 1 and rows["latency_p95_ms"].notna().any():
        quickest = rows.loc[rows["latency_p95_ms"].idxmin()].to_dict()
        said.append(
            f"Lowest p95 latency: {with_interval(quickest, 'latency_p95_ms')} ms ({described(quickest, axes)}), at "
            f"{plain(quickest['throughput_per_s'])} passes/s."
        )
        said.append(f"From the slowest to the fastest configuration throughput grows {growth(rows)} times.")
    return said


def growth(rows: pd.DataFrame) -> str:
    """Return the largest throughput over the least."""
    least = rows["throughput_per_s"].min()
    return f"{rows['throughput_per_s'].max() / least:.3g}" if least > 0 else "without bound"


def with_interval(row: dict, name: str) -> str:
    """Return a value and, where there is one, its 95 % interval."""
    low, high = row.get(f"{name}_low"), row.get(f"{name}_high")
    value = plain(row.get(name)) or "not measured"
    return value if low is None or low != low else f"{value} ({plain(low)} to {plain(high)})"


def row_doubts(results: pd.DataFrame) -> list[str]:
    """Return how many rows were not measured as asked, and why."""
    said = []
    words = {
        "unstable": "more arrives than can be served: latency has no value there, and none is drawn",
        "short": "too short for a window without its start and end: values are of the whole run",
        "failed": "could not be measured",
    }
    for status, word in words.items():
        count = int((results["status"] == status).sum())
        if count:
            said.append(f"{counted(count, 'row')} {status}: {word}.")
    return [*said, *(f"{line[0].upper()}{line[1:]}." for line in reasons(results))]


def interval_doubts(table: pd.DataFrame) -> list[str]:
    """Return what to say of replications and of wide intervals."""
    said = []
    if (table["replications"] == 1).all():
        said.append("One replication each: intervals are of batch means within a run, not between seeds.")
    if "throughput_per_s_high" in table:
        half = (table["throughput_per_s_high"] - table["throughput_per_s_low"]) / 2 / table["throughput_per_s"]
        if half.max() > WIDE:
            row = described(table.loc[half.idxmax()].to_dict(), ["queue_size", "in_flight", "rate_per_s", "load"])
            said.append(f"The widest interval of throughput is +-{percent(half.max())} ({row}).")
    return said


def device_doubts(settings: pd.DataFrame) -> list[str]:
    """Return whether communication between devices was modelled."""
    several = (
        pd.to_numeric(settings["devices"], errors="coerce") > 1 if "devices" in settings else pd.Series(dtype=bool)
    )
    linked = settings["links"].notna() if "links" in settings else several & False
    return ["Communication between devices is not modelled."] if (several & ~linked).any() else []


def input_doubts(header: dict) -> list[str]:
    """Return what to say of the costs and the trace that records state in their header."""
    costs = str(header.get("costs_digest") or "")
    said = []
    if costs.startswith("affine"):
        said.append(f"Service times come from a formula ({costs}), not from a measurement on a device.")
    if header.get("source") == "simulated":
        said.append(f"Simulated, not executed; costs of: {header.get('device') or 'not said'}.")
    return said
