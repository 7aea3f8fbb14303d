"""The table `skew`: what served layers take with equal, skewed and recorded selections, beside the cluster model."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pandas as pd

from moe_replay.analysis.reading.inputs import Inputs
from moe_replay.analysis.reading.log_sets import LogSet
from moe_replay.analysis.written_tables import hole_row, holes, write_claims, write_tables
from moe_replay.traces.command_line.files import sha256_of
from moe_replay.traces.errors import InputError
from moe_replay.traces.served_layers.served_times import BALANCED, load_served
from moe_replay.traces.shipped import SERVED_TIMES

NAME = "skew"
MAKES = "python -m simulate skew SERVED --out TABLE.csv"
NEEDED = (
    "served", "step_tokens", "devices", "spread", "trace", "layer_us", "over_balanced", "rule_error_percent", "dtype",
    "experts_dtype",
)  # fmt: skip


def build_skew(inputs: Inputs, out: Path) -> list[str]:
    """Write the table and its claim, where any set holds served layers: a device without them lacks nothing."""
    rows = [row for log_set in inputs.sets for row in set_rows(inputs, log_set)]
    if not rows:
        print(f"{NAME}: no set holds MODEL{SERVED_TIMES}, so there is no such table")
        return []
    table = write_tables(out, {NAME: rows}, inputs.within(NAME))[NAME]
    write_claims(out, {NAME: skew_claim(table)})
    return holes(table)


def set_rows(inputs: Inputs, log_set: LogSet) -> list[dict]:
    """Return the rows of one set: those of every served layer, or a hole for it."""
    rows: list[dict] = []
    for path in sorted(log_set.folder.glob(f"*{SERVED_TIMES}")):
        name = path.name.removesuffix(SERVED_TIMES)
        found, reason = inputs.read(log_set, path.name, load_served)
        table = None
        if found is not None:
            read = partial(read_skew, name=path.name, digest=sha256_of(path))
            table, reason = inputs.read_simulated(log_set, f"{NAME}/{name}.csv", read)
        if table is None:
            rows.append({**hole_row(log_set.name, None, reason), "served": name})
        else:
            rows += [{"set": log_set.name, **row, "status": "ok", "reason": ""} for row in table.to_dict("records")]
    return rows


def read_skew(path: Path, name: str, digest: str) -> pd.DataFrame:
    """Return the rows of a table; InputError where it is none of `simulate skew`, or of another served layer."""
    try:
        table = pd.read_csv(path, keep_default_na=False, na_values=[""])
        told = json.loads(path.with_suffix(".json").read_text())["inputs"].get(name)
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        why = getattr(error, "strerror", None) or "is no table about skew"
        raise InputError(f"{path}: {why}; allowed: what `{MAKES}` writes, with its TABLE.json") from None
    if lacking := [each for each in NEEDED if each not in table]:
        raise InputError(f"{path}: lacks column {lacking[0]}; allowed: what `{MAKES}` writes")
    if told != digest:
        raise InputError(f"{path}: is of another {name} than the one here")
    return table


def skew_claim(rows: pd.DataFrame) -> dict:
    """Return the sentence and its numbers, from the rows alone."""
    fine = rows[rows["status"] == "ok"] if "layer_us" in rows else rows.iloc[:0]
    if fine.empty:
        return {"claim": "No served layer could be timed.", "numbers": {}}
    found = {served: layer_numbers(own) for served, own in fine.groupby("served", sort=False)}
    said = " ".join(layer_words(served, each) for served, each in found.items())
    return {"claim": said, "numbers": found}


def layer_numbers(rows: pd.DataFrame) -> dict:
    """Return what skew costs on the most devices, what a trace's does, and how far off the models are.

    `off_percent` is of the rule on measured power laws, all cells; `trace_off_percent` where the trace is told, which
    is at its dearest. `experts_over` and `roofline_over` are of balanced steps on one device, the least and the most.
    """
    on_most = rows[rows["devices"] == rows["devices"].max()]
    laws = on_most[~on_most["spread"].isin([BALANCED]) & on_most["trace"].isna()]
    traces = rows[rows["trace"].notna()]
    dearest = traces.loc[traces["over_balanced"].idxmax()] if len(traces) else None
    skewed = rows[(rows["spread"] != BALANCED) & rows["rule_error_percent"].notna()]
    plain = rows[(rows["spread"] == BALANCED) & (rows["devices"] == rows["devices"].min())]
    found = {
        "devices": int(on_most["devices"].iloc[0]), "laws": spanned(laws["over_balanced"]),
        "off_percent": float(skewed["rule_error_percent"].abs().median()),
        "off_most_percent": float(skewed["rule_error_percent"].abs().max()),
        "dtype": rows["dtype"].iloc[0], "experts_dtype": rows["experts_dtype"].iloc[0],
        "experts_over": over(plain, "experts_us"), "roofline_over": over(plain, "roofline_us"), "trace": None,
    }  # fmt: skip
    if dearest is not None:
        at = ["devices", "step_tokens"]
        there = skewed[(skewed[at] == dearest[at].to_numpy()).all(axis=1)]
        found |= {
            "trace": dearest["trace"], "trace_over": dearest["over_balanced"], "trace_tokens": dearest["step_tokens"],
            "trace_devices": dearest["devices"], "trace_off_percent": there["rule_error_percent"].abs().max(),
            "traces": spanned(traces[traces["devices"] == found["devices"]]["over_balanced"]),
        }  # fmt: skip
    return found


def spanned(values: pd.Series) -> list[float]:
    """Return the least and the most."""
    return [float(values.min()), float(values.max())]


def over(rows: pd.DataFrame, name: str) -> list[float] | None:
    """Return the least and the most of a model's time over the measured one, None where it was not asked for."""
    ratio = (rows[name] / rows["layer_us"]).dropna() if name in rows else rows.iloc[:0]["layer_us"]
    return spanned(ratio) if len(ratio) else None


def layer_words(served: str, found: dict) -> str:
    """Return the sentence about one served layer."""
    words = f"{served}: on {found['devices']} devices power laws make a layer {times(found['laws'])} times as long"
    if found["trace"] is not None:
        there = f"{found['trace_tokens']:,.0f} tokens on {found['trace_devices']:.0f} devices"
        words += (
            f", selections of a language model with as many experts and this k {times(found['traces'])} times, "
            f"by a rule (at the dearest, {there}, it is {found['trace_off_percent']:.0f} % off on power laws)"
        )
    words += f". The rule is {found['off_percent']:.0f} % off in the median, {found['off_most_percent']:.0f} at most."
    if found["experts_over"]:
        types = f"{found['experts_dtype']} beside {found['dtype']}"
        words += (
            f" Cluster model, experts one after another, on one device: {times(found['experts_over'])} times ({types})."
        )
    if found["roofline_over"]:
        words += f" Roofline: {times(found['roofline_over'])} times."
    return words


def times(values: list[float]) -> str:
    """Return `1.20 to 1.27`."""
    low, high = (f"{value:.2f}" for value in values)
    return low if low == high else f"{low} to {high}"
