"""Accuracy against the number of experts per token: is its growth in k linear?

Two views of one question. *Trained at k*: every model is trained and evaluated with the same k, one model per k and
seed. *Evaluated at k*: one model per seed, trained with one k, is evaluated with every k. In both, the seed is a
block: it shifts all its accuracies together (in the second view it is even the same model), and no test may take
that shift for noise.
"""

import numpy as np
import pandas as pd

from moe_replay.analysis.estimates.intervals import half_width, mean_interval
from moe_replay.analysis.estimates.line_fit import fit_line, seed_contrasts
from moe_replay.analysis.reading.csv_logs import read_csv_log

COLUMNS = ("data", "trained_k", "evaluated_k", "seed", "accuracy")
CLOSE_POINTS = 0.3  # percentage points within which a smaller k is as good as the best
TRAINED, EVALUATED = "trained at k", "evaluated at k"
LEAST_K = 3  # values of k below which a line cannot be told from a bend


def read_quality(path: str) -> pd.DataFrame:
    """Return the quality table of a set; InputError names a missing column or an accuracy outside 0..1."""
    return read_csv_log(path, {name: (0, 1) if name == "accuracy" else None for name in COLUMNS})


def views(quality: pd.DataFrame) -> list[tuple[str, float, pd.DataFrame]]:
    """Return (view, trained k, accuracy in percent by seed (rows) and k (columns)) of every view the table holds."""
    found = []
    own = quality[quality["trained_k"] == quality["evaluated_k"]]
    if own["evaluated_k"].nunique() >= LEAST_K:
        found.append((TRAINED, float("nan"), by_seed_and_k(own)))
    for trained_k, rows in quality.groupby("trained_k"):
        if rows["evaluated_k"].nunique() >= LEAST_K:
            found.append((EVALUATED, float(trained_k), by_seed_and_k(rows)))
    return found


def by_seed_and_k(rows: pd.DataFrame) -> pd.DataFrame:
    """Return accuracy in percent, seeds as rows and k as columns; NaN where a run is missing."""
    return rows.pivot_table(index="seed", columns="evaluated_k", values="accuracy", aggfunc="mean") * 100


def accuracy_rows(name: str, quality: pd.DataFrame) -> list[dict]:
    """Return one row per view and k: mean over seeds with its t interval, and the value of the fitted line.

    Accuracies are in percent. A k that lacks seeds which others have is `incomplete`.
    """
    rows = []
    for view, trained_k, accuracy in views(quality):
        line = fit_line(accuracy)
        for k in accuracy.columns:
            seen = accuracy[k].dropna()
            mean, low, high = mean_interval(seen.to_numpy())
            lacking = len(accuracy) - len(seen)
            rows.append({
                "set": name, "view": view, "trained_k": trained_k, "k": int(k), "seeds": len(seen),
                "accuracy_percent": mean, "accuracy_percent_low": low, "accuracy_percent_high": high,
                "line_percent": line.value_at(k),
                "status": "incomplete" if lacking else "ok",
                "reason": f"{lacking} seeds are missing" if lacking else "",
            })  # fmt: skip
    return rows


def seed_rows(name: str, quality: pd.DataFrame) -> list[dict]:
    """Return the accuracy in percent of every single seed, per view and k."""
    return [
        {"set": name, "view": view, "trained_k": trained_k, "k": int(k), "seed": seed, "accuracy_percent": value}
        for view, trained_k, accuracy in views(quality)
        for k in accuracy.columns
        for seed, value in accuracy[k].dropna().items()
    ]


def fit_rows(name: str, quality: pd.DataFrame) -> list[dict]:
    """Return one row per view: the line, the lack-of-fit test, the bend, the gain, and the smallest k that is enough.

    `slope` is in points per expert, `quadratic` in points per expert squared. `share_by_line` is the part of the
    variation between the means at different k that the line explains. `p` is the lack-of-fit test's; in the view
    *evaluated at k* it is the conservative one, since values of one model at different k are correlated.
    """
    return [fit_row(name, view, trained_k, accuracy) for view, trained_k, accuracy in views(quality)]


def fit_row(name: str, view: str, trained_k: float, accuracy: pd.DataFrame) -> dict:
    """Return the row of one view; without three k and two seeds its test is NaN and the status says so."""
    whole = accuracy.dropna()
    line, mean = fit_line(accuracy), accuracy.mean()
    best_k, first_k = int(mean.idxmax()), int(mean.index.min())
    enough_k = int(mean.index[mean >= mean.max() - CLOSE_POINTS].min())
    gain = (whole[best_k] - whole[first_k]).to_numpy()
    slope, bend = seed_contrasts(whole)
    quadratic = mean_interval(bend) if view == EVALUATED or line.quadratic is None else line.quadratic
    testable = np.isfinite(line.p)
    return {
        "set": name, "view": view, "trained_k": trained_k, "seeds": len(accuracy), "k_values": len(mean),
        "slope": line.slope, "slope_low": line.slope - half_width(slope), "slope_high": line.slope + half_width(slope),
        "quadratic": quadratic.mean, "quadratic_low": quadratic.low, "quadratic_high": quadratic.high,
        "quadratic_interval": "t over seeds" if view == EVALUATED else "regression with seed as block",
        "share_by_line": line.share, "lack_of_fit_F": line.F, "df_lack": line.df_lack, "df_error": line.df_error,
        "p_exact": line.p, "p_conservative": line.p_conservative,
        "p": line.p_conservative if view == EVALUATED else line.p,
        "first_k": first_k, "best_k": best_k, "gain": gain.mean() if len(gain) else np.nan,
        "gain_low": gain.mean() - half_width(gain) if len(gain) else np.nan,
        "gain_high": gain.mean() + half_width(gain) if len(gain) else np.nan,
        "enough_k": enough_k,
        "status": "ok" if testable else "missing", "reason": "" if testable else "the test needs two seeds and three k",
    }  # fmt: skip
