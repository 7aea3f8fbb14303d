"""Does choosing K per sample beat a fixed K? Every dynamic operating point against its baselines.

Fixed beforehand: the rule is delta, its target a mean K of 2, the margin 0.3 points, thresholds come from validation
images. Two comparisons are primary: delta applied afterwards to a model trained at fixed k, against the same weights at
fixed K (only the choice of K differs), and the model trained with delta, against models trained at fixed k (what one
would have trained instead); of several models trained with delta, the one with the best validation accuracy at that
target. All else is shown beside them.

same weights         the same model at fixed k, read at the point's own mean K
trained at fixed k   the models trained at fixed k, each at its own k, read at the point's own mean K
shuffled             the same numbers of experts, dealt to other samples
equal time           the same model at the fixed k that takes the same measured time, whatever its mean K

Between two numbers of experts, accuracy is interpolated linearly: that is what a *mixture* is expected to reach which
answers a randomly drawn part of the samples with the smaller k and the rest with the larger one, so that mean K is
equal. It is read per seed at that seed's mean K, and anew in every bootstrap replicate at the replicate's mean K.
"""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from moe_replay.analysis.estimates.bootstrap import estimate
from moe_replay.analysis.estimates.crossed_variance import crossed_interval
from moe_replay.analysis.estimates.intervals import Interval
from moe_replay.analysis.tables.delta_k.equal_times import EqualTime, equal_time
from moe_replay.analysis.tables.delta_k.point_series import Replicates, Series, Study

MARGIN_POINTS = 0.3
RULE, TARGET_K = "delta", 2.0
NEAR_TARGET_K = 0.1  # a rule that misses a target by more on validation images is no candidate for the best at it
SAME_WEIGHTS, TRAINED_FIXED, SHUFFLED, EQUAL_TIME = "same weights", "trained at fixed k", "shuffled", "equal time"
BEATS, LOSES, SAME, UNDECIDED = "beats", "loses", "no difference", "undecided"


@dataclass(frozen=True)
class Baseline:
    """What a point is compared with: accuracy in percent [B, S], or None and the reason; `k` is where it was read.

    `chance_SN` is the chance, in percent, that the baseline answers each sample right.
    """

    name: str
    accuracy_BS: np.ndarray | None = None
    chance_SN: np.ndarray | None = None
    reason: str = ""
    k: float = float("nan")


def verdict(difference: Interval, margin: float = MARGIN_POINTS) -> str:
    """Return what an interval of a difference in points says at a margin."""
    if difference.low > margin:
        return BEATS
    if difference.high < -margin:
        return LOSES
    return SAME if -margin < difference.low and difference.high < margin else UNDECIDED


def interpolated(at_BS: np.ndarray, first_k: int, accuracy_KBS: np.ndarray) -> np.ndarray:
    """Return accuracy between consecutive numbers of experts, first_k and up, at mean numbers `at_BS`.

    A replicate whose mean lies beyond an end goes on along the last segment.
    """
    place_BS = np.clip(np.floor(at_BS).astype(int) - first_k, 0, len(accuracy_KBS) - 2)
    share_BS = at_BS - first_k - place_BS
    below, above = (np.take_along_axis(accuracy_KBS, place_BS[None] + step, axis=0)[0] for step in (0, 1))
    return below + share_BS * (above - below)


def read_at(name: str, sweep: list[Series], at_BS: np.ndarray, study: Study, draws: Replicates) -> Baseline:
    """Return a curve over fixed k, read at mean numbers of experts; no number where the data lie outside of it."""
    if len(sweep) < 2:
        return Baseline(name, reason="fewer than two fixed k were measured")
    least, most, own = sweep[0].k, sweep[-1].k, at_BS[0]
    k = float(own.mean())
    if own.min() < least or own.max() > most:
        outside = own[(own < least) | (own > most)]
        where = f"outside the baseline's {least} to {most} ({len(outside)} of {len(own)} seeds)"
        return Baseline(name, reason=f"mean K {outside[0]:.2f} lies {where}", k=k)
    accuracy_BS = interpolated(at_BS, least, np.stack([draws.accuracy[each] for each in sweep]))
    right_KSN = np.stack([100.0 * study.right_SN(each) for each in sweep])
    chance_SN = interpolated(np.broadcast_to(own[:, None], right_KSN.shape[1:]), least, right_KSN)
    return Baseline(name, accuracy_BS, chance_SN, k=k)


def baselines(study: Study, draws: Replicates, series: Series, same_time: EqualTime | None) -> list[Baseline]:
    """Return every baseline that was measured for a dynamic series; `same_time` is None where nothing was timed."""
    at_BS, own_sweep = draws.mean_k[series], study.sweep(series.model)
    found = [read_at(SAME_WEIGHTS, own_sweep, at_BS, study, draws),
             read_at(TRAINED_FIXED, study.family(), at_BS, study, draws)]  # fmt: skip
    dealt = series._replace(how="shuffled")
    if dealt in draws.accuracy and (series.how == "trained") == (series.target_k is None):
        found.append(Baseline(SHUFFLED, draws.accuracy[dealt], 100.0 * study.right_SN(dealt), k=at_BS[0].mean()))
    if same_time is not None:
        found.append(read_at_equal_time(same_time, own_sweep, at_BS, study, draws))
    return found


def read_at_equal_time(
    same: EqualTime, sweep: list[Series], at_BS: np.ndarray, study: Study, draws: Replicates
) -> Baseline:
    """Return the same weights at the fixed k that takes the same time."""
    if not np.isfinite(same.k):
        return Baseline(EQUAL_TIME, reason=same.note)
    read = read_at(EQUAL_TIME, sweep, np.full_like(at_BS, same.k), study, draws)
    return replace(read, reason=same.note or read.reason)


def comparison_rows(name: str, study: Study, draws: Replicates, times: pd.DataFrame | None) -> list[dict]:
    """Return one row per dynamic series and baseline: accuracies, their difference in points, and the verdict."""
    main, best = primary_series(study), best_on_validation(study)
    rows = []
    for series in study.dynamic():
        about = {"set": name, "model": series.model, "how": series.how, "rule": series.rule,
                 "target_k": series.target_k, **point_columns(study, draws, series),
                 "best_on_validation": series in best, "seeds": len(study.seeds)}  # fmt: skip
        own = None if times is None else equal_time(times, series)
        if own is not None:
            about |= {"time_us": own.time_us, "time_us_low": own.time_us_low, "time_us_high": own.time_us_high}
        for baseline in baselines(study, draws, series, own):
            named = {"baseline": baseline.name, "primary": main.get(series) == baseline.name}
            rows.append(about | named | compared(study, draws, series, baseline))
    return rows


def point_columns(study: Study, draws: Replicates, series: Series) -> dict:
    """Return accuracy and mean K of a series with intervals, how K varies over samples, and what validation showed."""
    accuracy = estimate(draws.over_seeds(draws.accuracy[series]))
    mean_k = estimate(draws.over_seeds(draws.mean_k[series]))
    return {
        "mean_k": mean_k.mean, "mean_k_low": mean_k.low, "mean_k_high": mean_k.high,
        "k_deviation": study.mean_k_SN(series).std(axis=1).mean(),
        "accuracy_percent": accuracy.mean, "accuracy_percent_low": accuracy.low, "accuracy_percent_high": accuracy.high,
        "validation_percent": 100 * study.described(series, "validation_accuracy").mean(),
        "validation_mean_k": study.described(series, "validation_mean_k").mean(),
    }  # fmt: skip


def compared(study: Study, draws: Replicates, series: Series, baseline: Baseline) -> dict:
    """Return the difference to one baseline, or `skipped` with the reason.

    The verdict is the bootstrap's. `difference_points_components_*` is the interval from variance components, with
    the mixture's shares as they are: a check, which is narrower where noise of single answers prevails.
    """
    about = {"baseline_k": baseline.k, "status": "ok", "reason": baseline.reason}
    if baseline.accuracy_BS is None:
        return about | {"status": "skipped"}
    own_B, other_B = (draws.over_seeds(values) for values in (draws.accuracy[series], baseline.accuracy_BS))
    difference = estimate(own_B - other_B)
    check = crossed_interval(100.0 * study.right_SN(series) - baseline.chance_SN)
    return about | {
        "baseline_percent": other_B[0], "difference_points": difference.mean, "difference_points_low": difference.low,
        "difference_points_high": difference.high, "verdict": verdict(difference),
        "difference_points_components_low": check.low, "difference_points_components_high": check.high,
    }  # fmt: skip


def primary_series(study: Study) -> dict[Series, str]:
    """Return the primary series with the baseline each is held against."""
    fixed, trained = (at_target(study, trained_fixed, (RULE,)) for trained_fixed in (True, False))
    best = max(trained, key=lambda each: validation(study, each), default=None)
    return dict.fromkeys(fixed, SAME_WEIGHTS) | ({best: TRAINED_FIXED} if best else {})


def best_on_validation(study: Study) -> set[Series]:
    """Return the rule with the best validation accuracy at the target: applied afterwards, and with a trained gate."""
    found = set()
    for trained_fixed in (True, False):
        near = [
            each for each in at_target(study, trained_fixed, None)
            if abs(study.described(each, "validation_mean_k").mean() - TARGET_K) <= NEAR_TARGET_K
        ]  # fmt: skip
        found |= {max(near, key=lambda each: validation(study, each))} if near else set()
    return found


def at_target(study: Study, trained_fixed: bool, rules: tuple[str, ...] | None) -> list[Series]:
    """Return the series of some rules (None: any) whose threshold was chosen for the target mean K."""
    return [
        each for each in study.dynamic()
        if each.how == "rule" and each.target_k == TARGET_K and each.trained_fixed == trained_fixed
        and (rules is None or each.rule in rules)
    ]  # fmt: skip


def validation(study: Study, series: Series) -> float:
    """Return the mean accuracy on validation images over seeds."""
    return float(study.described(series, "validation_accuracy").mean())


def curve_rows(name: str, study: Study, draws: Replicates) -> list[dict]:
    """Return the curves over fixed k, one row per point: the models trained at fixed k, and each model's own sweep."""
    curves = {TRAINED_FIXED: study.family()}
    curves |= {f"{model} at k": study.sweep(model) for model in dict.fromkeys(each.model for each in study.dynamic())}
    rows = []
    for curve, series in curves.items():
        for each in series:
            found = estimate(draws.over_seeds(draws.accuracy[each]))
            rows.append({
                "set": name, "curve": curve, "model": each.model, "k": each.k, "accuracy_percent": found.mean,
                "accuracy_percent_low": found.low, "accuracy_percent_high": found.high, "seeds": len(study.seeds),
            })  # fmt: skip
    return rows
