"""Is it worth placing experts anew while a model trains? Balance and migration of rules, over iterations and layers.

`placement`: a row per load trace and placement: rules that plan every so many points, placements that never change, and
those of the future. `placement_iterations` and `placement_layers` compare the contiguous placement with the rule that
plans most often: at every iteration (mean over layers), and in every layer (mean over iterations).
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pandas as pd

from moe_replay.analysis.reading.inputs import Inputs
from moe_replay.analysis.reading.log_sets import TRAINING, LogSet
from moe_replay.analysis.reading.rebalanced_loads import REBALANCED, read_rebalanced
from moe_replay.analysis.written_tables import hole_row, holes, write_claims, write_tables
from moe_replay.traces.load_trace import LoadTrace, read_loads

NAME, ITERATIONS, LAYERS = "placement", "placement_iterations", "placement_layers"
ENDING = ".loads.parquet"
KEPT = (
    "placement", "planner", "plan_interval", "plan_window", "adopt_threshold", "devices", "redundant", "known",
    "points", "device_max_over_mean", "device_max_over_mean_worst", "adoptions_per_layer", "copies_per_layer",
    "copies_per_adoption", "bytes_per_rebalance",
)  # fmt: skip
PER = 1000  # iterations, over which copies are counted


def build_placement(inputs: Inputs, out: Path) -> list[str]:
    """Write the tables and the claim, from the placements over time of every set's loads over training."""
    tables: dict[str, list[dict]] = {NAME: [], ITERATIONS: [], LAYERS: []}
    for log_set in inputs.sets:
        for path in sorted((log_set.folder / TRAINING).glob(f"*{ENDING}")):
            add_loads(inputs, log_set, path.name.removesuffix(ENDING), tables)
    if not tables[NAME]:
        tables[NAME].append(hole_row("all sets", None, f"no set holds loads in {TRAINING}/"))
    digests = inputs.used_ending((ENDING,)) | inputs.within(REBALANCED)
    table = write_tables(out, tables, digests)[NAME]
    write_claims(out, {NAME: placement_claim(table)})
    return holes(table)


def add_loads(inputs: Inputs, log_set: LogSet, name: str, tables: dict[str, list[dict]]) -> None:
    """Add the rows of one load trace of a set, or a hole: what could not be read, or was not replayed."""
    loads, reason = inputs.read(log_set, f"{TRAINING}/{name}{ENDING}", read_loads)
    found = None
    if loads is not None:
        read = partial(read_rebalanced, digest=loads.digest)
        found, reason = inputs.read_simulated(log_set, f"{REBALANCED}/{name}.csv", read)
    if found is None:
        tables[NAME].append({**hole_row(log_set.name, None, reason), "trace": name})
        return
    what = {"set": log_set.name, "trace": name, "status": "ok", "reason": "", **told(loads)}
    table, timed = found
    table = table.reindex(columns=KEPT)
    per_point = what["iterations_per_point"] or 1
    table["iterations"] = table["plan_interval"] * per_point
    table["copies_per_1000_iterations"] = table["copies_per_layer"] / (table["points"] * per_point) * PER
    tables[NAME] += [what | row for row in table.to_dict("records")]
    often = timed.loc[timed["plan_interval"] > 0, "plan_interval"].min()
    least = timed["adopt_threshold"].min()
    kept = timed[timed["plan_interval"].isin([0, often]) & (timed["adopt_threshold"] == least)]
    for place, along in ((ITERATIONS, "iteration"), (LAYERS, "layer")):
        means = kept.groupby(["plan_interval", along], as_index=False)["device_max_over_mean"].mean()
        tables[place] += [what | row for row in means.to_dict("records")]


def told(loads: LoadTrace) -> dict:
    """Return what a load trace tells of its model: name, weight of the balance loss, iterations between points."""
    config = loads.notes.get("config", {})
    steps = loads.iteration_S[1:] - loads.iteration_S[:-1]
    return {
        "model": loads.model.name, "balance_loss": config.get("w_balance") if isinstance(config, dict) else None,
        "iterations_per_point": int(steps.min()) if len(steps) else None,
    }  # fmt: skip


def placement_claim(rows: pd.DataFrame) -> dict:
    """Return the sentence: what placing anew gains where loads are uneven, and what it gains where they are not."""
    fine = rows[rows["status"] == "ok"] if "device_max_over_mean" in rows else rows.iloc[:0]
    if fine.empty:
        return {"claim": "No loads over training could be replayed.", "numbers": {}}
    sentences, numbers = [], {}
    for (name, trace), own in fine.groupby(["set", "trace"], sort=False):
        found = summary(own)
        loss = found["balance_loss"]
        trained = "" if loss is None else " without its balance loss" if loss == 0 else " with its balance loss"
        sentences.append(
            f"{name}, {found['model']} trained{trained}: the heaviest of {found['devices']} devices has "
            f"{found['contiguous']:.2f} times the mean load with experts in order, {found['often']:.2f} where they are "
            f"placed anew every {found['often_iterations']} iterations ({found['often_copies']:,.0f} experts moved per "
            f"layer), {found['seldom']:.2f} every {found['seldom_iterations']} ({found['seldom_copies']:,.0f} moved); "
            f"no placement of whole experts is below {found['bound']:.2f}."
        )
        numbers[f"{name} {trace}"] = found
    return {"claim": " ".join(sentences), "numbers": numbers}


def summary(own: pd.DataFrame) -> dict:
    """Return the numbers of one load trace: balance and copies of the rules that plan most often and least often."""
    static = own.set_index("placement")["device_max_over_mean"]
    rules = own[(own["placement"] == "rebalanced") & (own["plan_interval"] > 0)]
    rules = rules[rules["adopt_threshold"] == rules["adopt_threshold"].min()].sort_values("plan_interval")
    often, seldom, first = rules.iloc[0], rules.iloc[-1], own.iloc[0]
    per_point = first["iterations_per_point"] or 1
    return {
        "model": first["model"], "balance_loss": first["balance_loss"], "devices": int(first["devices"]),
        "contiguous": static["contiguous"], "bound": static["bound"],
        **{
            f"{name}{of}": value for name, row in (("often", often), ("seldom", seldom))
            for of, value in (
                ("", row["device_max_over_mean"]), ("_copies", row["copies_per_layer"]),
                ("_iterations", int(row["plan_interval"] * per_point)),
            )
        },
    }  # fmt: skip
