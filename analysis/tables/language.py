"""Is the language model trained? Held-out bits per byte beside the byte 5-gram's, and the table and sentence of it."""

from pathlib import Path

import pandas as pd

from moe_replay.analysis.reading.csv_logs import read_csv_log
from moe_replay.analysis.reading.inputs import Inputs
from moe_replay.analysis.reading.log_sets import LANGUAGE, LANGUAGE_TRACES
from moe_replay.analysis.written_tables import hole_row, holes, write_claims, write_tables

NAME = "language"
MODEL = "language model"
COLUMNS = {
    "domain": None, "model": None, "bits_per_byte": (0, 8), "standard_error": (0, 8), "lead": (-8, 8),
    "lead_error": (0, 8), "segments": (2, 2**31), "segment_bytes": (1, 2**31),
}  # fmt: skip


def build_language(inputs: Inputs, out: Path) -> list[str]:
    """Write the table `language` and its claim, from every set that holds a language model's logs."""
    rows: list[pd.DataFrame] = []
    for log_set in inputs.sets:
        if not any((log_set.folder / name).exists() for name in (LANGUAGE, *LANGUAGE_TRACES)):
            continue
        table, reason = inputs.read(log_set, LANGUAGE, lambda path: read_csv_log(path, COLUMNS))
        found = {"set": log_set.name, "status": "ok", "reason": ""}
        rows.append(pd.DataFrame([hole_row(log_set.name, None, reason)]) if table is None else table.assign(**found))
    if not rows:
        rows.append(pd.DataFrame([hole_row("all sets", None, f"no set holds {LANGUAGE}")]))
    written = write_tables(out, {NAME: pd.concat(rows, ignore_index=True)}, inputs.used(LANGUAGE))
    write_claims(out, {NAME: language_claim(written[NAME])})
    return holes(written[NAME])


def language_claim(rows: pd.DataFrame) -> dict:
    """Return the sentence: in which domains the language model needs fewer bits than every n-gram, and by how much."""
    fine = rows[rows["status"] == "ok"] if "lead" in rows else rows.iloc[:0]
    if fine.empty:
        return {"claim": "No log of a language model could be read.", "numbers": {}}
    sentences, numbers = [], {}
    for (name, domain), own in fine.groupby(["set", "domain"], sort=False):
        bits = own.loc[own["model"] == MODEL, "bits_per_byte"]
        rival = own[own["model"] != MODEL].sort_values("lead").iloc[0]
        beats = rival["lead"] > 2 * rival["lead_error"]
        sentences.append(
            f"{name}, {domain}: {bits.iloc[0]:.3f} bits per byte, {'fewer' if beats else 'not fewer'} than the best "
            f"n-gram ({rival['model']}: {rival['bits_per_byte']:.3f}; difference {rival['lead']:.3f} ± "
            f"{rival['lead_error']:.3f}, standard error)."
        )
        numbers[f"{name} {domain}"] = {"bits_per_byte": bits.iloc[0], "lead": rival["lead"], "beats": bool(beats)}
    return {"claim": " ".join(sentences), "numbers": numbers}
