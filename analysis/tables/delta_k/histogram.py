"""Who gets many experts? K over samples: in all, by right and wrong answers, by class."""

import numpy as np

from moe_replay.analysis.estimates.bootstrap import estimate
from moe_replay.analysis.tables.delta_k.point_series import Replicates, Series, Study

BIN = 0.25  # experts per layer; exact for four layers, rounded to the nearest for other numbers
ALL, RIGHT, WRONG, DIFFERENCE = "all", "right", "wrong", "wrong - right"


def histogram_rows(name: str, study: Study, series: Series) -> list[dict]:
    """Return one row per group and number of experts per layer (to the nearest quarter): the share of its samples.

    Groups are all samples, right and wrong answers, and each class; shares in percent, over all seeds together.
    """
    binned_SN = np.rint(study.mean_k_SN(series) / BIN).astype(int)
    rows = []
    for group, chosen_SN in groups(study, series).items():
        values = binned_SN[chosen_SN]
        count = np.bincount(values)
        for place in np.flatnonzero(count):
            rows.append(about(name, series) | {
                "group": group, "k": place * BIN, "share_percent": 100 * count[place] / len(values),
                "answers": int(count[place]),
            })  # fmt: skip
    return rows


def groups(study: Study, series: Series) -> dict[str, np.ndarray]:
    """Return which answers [S, N] belong to each group."""
    right_SN, label_N = study.right_SN(series), study.points.label_N
    classes = {f"class {label}": np.broadcast_to(label_N == label, right_SN.shape) for label in np.unique(label_N)}
    return {ALL: np.ones_like(right_SN), RIGHT: right_SN, WRONG: ~right_SN} | classes


def group_rows(name: str, study: Study, draws: Replicates, series: Series) -> list[dict]:
    """Return the mean K of every group, and of wrong minus right answers.

    Bootstrap intervals over seeds and samples; a class has none.
    """
    mean_k_SN = study.mean_k_SN(series)
    by_group = {
        ALL: draws.mean_k[series], RIGHT: draws.right_k[series], WRONG: draws.wrong_k[series],
        DIFFERENCE: draws.wrong_k[series] - draws.right_k[series],
    }  # fmt: skip
    rows = []
    for group, chosen_SN in ({DIFFERENCE: None} | groups(study, series)).items():
        if group in by_group:
            found = estimate(draws.over_seeds(by_group[group]))
            values = {"mean_k": found.mean, "mean_k_low": found.low, "mean_k_high": found.high}
        else:
            values = {"mean_k": mean_k_SN[chosen_SN].mean()}
        rows.append(about(name, series) | {"group": group, **values, "seeds": len(study.seeds)})
    return rows


def about(name: str, series: Series) -> dict:
    """Return the columns that name a series."""
    return {"set": name, "model": series.model, "how": series.how, "rule": series.rule, "target_k": series.target_k}
