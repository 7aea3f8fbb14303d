"""What lost gate mass has cost in quality where both were measured: a relation beside what-ifs, no forecast."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.optimize import isotonic_regression

from moe_replay.analysis.reading.csv_logs import read_csv_log
from moe_replay.analysis.tables.swap_tradeoff import QUALITY_COLUMNS
from moe_replay.traces.errors import InputError

LEAST = 3  # measured points of a handling


@dataclass(frozen=True)
class Relation:
    """Loss of quality against lost gate mass, by handling of misses: (masses ascending, losses not falling).

    `spread` is the median distance of the measured points from these lines, in the unit of `measure`.
    """

    lines: dict[str, tuple[np.ndarray, np.ndarray]]
    measure: str
    spread: float

    def loss(self, miss: str, lost_mass: float) -> float:
        """Return what as much lost mass cost under the same handling; NaN outside of what was measured."""
        if miss not in self.lines:
            return float("nan")
        mass_P, loss_P = self.lines[miss]
        return float(np.interp(lost_mass, mass_P, loss_P, left=np.nan, right=np.nan))


def read_relation(path: Path | str) -> Relation:
    """Return the relation in a table of `collect swap-quality`; InputError where it holds too few points.

    Every way to choose residents is a point, nothing lost costs nothing, and more lost mass is taken to cost no less
    (isotonic regression).
    """
    table = read_csv_log(path, QUALITY_COLUMNS)
    lines, off = {}, []
    for miss, own in table[table["miss"].notna()].groupby("miss"):
        own = own.sort_values("lost_mass", kind="stable")
        mass_P, loss_P = (np.append(0.0, own[name].to_numpy(float)) for name in ("lost_mass", "loss"))
        if len(own) >= LEAST:
            lines[str(miss)] = mass_P, isotonic_regression(loss_P).x
            off.append(np.abs(lines[str(miss)][1] - loss_P)[1:])
    if not lines:
        raise InputError(f"{path}: has fewer than {LEAST} rows of redirect or skip, allowed {LEAST} and more")
    return Relation(lines, str(table["measure"].iloc[0]), float(np.median(np.concatenate(off))))
