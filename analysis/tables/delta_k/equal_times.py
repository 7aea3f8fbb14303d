"""Which fixed number of experts takes as long as a dynamic rule? From measured times of one machine.

A point's time is the median over its repetitions, per image. Between measured numbers of experts it is interpolated
linearly; where a larger k was measured faster than a smaller one (noise) the smaller one's time is taken for both. The
scatter of the times is not part of any interval: it is told apart, as the range over repetitions.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from moe_replay.analysis.reading.csv_logs import read_csv_log
from moe_replay.analysis.tables.delta_k.point_series import DYNAMIC, Series

COLUMNS = {"model": None, "how": None, "rule": None, "target_k": None, "k": None, "repetition": None,
           "images": (1, np.inf), "seconds": (1e-9, np.inf)}  # fmt: skip


@dataclass(frozen=True)
class EqualTime:
    """The fixed k that takes the same time, with what has to be said of it; k is NaN where there is none.

    `time_us`, `time_us_low`, `time_us_high`: median, least and most microseconds per image of the dynamic point.
    """

    k: float
    note: str
    time_us: float = float("nan")
    time_us_low: float = float("nan")
    time_us_high: float = float("nan")


def read_times(path: Path | str) -> pd.DataFrame:
    """Return the table of times with `us_per_image`, `rule` by its name alone; InputError as for every CSV log."""
    table = read_csv_log(path, COLUMNS)
    rule = table["rule"].astype("string").str.split(":").str[0]
    return table.assign(rule=rule, us_per_image=1e6 * table["seconds"] / table["images"])


def equal_time(times: pd.DataFrame, series: Series) -> EqualTime:
    """Return the fixed k of the same model that takes as long as a dynamic series."""
    own, fixed = times_of(times, series), times[(times["model"] == series.model) & (times["how"] == "fixed")]
    median_k = fixed.groupby("k")["us_per_image"].median()
    if own.empty or len(median_k) < 2:
        return EqualTime(float("nan"), "not timed" if own.empty else "the model was not timed at two fixed k")
    return EqualTime(*k_at(float(own.median()), median_k), float(own.median()), float(own.min()), float(own.max()))


def times_of(times: pd.DataFrame, series: Series) -> pd.Series:
    """Return the microseconds per image of a dynamic series, one value per repetition."""
    chosen = (times["model"] == series.model) & (times["how"] == series.how) & (times["rule"] == series.rule)
    same_target = times["target_k"].isna() if series.target_k is None else times["target_k"] == series.target_k
    return times.loc[chosen & same_target & times["how"].isin(DYNAMIC), "us_per_image"]


def k_at(time_us: float, median_k: pd.Series) -> tuple[float, str]:
    """Return (k, remark) at which times by ascending k reach a time; NaN beyond the slowest."""
    ks, slower = median_k.index.to_numpy(float), np.maximum.accumulate(median_k.to_numpy())
    if time_us > slower[-1]:
        return float("nan"), f"slower than fixed k = {ks[-1]:.0f}, the largest that was timed"
    if time_us < slower[0]:
        return float(ks[0]), f"faster than fixed k = {ks[0]:.0f}, which it is compared with"
    return float(np.interp(time_us, slower, ks)), ""
