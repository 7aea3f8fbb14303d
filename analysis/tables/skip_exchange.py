"""Does it matter which expert runs? Half of the experts skipped, or exchanged, in the first layer and in all layers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from moe_replay.analysis.estimates.intervals import half_width
from moe_replay.analysis.reading.csv_logs import MEASURES, read_csv_log
from moe_replay.analysis.reading.inputs import Inputs
from moe_replay.analysis.reading.log_sets import SKIP_EXCHANGE, LogSet
from moe_replay.analysis.written_tables import hole_row, holes, write_claims, write_tables

NORMAL = 1.96  # 95 %, of standard errors over hundreds of units
ALTERED_COLUMNS = {
    "treatment": None, "place": None, "share": None, "seed": None, "measure": MEASURES, "units": (2, 2**31),
    "quality": (0, 100), "loss": (-100, 100), "loss_error": (0, 100),
}  # fmt: skip


def build_skip_exchange(inputs: Inputs, out: Path) -> list[str]:
    """Write `skip_exchange`; sets without its log are left out."""
    rows: list[dict] = []
    for log_set in inputs.sets:
        if (log_set.folder / SKIP_EXCHANGE).exists():
            rows += altered_rows(inputs, log_set)
    rows = rows or [hole_row("all sets", None, f"no set holds {SKIP_EXCHANGE}")]
    table = write_tables(out, {"skip_exchange": rows}, inputs.used(SKIP_EXCHANGE))["skip_exchange"]
    write_claims(out, {"skip_exchange": altered_claim(table)})
    return holes(table)


def altered_rows(inputs: Inputs, log_set: LogSet) -> list[dict]:
    """Return a row per treatment and place of a set, with the interval over the choices of experts."""
    table, reason = inputs.read(log_set, SKIP_EXCHANGE, lambda path: read_csv_log(path, ALTERED_COLUMNS))
    if table is None:
        return [hole_row(log_set.name, None, reason)]
    rows = []
    for (treatment, place), own in table.groupby(["treatment", "place"], dropna=False, sort=False):
        rows.append({
            "set": log_set.name, "status": "ok", "reason": "", "treatment": treatment, "treated_layers": place,
            "draws": len(own), "treated_share": own["share"].iloc[0], "measure": own["measure"].iloc[0],
            "units": own["units"].iloc[0], "quality": own["quality"].mean(), "loss": own["loss"].mean(),
            "loss_half_width": half_width(own["loss"].to_numpy()) if len(own) > 1 else 0.0,
            "perplexity": 2 ** own["quality"].mean() if own["measure"].iloc[0] == "bits_per_byte" else np.nan,
        })  # fmt: skip
    return rows


def altered_claim(rows: pd.DataFrame) -> dict:
    """Return the sentence: what skipping or exchanging experts costs in the first layer and in all layers."""
    fine = rows[(rows["status"] == "ok") & (rows["treatment"] != "none")] if "treatment" in rows else rows.iloc[:0]
    if fine.empty:
        return {"claim": "No log of skipped or exchanged experts could be read.", "numbers": {}}
    sentences, numbers = [], {}
    for name, own in fine.groupby("set", sort=False):
        unit = "bits per byte" if own["measure"].iloc[0] == "bits_per_byte" else "accuracy"
        said = ", ".join(
            f"{row['treatment']} in {row['treated_layers']} {row['loss']:.3f} ± {row['loss_half_width']:.3f}"
            for row in own.to_dict("records")
        )
        sentences.append(f"{name}: {own['treated_share'].iloc[0]:.0%} of the experts; loss in {unit}: {said}.")
        numbers[name] = {f"{row['treatment']} {row['treated_layers']}": row["loss"] for row in own.to_dict("records")}
    return {"claim": " ".join(sentences), "numbers": numbers}
