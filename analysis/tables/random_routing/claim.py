"""The sentence about dense, switch and random routing: who is more accurate, and what does each cost?"""

import pandas as pd

from moe_replay.analysis.tables.random_routing.rows import TIMED_IMAGES

SAME_COST = 0.05  # a ratio whose whole interval lies this close to 1 is called the same cost
PUBLISHED = (
    "The published comparison, at another scale (350 epochs, width 300), has 81.36 % for the dense model and 79.04 and "
    "78.80 % for 32 and 64 experts"
)
NUMBERS = (
    "trained_parameters", "deployed_parameters", "accuracy_percent", "accuracy_percent_min", "accuracy_percent_max",
    "over_dense_points", "first_epochs_over", "training_s", "training_over_dense", "training_over_dense_low",
    "training_over_dense_high", "inference_s", "inference_over_dense", "inference_over_dense_low",
    "inference_over_dense_high",
)  # fmt: skip


def random_routing_claim(table: pd.DataFrame) -> dict:
    """Return the claim and the numbers of the figure from its table of results."""
    usable = table[table["status"] == "ok"] if "label" in table else table.iloc[:0]
    if usable.empty:
        return {"claim": "No set holds trained vision transformers.", "numbers": {}}
    sentences = [set_sentence(name, rows.to_dict("records")) for name, rows in usable.groupby("set", sort=False)]
    numbers = {
        name: {row["label"]: {key: row[key] for key in NUMBERS} for row in rows.to_dict("records")}
        for name, rows in usable.groupby("set", sort=False)
    }
    return {"claim": " ".join([*sentences, f"{PUBLISHED}."]), "numbers": numbers}


def set_sentence(name: str, rows: list[dict]) -> str:
    """Return what one set says: accuracies, then costs, then whether averaging gives the dense model's inference."""
    first = rows[0]
    parts = "; ".join(accuracy_words(row) for row in rows)
    head = f"{name} ({first['seeds']} seeds, {first['epochs']} epochs, best epoch, least to most over seeds): {parts}."
    costs = "; ".join(cost_words(row) for row in rows if row["variant"] != "dense" and pd.notna(row["training_s"]))
    costs = (
        f" Against dense, per image (95 % interval over repetitions): {costs}." if costs else " No times were measured."
    )
    return head + costs + averaged_words([row for row in rows if row["variant"].startswith("random")])


def accuracy_words(row: dict) -> str:
    """Return one configuration's accuracy, and whether it differs from dense in every seed."""
    name, mean, least, most = (
        row[key] for key in ("label", *(f"accuracy_percent{end}" for end in ("", "_min", "_max")))
    )
    text = f"{name} {mean:.1f} % ({least:.1f} to {most:.1f})"
    low, high = row["over_dense_points_min"], row["over_dense_points_max"]
    if row["variant"] == "dense" or pd.isna(low):
        return text
    verdict = "no clear difference to dense"
    if low > 0 or high < 0:
        verdict = f"{'above' if low > 0 else 'below'} dense in every seed"
    return f"{text}, {row['over_dense_points']:+.1f} points, {verdict}"


def cost_words(row: dict) -> str:
    """Return one configuration's training and inference time over the dense model's."""
    times = ", ".join(f"{what} {ratio_words(row, what)}" for what in ("training", "inference"))
    sizes = f"{row['trained_parameters']:,} weights trained, {row['deployed_parameters']:,} deployed"
    return f"{row['label']} ({sizes}) {times}"


def ratio_words(row: dict, what: str) -> str:
    """Return `1.31x (1.28 to 1.34)`."""
    mean, low, high = (row[f"{what}_over_dense{end}"] for end in ("", "_low", "_high"))
    return f"{mean:.2f}x" + (f" ({low:.2f} to {high:.2f})" if pd.notna(low) else "")


def averaged_words(rows: list[dict]) -> str:
    """Return whether the averaged models have the dense model's inference cost, as measured."""
    timed = [row for row in rows if pd.notna(row["inference_over_dense_low"])]
    if not timed:
        return ""
    equal = [row for row in timed if close(row)]
    verdict = "yes" if len(equal) == len(timed) else f"shown in {len(equal)} of {len(timed)} cases"
    ratios = ", ".join(f"{ratio_words(row, 'inference')}" for row in timed)
    return (
        f" Has the averaged model the dense model's inference cost, within {SAME_COST:.0%}? {verdict.capitalize()}: "
        f"{ratios} of dense for {TIMED_IMAGES:,} images."
    )


def close(row: dict) -> bool:
    """Return whether the whole interval of the ratio lies within `SAME_COST` of 1."""
    return row["inference_over_dense_low"] >= 1 - SAME_COST and row["inference_over_dense_high"] <= 1 + SAME_COST
