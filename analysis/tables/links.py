"""The table `links`: what copies from host memory to a device take, beside what the fitted link says they take."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from moe_replay.analysis.reading.inputs import Inputs
from moe_replay.analysis.reading.log_sets import LINK, LogSet
from moe_replay.analysis.written_tables import hole_row, holes, write_claims, write_tables
from moe_replay.traces.file.mixed_table import load_mixed
from moe_replay.traces.runs.link_table import HOST, KIND, PINNED

NAME = "links"


def build_links(inputs: Inputs, out: Path) -> list[str]:
    """Write the table and its claim, where any set holds a measured link: a device without one lacks nothing."""
    rows = [row for log_set in inputs.sets if (log_set.folder / LINK).exists() for row in set_rows(inputs, log_set)]
    if not rows:
        print(f"{NAME}: no set holds {LINK}, so there is no such table")
        return []
    table = write_tables(out, {NAME: rows}, inputs.used(LINK))[NAME]
    write_claims(out, {NAME: link_claim(table)})
    return holes(table)


def set_rows(inputs: Inputs, log_set: LogSet) -> list[dict]:
    """Return a row per memory, number of copies at once, and bytes of a copy."""
    found, reason = inputs.read(log_set, LINK, lambda path: load_mixed(path, KIND))
    if found is None:
        return [hole_row(log_set.name, None, reason)]
    table, header = found
    fits = {(fit["host_memory"], fit["copies"]): fit for fit in header["links"]}
    rows = []
    for (memory, copies, size), own in table.to_pandas().groupby(["host_memory", "copies", "copy_bytes"], sort=False):
        fit, low, median, high = fits[memory, copies], *own["took_ns"].quantile([0.25, 0.5, 0.75]) / 1e3
        rows.append({
            "set": log_set.name, "host_memory": memory, "copies": copies, "copy_bytes": size, "times": len(own),
            "copy_us": median, "lower_quartile_us": low, "upper_quartile_us": high,
            "copied_gigabytes_per_s": copies * size / median / 1e3,
            "fitted_us": (fit["latency_ns"] + copies * size / fit["bytes_per_s"] * 1e9) / 1e3,
            "latency_us": fit["latency_ns"] / 1e3, "gigabytes_per_s": fit["bytes_per_s"] / 1e9,
            "fit_error_percent": fit["error_percent"], "status": "ok", "reason": "",
        })  # fmt: skip
    return sorted(rows, key=lambda row: (row["host_memory"] != PINNED, row["copies"], row["copy_bytes"]))


def link_claim(table: pd.DataFrame) -> dict:
    """Return the sentence and the numbers of the figure."""
    fine = table[table["status"] == "ok"] if "copies" in table else table.iloc[:0]
    sentences, numbers = [], {}
    for name, rows in fine.groupby("set", sort=False):
        fits = rows.drop_duplicates(["host_memory", "copies"])
        numbers[name] = {
            f"{row['host_memory']} x{row['copies']}": {
                field: row[field] for field in ("latency_us", "gigabytes_per_s", "fit_error_percent")
            } for row in fits.to_dict("records")
        }  # fmt: skip
        alone = fits[fits["copies"] == 1]
        told = [
            f"{row['gigabytes_per_s']:.3g} GB/s after {row['latency_us']:.3g} us from {where(row['host_memory'])}"
            for row in alone.to_dict("records")
        ]  # fmt: skip
        sentences.append(f"{name}: {', '.join(told)}.")
    question = "What does it take to bring an expert to the device? One copy at a time, "
    return {"claim": question + " ".join(sentences) if sentences else "No link was measured.", "numbers": numbers}


def where(memory: str) -> str:
    """Return in words what is copied from."""
    return "host memory to host memory (no GPU)" if memory == HOST else f"{memory} memory"
