"""The tables of the figure accuracy_vs_k, from the quality log of every data set."""

from pathlib import Path

from moe_replay.analysis.reading.inputs import Inputs
from moe_replay.analysis.reading.log_sets import QUALITY
from moe_replay.analysis.tables.accuracy_vs_k import rows
from moe_replay.analysis.tables.accuracy_vs_k.claim import accuracy_claim
from moe_replay.analysis.written_tables import hole_row, holes, write_claims, write_tables


def build_accuracy(inputs: Inputs, out: Path) -> list[str]:
    """Write `accuracy_vs_k`, `accuracy_vs_k_seeds` and `accuracy_vs_k_fit`: is growth in k linear?"""
    means: list[dict] = []
    seeds: list[dict] = []
    fits: list[dict] = []
    for name, quality, reason in inputs.per_data(QUALITY, rows.read_quality):
        made = rows.accuracy_rows(name, quality) if quality is not None else []
        if not made:
            hole = hole_row(name, quality, reason or "no view has three values of k")
            means.append(hole)
            fits.append(hole)
            continue
        means += made
        seeds += rows.seed_rows(name, quality)
        fits += rows.fit_rows(name, quality)
    tables = {"accuracy_vs_k": means, "accuracy_vs_k_seeds": seeds, "accuracy_vs_k_fit": fits}
    written = write_tables(out, tables, inputs.used(QUALITY))
    write_claims(out, {"accuracy_vs_k": accuracy_claim(written["accuracy_vs_k_fit"])})
    return holes(written["accuracy_vs_k"]) + holes(written["accuracy_vs_k_fit"])
