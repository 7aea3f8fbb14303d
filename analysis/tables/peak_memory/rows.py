"""What orders of training iterations need: measured, as predicted, above the bound no order gets below, beside eager.

All bytes are above those of parameters, optimizer state and batch.
"""

from pathlib import Path

import pandas as pd

from moe_replay.analysis.reading.csv_logs import read_csv_log, refuse_outside
from moe_replay.traces.errors import InputError

EAGER, CAPTURED, BEST = "eager", "captured", "best"
STEP = ["graph", "model", "batch_size", "checkpoint", "optimizer", "dispatch", "separate_experts", "operations"]
EXACT = 1e-3  # how far a measured peak may be from its prediction
BYTES = (1, 1e15)
ORDERED = dict.fromkeys((*STEP, "step_order", "interleaved", "by", "search_s", "same_bits", "predicted_bytes",
                         "counted_bytes", "lower_bound_bytes")) | {
    "batch_size": (1, 1e12), "operations": (1, 1e12), "allocated_bytes": BYTES,
}  # fmt: skip
COMPILED_KEY = ["graph", "model", "layers", "experts", "batch_size", "checkpoint"]
COMPILED = dict.fromkeys((*COMPILED_KEY, "way", "status", "reason")) | {"batch_size": (1, 1e12), "rounds": (1, 1e9)}
MEASURED = {"step_peak_bytes": BYTES, "step_ms": (0, 1e9), "processor_ms": (0, 1e9)}


def read_orders(path: Path) -> pd.DataFrame:
    """Return the orders of one iteration; InputError names a missing column, a bad value or an order that is absent."""
    table = read_csv_log(path, ORDERED)
    for name in (EAGER, CAPTURED, BEST):
        if (table["step_order"] == name).sum() < 1:
            raise InputError(f"{path}: no row of order {name!r}; needed: {EAGER}, {CAPTURED}, {BEST}")
    repeated = table.duplicated(["step_order", "interleaved"])
    if repeated.any():
        raise InputError(f"{path}: row {int(repeated.to_numpy().argmax())} repeats the order of an earlier one")
    return table


def order_rows(table: pd.DataFrame) -> pd.DataFrame:
    """Return one row per order of an iteration.

    The bound is the best that any search of the same freedom proved: of all orders with the optimizer interleaved, and
    of the others for a search in which it waited. `as_predicted`: the measured peak is within 0.1 % of the predicted.
    """
    rows = table.rename(columns={"allocated_bytes": "step_peak_bytes"})
    free = rows["interleaved"].astype(bool) | rows["step_order"].isin([EAGER, CAPTURED])
    rows["lower_bound_bytes"] = rows["lower_bound_bytes"].where(
        ~free, rows.loc[free, "lower_bound_bytes"].max()
    )  # fmt: skip
    eager = rows.loc[rows["step_order"] == EAGER, "step_peak_bytes"].iloc[0]
    captured = rows.loc[rows["step_order"] == CAPTURED, "step_peak_bytes"].iloc[0]
    rows["over_bound_percent"] = 100 * (rows["step_peak_bytes"] / rows["lower_bound_bytes"] - 1)
    rows["over_eager_percent"] = 100 * (rows["step_peak_bytes"] / eager - 1)
    rows["over_captured_percent"] = 100 * (rows["step_peak_bytes"] / captured - 1)
    rows["proved"] = rows["predicted_bytes"] == rows["lower_bound_bytes"]
    off = (rows["step_peak_bytes"] - rows["predicted_bytes"]).abs()
    rows["as_predicted"] = (off <= EXACT * rows["predicted_bytes"]) | (rows["step_order"] == EAGER)
    texts = {"by": rows["by"].astype(object).fillna("")}  # empty of eager, and then no text to pandas
    kept = [*STEP, "step_order", "interleaved", "step_peak_bytes", "predicted_bytes", "counted_bytes",
            "lower_bound_bytes",
            "over_bound_percent", "over_eager_percent", "over_captured_percent", "proved", "as_predicted",
            "same_bits", "by", "search_s"]  # fmt: skip
    return in_front(rows.assign(**texts)[kept].assign(status="ok", reason=""))


def read_compiled(path: Path) -> pd.DataFrame:
    """Return one compiled iteration; InputError names a missing column, a bad value or a missing eager.

    A way that refused a model keeps its row, with a reason and without measured values.
    """
    table = read_csv_log(path, COMPILED | dict.fromkeys(MEASURED))
    skipped = table["status"] == "skipped"
    for name, allowed in MEASURED.items():  # of what was skipped there is nothing to check
        refuse_outside(path, table.assign(**{name: table[name].mask(skipped, 1.0)}), name, *allowed)
    if (table["way"] == EAGER).sum() != 1:
        raise InputError(f"{path}: {(table['way'] == EAGER).sum()} rows of way {EAGER!r}, allowed 1")
    return table


def compiled_rows(table: pd.DataFrame) -> pd.DataFrame:
    """Return one row per way of running an iteration, beside eager."""
    eager, rows = table[table["way"] == EAGER].iloc[0], table.copy()
    rows["over_eager_percent"] = 100 * (rows["step_peak_bytes"] / eager["step_peak_bytes"] - 1)
    rows["time_over_eager"] = rows["step_ms"] / eager["step_ms"]
    rows["reason"] = rows["reason"].astype(object).fillna("")
    kept = [*COMPILED_KEY, "way", *MEASURED, "rounds", "over_eager_percent", "time_over_eager", "status", "reason"]
    return in_front(rows[kept])


def in_front(rows: pd.DataFrame) -> pd.DataFrame:
    """Return rows with the column `set` in front, which the caller fills."""
    return rows[["set", *rows.columns.drop("set")]] if "set" in rows else rows.assign(set="").pipe(in_front)
