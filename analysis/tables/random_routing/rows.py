"""Dense, switch and randomly routed vision transformers: accuracy, size, time.

Accuracy is the highest of any epoch on the test images, as the earlier work reports it, with the final one beside it.
Few seeds are no interval: the spread over seeds is given as least and most. Times are of `TIMED_IMAGES` images,
measured with the configurations interleaved, so that a ratio to the dense model is formed within a repetition; its
interval is Student's t over repetitions.
"""

import numpy as np
import pandas as pd

from moe_replay.analysis.estimates.intervals import mean_interval
from moe_replay.analysis.reading.csv_logs import read_csv_log

TIMED_IMAGES = 60_000
KEY = ["variant", "experts", "consistency"]
DENSE = ("dense", 1, 0)
NOT_REACHED = "not reached"
KEY_COLUMNS = {"variant": None, "experts": (1, 1e6), "consistency": (0, 1)}
RESULT_COLUMNS = KEY_COLUMNS | {
    "seed": (0, 1e9), "epochs": (1, 1e6), "trained_parameters": (1, 1e13), "deployed_parameters": (1, 1e13),
    "best_accuracy_percent": (0, 100), "best_epoch": (1, 1e6), "final_accuracy_percent": (0, 100),
    "threshold_percent": (0, 100), "first_epoch_over": None,
}  # fmt: skip
EPOCH_COLUMNS = KEY_COLUMNS | {"seed": (0, 1e9), "epoch": (1, 1e6), "loss": (0, 1e9), "test_accuracy": (0, 1)}
TIME_COLUMNS = KEY_COLUMNS | {"repetition": (1, 1e6), "what": None, "images": (1, 1e12), "seconds": (1e-9, 1e9)}


def read_results(path: str) -> pd.DataFrame:
    """Return `vision.csv`, a row per trained model."""
    return read_csv_log(path, RESULT_COLUMNS)


def read_epochs(path: str) -> pd.DataFrame:
    """Return `vision_epochs.csv`, a row per model and epoch."""
    return read_csv_log(path, EPOCH_COLUMNS)


def read_times(path: str) -> pd.DataFrame:
    """Return `vision_times.csv`, a row per configuration, repetition and kind."""
    return read_csv_log(path, TIME_COLUMNS)


def label(variant: str, experts: int, consistency: int) -> str:
    """Return what figures and sentences call a configuration."""
    if variant == "dense":
        return "dense"
    names = {"random": "random routing", "random-per-token": "random routing per token"}
    return f"{names.get(variant, variant)}, {experts:.0f} experts{', consistency loss' if consistency else ''}"


def order(key: tuple[str, int, int]) -> tuple:
    """Sort dense first, then switch, then random routing, each by its experts."""
    variant, experts, consistency = key
    return (variant != "dense", variant != "switch", variant, consistency, experts)


def result_rows(name: str, results: pd.DataFrame, times: pd.DataFrame | None) -> list[dict]:
    """Return one row per configuration: sizes, accuracy over seeds, difference to dense, times and their ratios."""
    groups = {key: rows.set_index("seed").sort_index() for key, rows in results.groupby(KEY)}
    seeds = results["seed"].nunique()
    dense = groups.get(DENSE)
    made = []
    for key in sorted(groups, key=order):
        lacking = seeds - len(groups[key])
        made.append({
            "set": name, "label": label(*key), **dict(zip(KEY, key, strict=True)),
            **accuracy_columns(groups[key], dense), **time_columns(times, key),
            "status": "incomplete" if lacking else "ok", "reason": f"{lacking} seeds are missing" if lacking else "",
        })  # fmt: skip
    return made


def accuracy_columns(rows: pd.DataFrame, dense: pd.DataFrame | None) -> dict:
    """Return sizes and accuracies of one configuration, seed by seed against dense where there is one."""
    best, first = rows["best_accuracy_percent"], rows.iloc[0]
    gain = (best - dense["best_accuracy_percent"]).dropna() if dense is not None else pd.Series(dtype=float)
    return {
        "seeds": len(rows), "epochs": int(first["epochs"]),
        "trained_parameters": int(first["trained_parameters"]),
        "deployed_parameters": int(first["deployed_parameters"]),
        **spread("accuracy_percent", best), "final_accuracy_percent": rows["final_accuracy_percent"].mean(),
        **spread("over_dense_points", gain),
        "best_epochs": listed(rows["best_epoch"]), "threshold_percent": first["threshold_percent"],
        "first_epochs_over": listed(rows["first_epoch_over"]),
    }  # fmt: skip


def spread(name: str, values: pd.Series) -> dict:
    """Return mean, least and most under `name`, `name_min`, `name_max`; NaN for no values."""
    found = values.to_numpy(float)
    if not len(found):
        return dict.fromkeys((name, f"{name}_min", f"{name}_max"), np.nan)
    return {name: found.mean(), f"{name}_min": found.min(), f"{name}_max": found.max()}


def listed(values: pd.Series) -> str:
    """Return values by seed as text: `5; 6`, or `not reached` where none is a number."""
    words = [str(value).removesuffix(".0") for value in values]
    return NOT_REACHED if set(words) == {NOT_REACHED} else "; ".join(words)


def time_columns(times: pd.DataFrame | None, key: tuple[str, int, int]) -> dict:
    """Return seconds for `TIMED_IMAGES` images of training and inference, and their ratios to dense with intervals."""
    columns = {}
    for what in ("training", "inference"):
        own, dense = (seconds(times, each, what) for each in (key, DENSE))
        ratio = mean_interval((own / dense).dropna().to_numpy())
        columns |= spread(f"{what}_s", own) | {
            f"{what}_over_dense": ratio.mean, f"{what}_over_dense_low": ratio.low,
            f"{what}_over_dense_high": ratio.high,
        }  # fmt: skip
    columns["repetitions"] = len(seconds(times, key, "inference"))
    return columns


def seconds(times: pd.DataFrame | None, key: tuple[str, int, int], what: str) -> pd.Series:
    """Return the seconds for `TIMED_IMAGES` images by repetition; scaled up linearly where fewer were measured."""
    if times is None:
        return pd.Series(dtype=float)
    chosen = times[(times[KEY] == list(key)).all(axis=1) & (times["what"] == what)]
    return (chosen["seconds"] * TIMED_IMAGES / chosen["images"]).set_axis(chosen["repetition"])


def epoch_rows(name: str, epochs: pd.DataFrame) -> list[dict]:
    """Return the accuracy of every model after every epoch, in percent, beside the mean over the configuration's seeds.

    Where it is routed at random, also that of drawn experts.
    """
    drawn = pd.to_numeric(epochs["drawn_accuracy"]) if "drawn_accuracy" in epochs else np.nan
    table = epochs.assign(
        set=name, label=[label(*key) for key in epochs[KEY].itertuples(index=False)],
        accuracy_percent=epochs["test_accuracy"] * 100, drawn_accuracy_percent=drawn * 100,
    )  # fmt: skip
    table["mean_accuracy_percent"] = table.groupby([*KEY, "epoch"])["accuracy_percent"].transform("mean")
    accuracies = ["accuracy_percent", "mean_accuracy_percent", "drawn_accuracy_percent"]
    kept = ["set", "label", *KEY, "seed", "epoch", "loss", *accuracies]
    return table[kept].rename(columns={"loss": "training_loss"}).to_dict("records")
