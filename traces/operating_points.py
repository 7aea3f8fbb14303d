"""Operating points of a model: for every sample, was the answer right, and how many experts did it take?

One file holds all points of a study, one row per (point, sample), so that statistics can draw samples and seeds again.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from moe_replay.traces.errors import InputError
from moe_replay.traces.file.parquet import SMALLEST, read_table, write_table

POINT_COLUMNS = {
    "point": np.int16,
    "sample": np.int32,
    "selections": np.int16,  # experts that ran, summed over the layers
    "right": np.bool_,
}


@dataclass(frozen=True)
class OperatingPoints:
    """`columns` maps the names above to equally long arrays: by point, each with the same samples in the same order.

    `header["points"][p]` says what point p is (model, seed, rule, ...), `header["layers"]` over how many layers
    `selections` is summed, `header["labels"]` the samples' classes. Raises InputError where points and samples do not
    form a full grid.
    """

    columns: dict[str, np.ndarray]
    header: dict

    def __post_init__(self) -> None:
        if {name: array.dtype for name, array in self.columns.items()} != POINT_COLUMNS:
            raise InputError(
                f"operating points: columns are {', '.join(self.columns)}; allowed: {', '.join(POINT_COLUMNS)}"
            )
        points, rows = len(self.header.get("points", ())), len(self.columns["point"])
        if points == 0 or rows == 0 or rows % points:
            raise InputError(f"operating points: {rows} rows for {points} points; allowed: as many rows for each point")
        sample_PN = self.columns["sample"].reshape(points, -1)
        point_PN = self.columns["point"].reshape(points, -1)
        if (sample_PN != sample_PN[0]).any() or (point_PN != np.arange(points)[:, None]).any():
            raise InputError("operating points: rows must be sorted by point, each with equal samples in equal order")
        if len(self.header.get("labels", ())) != rows // points:
            raise InputError(
                f"operating points: {len(self.header.get('labels', ()))} labels for {rows // points} samples; "
                "allowed: one each"
            )

    @property
    def points(self) -> list[dict]:
        """What each point is."""
        return self.header["points"]

    @property
    def right_PN(self) -> np.ndarray:
        """Whether each sample was answered right at each point, bool [P, N]."""
        return self.columns["right"].reshape(len(self.points), -1)

    @property
    def mean_k_PN(self) -> np.ndarray:
        """Experts per layer of each sample at each point, float64 [P, N]."""
        return self.columns["selections"].reshape(len(self.points), -1) / self.header["layers"]

    @property
    def label_N(self) -> np.ndarray:
        """The samples' classes, int16."""
        return np.array(self.header["labels"], np.int16)

    def save(self, path: Path | str) -> None:
        """Write the points as Parquet."""
        orders = {"right": "sample"}  # most samples are right, or wrong, at nearly every point
        write_table(path, self.columns, self.header, "operating points", orders=orders, level=SMALLEST)


def operating_points(
    label_N: np.ndarray, right_PN: np.ndarray, selections_PN: np.ndarray, header: dict
) -> OperatingPoints:
    """Return the points from arrays [P, N]; the header describes them."""
    points, samples = right_PN.shape
    columns = {
        "point": np.repeat(np.arange(points), samples), "sample": np.tile(np.arange(samples), points),
        "selections": selections_PN.ravel(), "right": right_PN.ravel(),
    }  # fmt: skip
    typed = {name: columns[name].astype(kind) for name, kind in POINT_COLUMNS.items()}
    return OperatingPoints(typed, {**header, "labels": np.asarray(label_N).tolist()})


def load_operating_points(path: Path | str) -> OperatingPoints:
    """Return the points in a file; InputError if it is not one."""
    columns, header = read_table(path, "operating points")
    return OperatingPoints(columns, header)
