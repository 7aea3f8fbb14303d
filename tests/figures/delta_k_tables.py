"""Tables of the figure delta_k in small, in the form that `python -m analysis` writes them."""

import numpy as np

BASELINES = {"same weights": 0.2, "trained at fixed k": -0.4, "shuffled": 0.9, "equal time": 7.0}
POINTS = {("fixed-4", "delta"): "same weights", ("delta", "delta"): "trained at fixed k", ("fixed-4", "top-p"): None}


def comparison_rows(name):
    for (model, rule), stated in POINTS.items():
        for target in (1.5, 2.0, 3.0):
            for baseline, difference in BASELINES.items():
                skipped = baseline == "equal time" and model == "delta"
                yield {
                    "set": name, "model": model, "how": "rule", "rule": rule, "target_k": target, "mean_k": target,
                    "accuracy_percent": 50 + target, "accuracy_percent_low": 49 + target, "seeds": 8,
                    "accuracy_percent_high": 51 + target, "baseline": baseline, "baseline_k": target,
                    "primary": target == 2 and baseline == stated, "verdict": None if skipped else "undecided",
                    "status": "skipped" if skipped else "ok", "reason": "not timed" if skipped else "",
                    "difference_points": np.nan if skipped else difference,
                    "difference_points_low": np.nan if skipped else difference - 0.4,
                    "difference_points_high": np.nan if skipped else difference + 0.4,
                }  # fmt: skip


def curve_rows(name):
    curves = {"trained at fixed k": 4, "fixed-4 at k": 8, "delta at k": 8}
    return [
        {"set": name, "curve": curve, "k": k, "accuracy_percent": 50 + k, "accuracy_percent_low": 49 + k,
         "accuracy_percent_high": 51 + k}
        for curve, most in curves.items() for k in range(1, most + 1)
    ]  # fmt: skip


def oracle_rows(name):
    ends = {"": 0, "_low": -1, "_high": 1}
    return [
        {"set": name, "tries": n} | {
            f"{column}_percent{end}": 50 + slope * n + off
            for column, slope in {"oracle": 2, "luck": 1.5, "fixed": 0.1}.items() for end, off in ends.items()
        }
        for n in range(1, 9)
    ]  # fmt: skip


def group_rows(name):
    means = {"wrong - right": 0.3, "right": 1.9, "wrong": 2.2, "class 0": 1.5, "class 1": 2.5}
    return [
        {"set": name, "model": model, "how": "rule", "rule": "delta", "target_k": 2.0, "group": group,
         "mean_k": mean_k, "mean_k_low": mean_k - 0.1, "mean_k_high": mean_k + 0.1}
        for model in ("fixed-4", "delta") for group, mean_k in means.items()
    ]  # fmt: skip


def histogram_rows(name):
    return [
        {"set": name, "model": "fixed-4", "how": "rule", "rule": "delta", "target_k": 2.0, "group": group, "k": k,
         "share_percent": 50.0}
        for group, ks in {"right": (1.0, 2.0), "wrong": (1.25, 3.0)}.items() for k in ks
    ]  # fmt: skip


def delta_k_tables(sets):
    """Return rows by table name."""
    kinds = {"": comparison_rows, "_curves": curve_rows, "_oracle": oracle_rows, "_histogram": histogram_rows,
             "_groups": group_rows}  # fmt: skip
    return {f"delta_k{part}": [row for name in sets for row in rows(name)] for part, rows in kinds.items()}
