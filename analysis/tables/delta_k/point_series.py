"""Operating points as series: one point of the delta-MoE study over all its seeds, and its bootstrap replicates."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from moe_replay.analysis.estimates.bootstrap import REPLICATES, sample_sums, seed_shares
from moe_replay.traces.errors import InputError
from moe_replay.traces.operating_points import OperatingPoints

FIXED_MODEL = "fixed-"  # fixed-3 was trained with three experts; all other models with a gate that chooses K
DYNAMIC = ("rule", "trained")
LEAST_SEEDS = 2


class Series(NamedTuple):
    """What a point is, whatever its seed; what does not apply is None. `rule` is the rule's name alone."""

    model: str
    how: str
    rule: str | None = None
    target_k: float | None = None
    k: int | None = None
    number: int | None = None

    @property
    def trained_fixed(self) -> bool:
        """Whether the model was trained with a fixed number of experts."""
        return self.model.startswith(FIXED_MODEL)


def series_of(point: dict) -> Series:
    """Return the series of a point as the file describes it."""
    rule = point.get("rule")
    return Series(point["model"], point["how"], rule and rule.split(":")[0], point.get("target_k"), point.get("k"),
                  point.get("number"))  # fmt: skip


@dataclass(frozen=True)
class Study:
    """The points of a file by series; `index[series]` are their places, one per seed, seeds ascending."""

    points: OperatingPoints
    seeds: list[int]
    index: dict[Series, list[int]]

    def right_SN(self, series: Series) -> np.ndarray:
        """Whether each sample was answered right, per seed."""
        return self.points.right_PN[self.index[series]]

    def mean_k_SN(self, series: Series) -> np.ndarray:
        """Experts per layer of each sample, per seed."""
        selections_PN = self.points.columns["selections"].reshape(len(self.points.points), -1)
        return selections_PN[self.index[series]] / self.points.header["layers"]

    def described(self, series: Series, key: str) -> np.ndarray:
        """Return what the file says of a series under a key, per seed; NaN where it says nothing."""
        return np.array([self.points.points[place].get(key, np.nan) for place in self.index[series]], dtype=float)

    def sweep(self, model: str) -> list[Series]:
        """Return a model's fixed numbers of experts, ascending, as far as they follow one another from the least."""
        return consecutive([each for each in self.index if each.how == "fixed" and each.model == model])

    def family(self) -> list[Series]:
        """Return the models trained at fixed k, each at its own k, ascending."""
        fixed = [each for each in self.index if each.how == "fixed"]
        return consecutive([each for each in fixed if each.model == f"{FIXED_MODEL}{each.k}"])

    def dynamic(self) -> list[Series]:
        """Return the series in which K is chosen per sample, in the file's order."""
        return [each for each in self.index if each.how in DYNAMIC]

    def tries(self, how: str, model: str) -> list[Series]:
        """Return a model's numbered tries of a kind, ascending."""
        found = [each for each in self.index if each.how == how and each.model == model]
        return sorted(found, key=lambda each: each.number)


def consecutive(found: list[Series]) -> list[Series]:
    """Return series by ascending k up to the first gap."""
    found = sorted(found, key=lambda each: each.k)
    return [each for place, each in enumerate(found) if each.k == found[0].k + place]


def arranged(points: OperatingPoints) -> Study:
    """Return the points by series; InputError where a series lacks a seed, has it twice, or there is one seed only."""
    seeds = sorted({point["seed"] for point in points.points})
    if len(seeds) < LEAST_SEEDS:
        raise InputError(f"operating points: {len(seeds)} seed, needed {LEAST_SEEDS} or more")
    places: dict[Series, dict[int, int]] = {}
    for place, point in enumerate(points.points):
        of_series = places.setdefault(series_of(point), {})
        if of_series.setdefault(point["seed"], place) != place:
            raise InputError(
                f"operating points: point {place}: {described(point)} is there twice for seed {point['seed']}"
            )
    for found in places.values():
        lacking = [seed for seed in seeds if seed not in found]
        if lacking:
            about = described(points.points[next(iter(found.values()))])
            raise InputError(
                f"operating points: {about} lacks seed {lacking[0]}; needed: the same seeds for every point"
            )
    index = {series: [found[seed] for seed in seeds] for series, found in places.items()}
    return Study(points, seeds, index)


def described(point: dict) -> str:
    """Return a point in words."""
    return " ".join(str(part) for part in series_of(point) if part is not None)


@dataclass(frozen=True)
class Replicates:
    """Per series and seed, the data (row 0) and their replicates: accuracy in percent, mean K, both [B, S].

    `right_k` is the mean K of right answers, `wrong_k` that of wrong ones, for series with K per sample. `share_BS`
    says how much each seed counts in each replicate.
    """

    share_BS: np.ndarray
    accuracy: dict[Series, np.ndarray]
    mean_k: dict[Series, np.ndarray]
    right_k: dict[Series, np.ndarray]
    wrong_k: dict[Series, np.ndarray]

    def over_seeds(self, values_BS: np.ndarray) -> np.ndarray:
        """Return the mean over the seeds of each replicate."""
        return (values_BS * self.share_BS).sum(1)


def replicated(study: Study, generator: np.random.Generator, replicates: int = REPLICATES) -> Replicates:
    """Return accuracies and mean K of every series but the noisy tries, of the data and of their replicates."""
    answered = [series for series in study.index if series.how != "noisy"]
    varying = study.dynamic()
    right = {series: study.right_SN(series) for series in answered}
    mean_k = {series: study.mean_k_SN(series) for series in varying}
    blocks = [*right.values(), *mean_k.values(), *(mean_k[series] * right[series] for series in varying)]
    samples, seeds = len(study.points.label_N), len(study.seeds)
    sums_BV = sample_sums(np.concatenate(blocks, dtype=np.float32).T, replicates, generator).astype(float)
    parts = [sums_BV[:, start : start + seeds] for start in range(0, sums_BV.shape[1], seeds)]
    rights = dict(zip(answered, parts, strict=False))
    experts = dict(zip(varying, parts[len(answered) :], strict=False))
    of_right = dict(zip(varying, parts[len(answered) + len(varying) :], strict=True))
    return Replicates(
        share_BS=seed_shares(seeds, replicates, generator),
        accuracy={series: 100 * sums / samples for series, sums in rights.items()},
        mean_k={series: sums / samples for series, sums in experts.items()},
        right_k={each: ratio(of_right[each], rights[each]) for each in varying},
        wrong_k={each: ratio(experts[each] - of_right[each], samples - rights[each]) for each in varying},
    )


def ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """Return a quotient, NaN where nothing is below."""
    return np.divide(above, below, out=np.full_like(above, np.nan), where=below > 0)
