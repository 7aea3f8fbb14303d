"""The table `layer_costs`: what experts of published shapes take on a device, by the ways in which they were timed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from moe_replay.analysis.reading.inputs import Inputs
from moe_replay.analysis.reading.log_sets import LAYER_COSTS, LAYER_TIMES, LogSet
from moe_replay.analysis.written_tables import hole_row, holes, write_claims, write_tables
from moe_replay.traces.file.mixed_table import load_mixed
from moe_replay.traces.runs.cost_table import CostTable, load_costs
from moe_replay.traces.runs.layer_times import ALL_EXPERTS, EVENT, GROUPED, KIND, LOOPED, WALL

NAME = "layer_costs"
LOOP = "loop"  # the form of a cost table: in the executor's loop
MATRICES = 3  # of a gated expert: gate, up, down


def build_layer_costs(inputs: Inputs, out: Path) -> list[str]:
    """Write the table and its claim, where any set holds such logs: a device without them lacks nothing."""
    rows = [row for log_set in inputs.sets for row in set_rows(inputs, log_set)]
    if not rows:
        print(f"{NAME}: no set holds SHAPE{LAYER_TIMES}, so there is no such table")
        return []
    table = write_tables(out, {NAME: rows}, inputs.used_ending((LAYER_COSTS, LAYER_TIMES)))[NAME]
    write_claims(out, {NAME: layer_claim(table)})
    return holes(table)


def set_rows(inputs: Inputs, log_set: LogSet) -> list[dict]:
    """Return the rows of one set, all shapes in order of their names."""
    rows: list[dict] = []
    for shape in log_set.shapes:
        costs, reason = inputs.read(log_set, f"{shape}{LAYER_COSTS}", load_costs)
        times, other = inputs.read(log_set, f"{shape}{LAYER_TIMES}", lambda path: load_mixed(path, KIND))
        if costs is None or times is None:
            rows.append(hole_row(log_set.name, None, reason or other))
            continue
        rows += [{"set": log_set.name, **row, "status": "ok", "reason": ""} for row in shape_rows(costs, *times)]
    return rows


def shape_rows(costs: CostTable, times: object, header: dict) -> list[dict]:
    """Return a row per form and number of tokens per expert, from a shape's cost table and its times.

    The time of a step of all experts counts as that of each, divided by their number.
    """
    model, rows = header["model"], []
    table = times.to_pandas()
    table["ns"] = table["took_ns"] / np.where(table["expert"] == ALL_EXPERTS, model["experts"], 1)
    measured = {LOOP: costs.repetitions(0, 1)}
    for form, own in table.groupby("form", sort=False):
        measured[form] = {tokens: each["ns"].to_numpy() for tokens, each in own.groupby("tokens")}
    weights = MATRICES * model["width"] * model["hidden"]
    for form in (LOOP, WALL, EVENT, LOOPED, GROUPED):
        if form in measured:
            rows += form_rows(form, measured[form], weights, header["expert_bytes"] / weights, model)
    return rows


def form_rows(form: str, ns: dict[int, np.ndarray], weights: int, bytes_each: float, model: dict) -> list[dict]:
    """Return the rows of one form from {tokens: ns}, an expert having so many weights of so many bytes."""
    medians = {tokens: float(np.median(each)) for tokens, each in sorted(ns.items())}
    break_even = break_even_tokens(medians)
    sizes, token_us = np.array(list(medians)), np.array([ns / 1e3 / tokens for tokens, ns in medians.items()])
    # Between two measured sizes, as the figure's logarithmic axes draw the curve.
    break_even_us = float(np.exp(np.interp(np.log(break_even), np.log(sizes), np.log(token_us))))
    about = {"shape": model["name"], "form": form}
    about |= {name: model[name] for name in ("experts", "k", "width", "hidden", "dtype")}
    rows = []
    for tokens, median_ns in medians.items():
        low, high = np.quantile(ns[tokens], (0.25, 0.75))
        rows.append(about | {
            "tokens": tokens, "times": len(ns[tokens]), "expert_us": median_ns / 1e3,
            "lower_quartile_us": low / 1e3, "upper_quartile_us": high / 1e3, "token_us": median_ns / 1e3 / tokens,
            "teraflops": 2 * weights * tokens / median_ns / 1e3,
            "weights_gigabytes_per_s": weights * bytes_each / median_ns, "break_even_tokens": break_even,
            "break_even_token_us": break_even_us,
        })  # fmt: skip
    return rows


def break_even_tokens(median_ns: dict[int, float]) -> float:
    """Return where two laws meet: the time of the smallest batch, and the least time per token times the tokens.

    Below it a batch pays for its weights and launches, whatever its size; above it for its tokens. The true curve bends
    around it.
    """
    least_per_token = min(ns / tokens for tokens, ns in median_ns.items())
    return median_ns[min(median_ns)] / least_per_token


def layer_claim(table: pd.DataFrame) -> dict:
    """Return the sentence and the numbers of the figure."""
    fine = table[table["status"] == "ok"] if "form" in table else table.iloc[:0]
    sentences, numbers = [], {}
    for name, rows in fine.groupby("set", sort=False):
        numbers[name] = {shape: shape_numbers(own) for shape, own in rows.groupby("shape", sort=False)}
        sentences.append(f"{name}: " + ", ".join(said(shape, each) for shape, each in numbers[name].items()) + ".")
    question = "What does an expert's batch cost at the layer shapes of published models? Alone on the device, "
    claim = question + " ".join(sentences) if sentences else "No layer shape was measured."
    return {"claim": claim, "numbers": numbers}


def said(shape: str, numbers: dict) -> str:
    """Return a shape's numbers in words."""
    words = (
        f"{shape} takes {numbers['first_us']:.3g} us for a batch of {numbers['first_tokens']}"
        f" ({numbers['first_gigabytes_per_s']:.3g} GB/s of weights), breaks even at"
        f" {numbers['break_even_tokens']:.0f} tokens and reaches {numbers['most_teraflops']:.3g} TFLOP/s"
    )
    if "looped_over_grouped" not in numbers:
        return words
    return (
        f"{words} (a step of all experts, one after another over grouped: {numbers['looped_over_grouped']:.2g} times)"
    )


def shape_numbers(rows: pd.DataFrame) -> dict:
    """Return what is said of a shape: of experts alone by events, or else by the wall clock; loop and steps beside."""
    by_form = {form: own.sort_values("tokens") for form, own in rows.groupby("form")}
    alone = by_form[EVENT if EVENT in by_form else WALL]
    first = alone.iloc[0]
    numbers = {
        "first_tokens": int(first["tokens"]), "first_us": first["expert_us"],
        "first_gigabytes_per_s": first["weights_gigabytes_per_s"], "break_even_tokens": first["break_even_tokens"],
        "most_teraflops": alone["teraflops"].max(), "loop_first_us": by_form[LOOP]["expert_us"].iloc[0],
    }  # fmt: skip
    if GROUPED in by_form and LOOPED in by_form:
        both = by_form[LOOPED].merge(by_form[GROUPED], on="tokens", suffixes=("", "_grouped"))
        ratio = both["expert_us"] / both["expert_us_grouped"]
        numbers |= {"looped_over_grouped": float(ratio.iloc[0]), "looped_over_grouped_last": float(ratio.iloc[-1])}
    return numbers
