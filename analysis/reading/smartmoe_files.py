"""SmartMoE's published points, from a folder that the user has: its load logs and its measured milliseconds.

    FOLDER/moe_trace/            table_iter<I>_rank<R>.log: loads of 24 layers over training, of 16 ranks
    FOLDER/measured_ms.json      times of figure 11 (iterations 101, 201, ..., 4901, every layer) and of figure 13
    FOLDER/fig13_layer6.npz      work_SE, plan_SE: loads that ran, and those that the rule planned from (figure 13)

None of it belongs to this project (artifact thu-pacman/SmartMoE-AE, GPL-3.0), and none of it is shipped.
"""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from moe_replay.traces.errors import InputError
from moe_replay.traces.importers.importer_names import import_files
from moe_replay.traces.importers.reading.import_source import Options

LOGS, MEASURED, LAYER = "moe_trace", "measured_ms.json", "fig13_layer6.npz"
ITERATIONS = range(101, 4902, 100)  # of figure 11


@dataclass(frozen=True, eq=False)
class LayerTimes:
    """Figure 11 of one setting: `load_XRME` (X = iterations x layers), and measured and estimated ms of each."""

    setting: str
    devices: int
    micro_batch: int
    iteration_X: np.ndarray
    layer_X: np.ndarray
    load_XRME: np.ndarray
    measured_X: np.ndarray
    estimate_X: np.ndarray


@dataclass(frozen=True, eq=False)
class SearchTimes:
    """Figure 13 of one setting: ms of every point with the static and with the adaptive placement."""

    setting: str
    every_points: int
    changes: int
    static_S: np.ndarray
    adaptive_S: np.ndarray


@dataclass(frozen=True, eq=False)
class Published:
    """All published points. `work_SE` runs in figure 13, `plan_SE` is what its rule plans from."""

    layers: tuple[LayerTimes, ...]
    searches: tuple[SearchTimes, ...]
    work_SE: np.ndarray
    plan_SE: np.ndarray


def read_published(folder: Path) -> Published:
    """Return the published points in a folder; InputError for what is missing or is no such file."""
    for name in (LOGS, MEASURED, LAYER):
        if not (folder / name).exists():
            raise InputError(f"{folder / name}: no such file; needed: {LOGS}, {MEASURED} and {LAYER} in {folder}")
    loads = import_files("smartmoe", [folder / LOGS], Options())
    at_S = np.searchsorted(loads.iteration_S, ITERATIONS).clip(max=len(loads.iteration_S) - 1)
    if (loads.iteration_S[at_S] != ITERATIONS).any():
        raise InputError(
            f"{folder / LOGS}: lacks iterations of figure 11, needed: {ITERATIONS[0]}, {ITERATIONS[1]}, ..."
        )
    work_SE, plan_SE = read_layer(folder / LAYER)
    try:
        measured = json.loads((folder / MEASURED).read_text())
        layers = [
            layer_times(name, each, loads.load_SRMLE[at_S])
            for name, each in sorted(measured["fig11"].items(), key=order_of)
        ]
        searches = [search_times(name, each, len(work_SE)) for name, each in sorted(measured["fig13"].items())]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{folder / MEASURED}: no table of measured times ({error!r:.80})") from None
    return Published(tuple(layers), tuple(searches), work_SE, plan_SE)


def order_of(item: tuple[str, dict]) -> list[int]:
    """Return what settings `GPUS-MICROBATCH` are sorted by; ValueError for another name."""
    return [int(word) for word in item[0].split("-")]


def layer_times(setting: str, found: dict, load_SRMLE: np.ndarray) -> LayerTimes:
    """Return figure 11 of a setting `GPUS-MICROBATCH`; ValueError where times and loads are not equally many."""
    devices, micro_batch = (int(word) for word in setting.split("-"))
    points, ranks, _, layers, experts = load_SRMLE.shape
    if not 1 <= devices <= ranks or experts % devices:
        raise ValueError(f"fig11 {setting}: {devices} devices, allowed those that divide {experts}, up to {ranks}")
    measured_X, estimate_X = (np.array(found[name], np.float64) for name in ("real_ms", "estimate_ms"))
    if measured_X.shape != (points * layers,) or estimate_X.shape != measured_X.shape or measured_X.min() <= 0:
        raise ValueError(f"fig11 {setting}: {measured_X.size} times, allowed {points * layers} above 0")
    load_SLRME = load_SRMLE[:, :devices].transpose(0, 3, 1, 2, 4)
    return LayerTimes(
        setting, devices, micro_batch, np.repeat(ITERATIONS, layers), np.tile(np.arange(layers), points),
        load_SLRME.reshape(points * layers, devices, -1, experts), measured_X, estimate_X,
    )  # fmt: skip


def search_times(setting: str, found: dict, points: int) -> SearchTimes:
    """Return figure 13 of a setting; ValueError where times and loads are not equally many."""
    static_S, adaptive_S = (np.array(found[f"{name}_ms"], np.float64) for name in ("fastmoe", "smartmoe"))
    if static_S.shape != (points,) or adaptive_S.shape != (points,) or min(static_S.min(), adaptive_S.min()) <= 0:
        raise ValueError(f"fig13 {setting}: {static_S.size} times, allowed {points} above 0")
    return SearchTimes(setting, found["every_iterations"] // 10, int(found["changes"]), static_S, adaptive_S)


def read_layer(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return (work_SE, plan_SE), int64; InputError for another file."""
    try:
        with np.load(path, allow_pickle=False) as found:
            work_SE, plan_SE = (found[name].astype(np.int64) for name in ("work_SE", "plan_SE"))
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: no arrays work_SE and plan_SE ({error!s:.60})") from None
    if work_SE.ndim != 2 or work_SE.shape != plan_SE.shape or min(work_SE.min(), plan_SE.min()) < 0:
        raise InputError(f"{path}: work_SE and plan_SE are {work_SE.shape} and {plan_SE.shape}, allowed equal [S, E]")
    return work_SE, plan_SE
