"""The sentence of `skew`: what power laws and a trace cost in served layers, and how far off the models are."""

from __future__ import annotations

import pandas as pd

from moe_replay.traces.served_layers.served_times import BALANCED


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
