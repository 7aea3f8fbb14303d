"""What static capacity costs beside dynamic dispatch: peak memory, memory per expert, rows computed in vain, time.

Every configuration of static dispatch is set beside dynamic dispatch of the same batch. Waste is rows that experts
computed per row that the gate asked for; theory says E C / k where the capacity is C S (Huang et al. 2023).
"""

from pathlib import Path

import pandas as pd

from moe_replay.analysis.reading.csv_logs import read_csv_log
from moe_replay.traces.errors import InputError

KEY = ["router", "like", "batch", "experts", "k", "width", "hidden"]
MEASURED = [
    "peak_bytes", "current_bytes", "rows", "expert_rows_mean", "expert_rows_max", "expert_current_bytes_mean",
    "expert_current_bytes_max", "expert_peak_bytes_mean", "expert_peak_bytes_max", "median_ms", "lower_quartile_ms",
    "upper_quartile_ms", "predicted_peak_bytes",
]  # fmt: skip
STATIC_ONLY = [
    "convention", "capacity_factor", "slots", "choices", "dropped", "waste_predicted", "weights_bytes", "input_bytes",
    "status", "reason",
]  # fmt: skip
DISPATCHES = ("static", "dynamic", "gathered")
SIZES = dict.fromkeys(("batch", "experts", "k", "width", "hidden", "choices"), (1, 1e12)) | {
    "dropped": (0, 1e12), "weights_bytes": (1, 1e15), "predicted_peak_bytes": (1, 1e15), "waste_predicted": (1e-9, 1e9)
}  # fmt: skip
LIKE_NAMES = {"lm": "language model", "mt": "translation model"}  # of Huang et al.
TRAINED_VIEW = ("CSk/E", 1.2)  # the capacity at which the experts of a trained gate or a layer shape are shown


def read_memory(path: Path) -> pd.DataFrame:
    """Return the memory table of a set; InputError names a missing column, a bad value or a dispatch that is absent.

    What was skipped for want of memory keeps its row, with a reason and without measured values.
    """
    table = read_csv_log(path, {name: SIZES.get(name) for name in (*KEY, "dispatch", *STATIC_ONLY, *MEASURED)})
    for name in DISPATCHES:
        if not (table["dispatch"] == name).any():
            raise InputError(f"{path}: no row of dispatch {name!r}; needed: {', '.join(DISPATCHES)}")
    refuse_repeated(path, table)
    texts = ["like", "convention", "reason"]  # empty in many rows, and then no text to pandas
    return table.assign(**{name: table[name].astype(object).fillna("") for name in texts})


def refuse_repeated(path: Path, table: pd.DataFrame) -> None:
    """Refuse a table that has a configuration twice, with InputError."""
    repeated = table.duplicated([*KEY, "dispatch", "convention", "capacity_factor"])
    if repeated.any():
        raise InputError(f"{path}: row {int(repeated.to_numpy().argmax())} repeats the configuration of an earlier one")


def memory_rows(name: str, table: pd.DataFrame) -> pd.DataFrame:
    """Return one row per configuration of static dispatch, with dynamic and gathered dispatch beside it.

    `*_over_*` are ratios, static's over the other's. `dynamic_at_most_static`: the peak, measured. `as_counted`:
    all three peaks are to the byte what was counted by hand (never so on a GPU, which rounds up).
    """
    joined = of_dispatch(table, "static", STATIC_ONLY).rename(columns={"slots": "capacity_rows"})
    for other in ("dynamic", "gathered"):
        joined = joined.merge(of_dispatch(table, other, []), on=KEY, how="left", validate="many_to_one")
    joined.insert(0, "set", name)
    joined["dropped_percent"] = 100 * joined["dropped"] / joined["choices"]
    joined["waste_measured"] = joined["static_rows"] / joined["choices"]
    joined["waste_of_kept"] = joined["static_rows"] / (joined["choices"] - joined["dropped"])
    for other in ("dynamic", "gathered"):
        joined[f"peak_over_{other}"] = joined["static_peak_bytes"] / joined[f"{other}_peak_bytes"]
        joined[f"time_over_{other}"] = joined["static_median_ms"] / joined[f"{other}_median_ms"]
    joined["dynamic_at_most_static"] = joined["dynamic_peak_bytes"] <= joined["static_peak_bytes"]
    exact = [joined[f"{kind}_peak_bytes"] == joined[f"{kind}_predicted_peak_bytes"] for kind in DISPATCHES]
    joined["as_counted"] = exact[0] & exact[1] & exact[2]
    return joined


def of_dispatch(table: pd.DataFrame, dispatch: str, extra: list[str]) -> pd.DataFrame:
    """Return the rows of one dispatch, its measured columns named after it."""
    rows = table[table["dispatch"] == dispatch]
    return rows[KEY + extra + MEASURED].rename(columns={name: f"{dispatch}_{name}" for name in MEASURED})


def expert_rows(rows: pd.DataFrame) -> list[dict]:
    """Return memory per expert in KiB against the batch, for the published models' ratios and a trained gate.

    Under static dispatch all experts are alike; under dynamic dispatch there is a mean expert and a busiest one.
    """
    made = []
    done = rows[rows["status"] == "ok"]
    trained = done[done["router"].str.startswith("trained")] if len(done) else done
    largest_k = trained["k"].max() if len(trained) else 0
    for row in done.to_dict("records"):
        view = view_of(row, largest_k)
        for dispatch, which, end in (
            ("static", "every expert", "max"), ("dynamic", "mean expert", "mean"), ("dynamic", "busiest expert", "max"),
        ) if view else ():  # fmt: skip
            made.append({
                "set": row["set"], "view": view, "batch": row["batch"], "dispatch": dispatch, "which": which,
                "rows": row[f"{dispatch}_expert_rows_{end}"],
                "current_kib": row[f"{dispatch}_expert_current_bytes_{end}"] / 1024,
                "peak_kib": row[f"{dispatch}_expert_peak_bytes_{end}"] / 1024,
                "dropped_percent": row["dropped_percent"],
            })  # fmt: skip
    return made


def view_of(row: dict, trained_k: int) -> str:
    """Return under which heading a row's experts are shown; nothing for most of the grid.

    A trained gate is shown at `trained_k` experts per token; `like` names a published model's ratios, or a layer shape.
    """
    shape = (
        f"E={row['experts']}, k={row['k']}, capacity {row['convention']}, C={row['capacity_factor']:g}, "
        f"width {row['width']}, hidden {row['hidden']}"
    )
    if row["like"] in LIKE_NAMES:
        return f"as the {LIKE_NAMES[row['like']]} ({row['router']} router): {shape}"
    viewed = (row["convention"], row["capacity_factor"]) == TRAINED_VIEW
    if row["like"]:
        return f"a layer of {row['like']} ({row['router']} router): {shape}" if viewed else ""
    trained = row["router"].startswith("trained") and row["k"] == trained_k and viewed
    return f"{row['router']} gate: {shape}" if trained else ""
