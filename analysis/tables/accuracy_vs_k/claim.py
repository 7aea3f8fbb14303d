"""The sentence that answers whether accuracy grows linearly with k, whatever the data say."""

import pandas as pd

from moe_replay.analysis.tables.accuracy_vs_k.rows import CLOSE_POINTS

ALPHA = 0.05


def accuracy_claim(fits: pd.DataFrame) -> dict:
    """Return the claim and the numbers of the accuracy figure from the table of fits."""
    usable = fits[fits["status"] == "ok"] if len(fits) else fits
    if len(usable) == 0:
        return {"claim": "No quality table holds enough values of k and seeds to judge growth in k.", "numbers": {}}
    sentences = [fit_sentence(row) for row in usable.to_dict("records")]
    linear = int(sum(is_linear(row) for row in usable.to_dict("records")))
    verdict = {0: "No", len(usable): "Yes, as far as these seeds can tell"}.get(
        linear, f"In {linear} of {len(usable)} views"
    )
    numbers = {
        label(row): {key: row[key] for key in row if key not in ("status", "reason")}
        for row in usable.to_dict("records")
    }
    return {"claim": f"Is growth in k linear? {verdict}. " + " ".join(sentences), "numbers": numbers}


def is_linear(row: dict) -> bool:
    """Return whether a view shows growth and no departure from a line."""
    return row["p"] >= ALPHA and row["slope_low"] > 0


def label(row: dict) -> str:
    """Return the name of a view: `device/data, trained at k` or `device/data, trained at 4, evaluated at k`."""
    how = row["view"] if pd.isna(row["trained_k"]) else f"trained at {row['trained_k']:.0f}, {row['view']}"
    return f"{row['set']}, {how}"


def fit_sentence(row: dict) -> str:
    """Return what one view says, in words."""
    kind = "p" if row["p"] == row["p_exact"] else "conservative p"
    test = f"F({row['df_lack']:.0f},{row['df_error']:.0f}) = {row['lack_of_fit_F']:.3g}, {kind} {p_text(row['p'])}"
    if row["p"] < ALPHA:
        bend = {-1: "growth slows down", 1: "growth speeds up"}.get(
            bend_sign(row), "no single bend describes the departure"
        )
        shape = f"a straight line is rejected ({test}; {bend}; the line explains {row['share_by_line']:.0%})"
    elif row["slope_low"] > 0:
        shape = f"no departure from a straight line can be shown ({test}), {slope_text(row)}"
    elif row["slope_high"] < 0:
        shape = f"accuracy falls with k, with no departure from a straight line shown ({test}), {slope_text(row)}"
    else:
        shape = f"neither growth nor a departure from a flat line can be shown ({test}), {slope_text(row)}"
    return f"{label(row)} ({row['seeds']} seeds): {shape}; {gain_text(row)}."


def bend_sign(row: dict) -> int:
    """Return -1 or 1 where the interval of the quadratic term excludes zero, else 0."""
    return -1 if row["quadratic_high"] < 0 else int(row["quadratic_low"] > 0)


def gain_text(row: dict) -> str:
    """Return what going to the best k brings, and which smaller k is enough."""
    if row["best_k"] == row["first_k"]:
        return f"no k is better than k={row['first_k']}"
    return (
        f"k={row['first_k']} to the best k={row['best_k']} gains {row['gain']:.2f} points "
        f"({row['gain_low']:.2f} to {row['gain_high']:.2f}), "
        f"and k={row['enough_k']} is within {CLOSE_POINTS} points of the best"
    )


def slope_text(row: dict) -> str:
    """Return the slope with its interval."""
    return f"{row['slope']:.2f} points per expert ({row['slope_low']:.2f} to {row['slope_high']:.2f})"


def p_text(p: float) -> str:
    """Return `= 0.021` or `< 0.001`."""
    return f"= {p:.3f}" if p >= 0.001 else "< 0.001"
