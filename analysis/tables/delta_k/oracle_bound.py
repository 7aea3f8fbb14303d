"""How far could choosing K go, and how much of that is luck?

The *oracle* answers a sample right if any of k = 1..n does. Whoever may try n times is right more often by chance
alone, so it is shown beside n *noisy tries*: the same model at its own k with noise on the gates, each try as accurate
as a fixed k is on average (matched on validation images). A gain that noise reaches too is no evidence that K matters.
"""

import numpy as np

from moe_replay.analysis.estimates.intervals import mean_interval
from moe_replay.analysis.tables.delta_k.point_series import Study


def oracle_rows(name: str, study: Study) -> list[dict]:
    """Return one row per number of tries n, in percent with t intervals over seeds (the samples are given).

    `oracle`: right at some k <= n; `luck`: right in some of n noisy tries; `fixed`: right at k = n; `single_*`: the
    mean accuracy of one try; `gain` = all tries - a single one; `luck_share` = gain of luck / gain of the oracle, NaN
    where the oracle gains nothing; `oracle_mean_k`: mean of the least right k, over the samples that have one.
    """
    rows = []
    for model in dict.fromkeys(each.model for each in study.index if each.how == "noisy"):
        sweep, noisy = study.sweep(model), study.tries("noisy", model)
        tries = min(len(sweep), len(noisy))
        swept_NS, tried_NS = (np.stack([study.right_SN(each) for each in part[:tries]]) for part in (sweep, noisy))
        rows += [try_row(name, model, count, swept_NS, tried_NS) for count in range(1, tries + 1)]
    return rows


def try_row(name: str, model: str, count: int, swept_TSN: np.ndarray, tried_TSN: np.ndarray) -> dict:
    """Return the row of `count` tries."""
    columns = {
        "oracle": any_right(swept_TSN[:count]), "luck": any_right(tried_TSN[:count]),
        "fixed": 100 * swept_TSN[count - 1].mean(axis=1),
        "single_oracle": 100 * swept_TSN[:count].mean(axis=(0, 2)),
        "single_luck": 100 * tried_TSN[:count].mean(axis=(0, 2)),
    }  # fmt: skip
    gain, luck = (columns[kind] - columns[f"single_{kind}"] for kind in ("oracle", "luck"))
    row = {"set": name, "model": model, "tries": count, "seeds": swept_TSN.shape[1]}
    for column, values_S in columns.items():
        found = mean_interval(values_S)
        row |= {
            f"{column}_percent": found.mean,
            f"{column}_percent_low": found.low,
            f"{column}_percent_high": found.high,
        }
    over = mean_interval(columns["oracle"] - columns["luck"])
    mean_k = mean_interval(least_k(swept_TSN[:count]))
    return row | {
        "over_luck_points": over.mean, "over_luck_points_low": over.low, "over_luck_points_high": over.high,
        "oracle_gain_points": gain.mean(), "luck_gain_points": luck.mean(),
        "luck_share": luck.mean() / gain.mean() if gain.mean() > 0 else np.nan,
        "oracle_mean_k": mean_k.mean, "oracle_mean_k_low": mean_k.low, "oracle_mean_k_high": mean_k.high,
    }  # fmt: skip


def any_right(right_TSN: np.ndarray) -> np.ndarray:
    """Return the percentage of samples that some try answers right, per seed."""
    return 100 * right_TSN.any(axis=0).mean(axis=1)


def least_k(right_TSN: np.ndarray) -> np.ndarray:
    """Return the mean over samples of the least right k, per seed; samples that no k gets right do not count."""
    first_SN = right_TSN.argmax(axis=0) + 1.0
    first_SN[~right_TSN.any(axis=0)] = np.nan
    return np.nanmean(first_SN, axis=1)
