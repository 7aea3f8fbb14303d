"""SmartMoE's published points under its rule and three predictors: a study of files that the user has.

`placement_published`: a row per setting and predictor, scored on the second half of the points. `placement_search`: the
speed-up of its adaptive placement, predicted and measured. `placement_published_points`: every point.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from moe_replay.analysis.estimates.step_times import Constants, calibrated, scored
from moe_replay.analysis.reading.smartmoe_files import LayerTimes, Published, SearchTimes
from moe_replay.analysis.written_tables import write_claims, write_tables
from moe_replay.simulate.placing.cluster_shape import ClusterShape
from moe_replay.simulate.placing.planners.smartmoe import replanned

PUBLISHED, SEARCH, POINTS = "placement_published", "placement_search", "placement_published_points"
SEARCH_DEVICES = 8  # of figure 13
TRACED_MICRO_BATCH = 4  # the micro-batch that a row of the logs is taken for, by the constants alone
PREDICTORS = ("calibrated", "published", "constants")


def published_tables(found: Published) -> dict[str, list[dict]]:
    """Return the rows of all tables."""
    tables: dict[str, list[dict]] = {PUBLISHED: [], SEARCH: [], POINTS: []}
    for times in found.layers:
        add_layers(tables, times)
    for times in found.searches:
        add_search(tables, times, found.work_SE, found.plan_SE)
    return tables


def add_layers(tables: dict[str, list[dict]], times: LayerTimes) -> None:
    """Add figure 11 of a setting: times of single layers with experts in order."""
    load_XRMD = times.load_XRME.reshape(*times.load_XRME.shape[:3], times.devices, -1).sum(4)
    heaviest_X = load_XRMD.sum((1, 2)).max(1)
    half = len(np.unique(times.iteration_X)) // 2 * (times.layer_X.max() + 1)
    line = calibrated(heaviest_X[:half], times.measured_X[:half])
    scale = times.micro_batch / TRACED_MICRO_BATCH
    predicted = {
        "calibrated": line.ms(heaviest_X), "published": times.estimate_X,
        "constants": scale * Constants().ms(load_XRMD.mean(2)),
    }  # fmt: skip
    for name in PREDICTORS:
        score = scored(predicted[name][half:], times.measured_X[half:])
        fitted = {"a_ms": line.a_ms, "us_per_selection": 1e3 * line.ms_per_selection} if name == "calibrated" else {}
        what = {"published_setting": times.setting, "devices": times.devices, "predictor": name}
        tables[PUBLISHED].append({
            **what, "points": len(heaviest_X) - half, "mape_percent": 100 * score.mape, "r2": score.r2, "a_ms": np.nan,
            "us_per_selection": np.nan, **fitted,
        })  # fmt: skip
    for at in range(len(heaviest_X)):
        tables[POINTS].append({
            "published_setting": times.setting, "placement": "contiguous", "iteration": int(times.iteration_X[at]),
            "layer": int(times.layer_X[at]), "half": 1 + (at >= half), "heaviest": int(heaviest_X[at]),
            "measured_ms": times.measured_X[at], "calibrated_ms": predicted["calibrated"][at],
        })  # fmt: skip


def add_search(tables: dict[str, list[dict]], times: SearchTimes, work_SE: np.ndarray, plan_SE: np.ndarray) -> None:
    """Add figure 13 of a setting: one layer over training, static and with SmartMoE's rule.

    The first point is a warm-up and is left out; the second half scores what the first one fitted.
    """
    heaviest, changes = replayed(work_SE, plan_SE, times.every_points)
    measured = {"contiguous": times.static_S, "smartmoe": times.adaptive_S}
    half = len(work_SE) // 2
    fit, score = slice(1, half), slice(half, None)
    line = calibrated(*(np.concatenate([of[name][fit] for name in measured]) for of in (heaviest, measured)))
    predicted = {name: line.ms(heaviest[name]) for name in measured}
    found = scored(*(np.concatenate([of[name][score] for name in measured]) for of in (predicted, measured)))
    tables[SEARCH].append({
        "published_setting": times.setting, "every_points": times.every_points, "points": len(work_SE) - half,
        "mape_percent": 100 * found.mape, "r2": found.r2,
        "predicted_speed_up": speed_up(predicted, score), "measured_speed_up": speed_up(measured, score),
        "changes": changes, "published_changes": times.changes,
    })  # fmt: skip
    for name in measured:
        for at in range(1, len(work_SE)):
            tables[POINTS].append({
                "published_setting": times.setting, "placement": name, "iteration": 1 + 10 * at, "layer": 6,
                "half": 1 + (at >= half), "heaviest": int(heaviest[name][at]), "measured_ms": measured[name][at],
                "calibrated_ms": predicted[name][at],
            })  # fmt: skip


def replayed(work_SE: np.ndarray, plan_SE: np.ndarray, every: int) -> tuple[dict[str, np.ndarray], int]:
    """Return the heaviest device's load at every point, static and by SmartMoE's rule, and how often that changed.

    The rule plans from what one rank sees of the same point (as released), and adopts whatever is better.
    """
    experts = work_SE.shape[1]
    shape = ClusterShape(SEARCH_DEVICES, 1, -(-experts // SEARCH_DEVICES))
    contiguous_E = np.arange(experts) * SEARCH_DEVICES // experts
    device_LE, changes, heaviest = contiguous_E[None], 0, {"contiguous": [], "smartmoe": []}
    for point, work_E in enumerate(work_SE):
        if point % every == 0:
            device_LE, adopted_L = replanned(plan_SE[point][None], device_LE, shape, 1.0)
            changes += int(adopted_L[0])
        for name, device_E in (("contiguous", contiguous_E), ("smartmoe", device_LE[0])):
            heaviest[name].append(np.bincount(device_E, work_E, SEARCH_DEVICES).max())
    return {name: np.array(loads) for name, loads in heaviest.items()}, changes


def speed_up(ms: dict[str, np.ndarray], part: slice) -> float:
    """Return how many times as long the static placement takes in a part of the points."""
    return float(ms["contiguous"][part].mean() / ms["smartmoe"][part].mean())


def published_claim(tables: dict[str, list[dict]]) -> dict:
    """Return the sentence: how well a line through the heaviest device's load predicts, and the speed-ups."""
    fits = pd.DataFrame(tables[PUBLISHED]).set_index(["published_setting", "predictor"])
    settings = list(dict.fromkeys(row["published_setting"] for row in tables[PUBLISHED]))

    def error(setting: str, predictor: str) -> str:
        row = fits.loc[(setting, predictor)]
        return f"{row['mape_percent']:.1f} % (R2 {row['r2']:.3f})"

    said = [
        f"{name}: {error(name, 'calibrated')}, the paper's estimate {error(name, 'published')}" for name in settings
    ]
    speeds = [f"{row['predicted_speed_up']:.3f} (measured {row['measured_speed_up']:.3f})" for row in tables[SEARCH]]
    claim = (
        "A line through the heaviest device's load, calibrated on the first half of SmartMoE's published points, "
        f"predicts the second half: mean error {'; '.join(said)}. The paper's estimate comes from constants, ours from "
        f"half of the measurements. Adaptive placement speeds its layer up {' and '.join(speeds)} times."
    )
    return {"claim": claim, "numbers": {"fits": tables[PUBLISHED], "search": tables[SEARCH]}}


def write_published(out: Path, tables: dict[str, list[dict]], digests: dict[str, str]) -> None:
    """Write the tables and their sentence."""
    write_tables(out, tables, digests)
    write_claims(out, {"placement": published_claim(tables)})


def shown_published(tables: dict[str, list[dict]]) -> list[pd.DataFrame]:
    """Return the fits and the speed-ups as texts."""
    return [pd.DataFrame(tables[name]).map(shown) for name in (PUBLISHED, SEARCH)]


def shown(value: object) -> str:
    """Return a cell as text, empty for NaN."""
    if isinstance(value, float):
        return "" if np.isnan(value) else f"{value:.4g}"
    return str(value)
