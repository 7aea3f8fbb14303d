"""The table `all_to_all`: how long executed exchanges between devices took, beside what the port model says of them.

Only exchanges that no link was fitted to count. `all_to_all_summary` has a row per way and number of devices.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from moe_replay.analysis.estimates.step_times import scored
from moe_replay.analysis.reading.inputs import Inputs
from moe_replay.analysis.reading.log_sets import PORTS, PORTS_PREDICTED, LogSet
from moe_replay.analysis.written_tables import hole_row, holes, write_claims, write_tables
from moe_replay.traces.file.mixed_table import load_mixed, mixed_digest
from moe_replay.traces.runs.port_log import CHECK, KEYS, PREDICTED, load_port_log

NAME, SUMMARY = "all_to_all", "all_to_all_summary"
EXCHANGE, ENDS = list(KEYS), ["source", "destination"]
SCORES = ("mape_percent", "worst_error_percent", "r2", "spread_percent", "message_error_percent")
WORDS = {
    "paced": "processes whose ports keep a pace",
    "held": "the same with small buffers, where a full port holds senders up, which no port of the model does",
    "loopback": "the same as fast as it goes, where the processor is the limit and no port",
    "gloo": "processes of torch.distributed", "nccl": "GPUs",
}  # fmt: skip


def build_all_to_all(inputs: Inputs, out: Path) -> list[str]:
    """Write both tables and the claim, where any set holds executed exchanges: a device without them lacks nothing."""
    sets = [log_set for log_set in inputs.sets if (log_set.folder / PORTS).exists()]
    if not sets:
        print(f"{NAME}: no set holds {PORTS}, so there is no such table")
        return []
    found = [set_rows(inputs, log_set) for log_set in sets]
    tables = {NAME: [row for rows, _ in found for row in rows], SUMMARY: [row for _, rows in found for row in rows]}
    written = write_tables(out, tables, inputs.used_ending((PORTS, PORTS_PREDICTED)))
    write_claims(out, {NAME: exchange_claim(written[SUMMARY])})
    return holes(written[NAME])


def set_rows(inputs: Inputs, log_set: LogSet) -> tuple[list[dict], list[dict]]:
    """Return the rows of a set: an exchange each, and a way and number of devices each."""
    executed, reason = inputs.read(log_set, PORTS, load_port_log)
    if executed is None:
        return [hole_row(log_set.name, None, reason)], [hole_row(log_set.name, None, reason)]
    predicted, reason = inputs.read_simulated(log_set, PORTS_PREDICTED, lambda path: load_mixed(path, PREDICTED))
    if predicted is not None and predicted[1]["executed"] != mixed_digest(executed[0]["end_ns"].combine_chunks()):
        predicted, reason = None, f"{PORTS_PREDICTED}: was predicted for another {PORTS}"
    if predicted is None:
        return [hole_row(log_set.name, None, reason)], [hole_row(log_set.name, None, reason)]
    messages = (
        executed[0]
        .to_pandas()
        .merge(
            predicted[0].to_pandas(), on=EXCHANGE + ENDS, how="left", suffixes=("", "_ports"), validate="many_to_one"
        )
    )
    checked = messages[messages["purpose"] == CHECK]
    rows = [
        {"set": log_set.name, **exchange_row(keys, own)}
        for keys, own in checked.groupby(["way", "devices", "pattern"], sort=False)
    ]
    links = {link["way"]: link for link in predicted[1]["links"]}
    rows.sort(key=lambda row: (list(links).index(row["way"]), row["devices"], row["ports_ms"], row["pattern"]))
    return rows, summary_rows(rows, links)


def exchange_row(keys: tuple, messages: pd.DataFrame) -> dict:
    """Return the row of one exchange: its time is until the last message is there, the median over repetitions."""
    took_ms = messages.groupby("repetition")["end_ns"].max() / 1e6
    median = float(took_ms.median())
    first = messages[messages["repetition"] == messages["repetition"].min()]
    ports_ms = float(first["end_ns_ports"].max()) / 1e6
    own_ms = messages.groupby(ENDS)[["end_ns", "end_ns_ports"]].median() / 1e6
    off_ms = (own_ms["end_ns_ports"] - own_ms["end_ns"]).abs()
    return {
        **dict(zip(("way", "devices", "pattern"), keys, strict=True)), "messages": len(first),
        "exchange_bytes": int(first["bytes"].sum()), "repetitions": len(took_ms), "took_ms": median,
        "took_least_ms": float(took_ms.min()), "took_most_ms": float(took_ms.max()), "ports_ms": ports_ms,
        "ports_error_percent": 100 * (ports_ms / median - 1),
        "message_error_percent": 100 * float(off_ms.mean()) / median, "status": "ok", "reason": "",
    }  # fmt: skip


def summary_rows(rows: list[dict], links: dict[str, dict]) -> list[dict]:
    """Return how well the exchanges of every way and number of devices are predicted, with the fitted link."""
    found = []
    for (name, way, devices), own in pd.DataFrame(rows).groupby(["set", "way", "devices"], sort=False):
        score, link = scored(own["ports_ms"].to_numpy(), own["took_ms"].to_numpy()), links[way]
        found.append({
            "set": name, "way": way, "devices": devices, "exchanges": len(own), "mape_percent": 100 * score.mape,
            "worst_error_percent": float(own["ports_error_percent"].abs().max()), "r2": score.r2,
            "spread_percent": float(np.median(100 * (own["took_most_ms"] - own["took_least_ms"]) / own["took_ms"])),
            "message_error_percent": float(own["message_error_percent"].mean()),
            "port_latency_us": link["latency_ns"] / 1e3, "port_megabytes_per_s": link["bytes_per_s"] / 1e6,
            "status": "ok", "reason": "",
        })  # fmt: skip
    return found


def said(percent: float) -> str:
    """Return a percentage with two digits, more where it has them before the point."""
    return f"{percent:.2g}" if percent < 10 else f"{percent:.0f}"


def exchange_claim(table: pd.DataFrame) -> dict:
    """Return the sentence and the numbers of the figure."""
    fine = table[table["status"] == "ok"] if "way" in table else table.iloc[:0]
    if fine.empty:
        return {"claim": "No executed exchange was predicted.", "numbers": {}}
    sentences, numbers = [], {}
    for (name, way), rows in fine.groupby(["set", "way"], sort=False):
        told = [
            f"{said(row['mape_percent'])} % among {row['devices']} (at most {said(row['worst_error_percent'])} %, R2"
            f" {round(row['r2'], 3) + 0:.3f})"
            for row in rows.to_dict("records")
        ]
        sentences.append(f"{name}, {WORDS.get(way, way)}: {', '.join(told)}.")
        numbers[f"{name} {way}"] = {
            str(row["devices"]): {key: row[key] for key in SCORES} for row in rows.to_dict("records")
        }  # fmt: skip
    count = int(fine["exchanges"].max())
    question = f"How far from {count} executed exchanges are ports that were fitted to others, in the mean? "
    return {"claim": question + " ".join(sentences), "numbers": numbers}
