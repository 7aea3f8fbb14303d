"""The sentence of `end_to_end`: when placement cannot help, and when replicas and micro-batches hurt."""

from __future__ import annotations

import pandas as pd

from moe_replay.analysis.reading.setting_words import trace_words

CLUSTER = ["set", "trace", "links", "nodes"]
IN_ORDER, ADAPTIVE = "contiguous", "smartmoe-adaptive"
BY_LOAD = ("lpt", ADAPTIVE)  # what redundant experts are compared with


def end_to_end_claim(rows: pd.DataFrame, published: pd.DataFrame) -> dict:
    """Return the sentence and its numbers, from the rows alone."""
    fine = rows[rows["status"] == "ok"] if "mean_step_ms" in rows else rows.iloc[:0]
    if fine.empty:
        return {"claim": "No steps over linked devices could be timed.", "numbers": {}}
    gains = [gains_of(at, own) for at, own in fine.groupby(CLUSTER, sort=False)]
    hot = [each for each in gains if each["hottest"] > 1 and each["replicas"]]
    speed_ups = published["published_speed_up"]
    said = [
        *([hot_words(max(hot, key=lambda each: each["replicas"] / each["whole"]))] if hot else []),
        change_words("Redundant experts", "replicas", gains),
        change_words("Two micro-batches", "parts", gains),
        f"Published for SmartMoE over FastMoE, which places experts in order: {speed_ups.min():.2f} to "
        f"{speed_ups.max():.2f} times as fast (figures 8 to 10; whole iterations of training on other machines, with "
        f"its choice of parallelism). Its rule here: {rule_words(gains)}.",
        copy_words(fine),
        f"Batches cost what was measured of {' and '.join(dict.fromkeys(fine['step_costs']))}.",
    ]  # fmt: skip
    return {"claim": " ".join(each for each in said if each), "numbers": {each["at"]: each for each in gains}}


def gains_of(at: tuple, own: pd.DataFrame) -> dict:
    """Return the numbers of one trace on one cluster; None where something was not timed.

    `whole` and `replicas` are the best speed-ups with one micro-batch, without and with redundant experts. A change is
    of a step's time, 1 for none: by redundant experts beside planning by the same loads without them, and by a second
    micro-batch with experts in order; `_experts_ms` are the experts' times before and after.
    """
    set_name, trace, links, nodes = at
    plain = own[own["micro_batches"] == own["micro_batches"].min()]
    single, fresh = plain[plain["redundant"] == 0], quickest(plain[plain["redundant"] > 0])
    whole, in_order = quickest(single), quickest(single[single["system"] == IN_ORDER])
    halved = quickest(own[(own["system"] == IN_ORDER) & (own["micro_batches"] == 2)])
    adaptive = quickest(single[single["system"] == ADAPTIVE])
    return {
        "at": f"{trace_words(set_name, trace)}, {int(own['step_tokens'].iloc[0]):,} tokens, {links}, "
        f"{node_words(nodes)}",
        "hottest": plain["hottest_over_device"].iloc[0], "in_order_ms": value(in_order, "mean_step_ms"),
        "whole": speed_up(in_order, whole), "whole_system": value(whole, "system"),
        "whole_ms": value(whole, "mean_step_ms"), "whole_max_over_mean": single["device_max_over_mean"].min(),
        "replicas": speed_up(in_order, fresh), "redundant": value(fresh, "redundant"),
        "replicas_system": value(fresh, "system"), "replicas_ms": value(fresh, "mean_step_ms"),
        "replicas_max_over_mean": value(fresh, "device_max_over_mean"), "smartmoe": speed_up(in_order, adaptive),
        **change("replicas", quickest(single[single["system"].isin(BY_LOAD)]), fresh),
        **change("parts", in_order, halved),
    }  # fmt: skip


def quickest(rows: pd.DataFrame) -> pd.Series | None:
    """Return the row with the shortest step, None where there is none."""
    return rows.loc[rows["mean_step_ms"].idxmin()] if len(rows) else None


def value(row: pd.Series | None, name: str) -> object:
    """Return a value of a row, None where there is no row."""
    return None if row is None else row[name]


def speed_up(before: pd.Series | None, after: pd.Series | None) -> float | None:
    """Return how many times as fast a step became."""
    return None if before is None or after is None else before["mean_step_ms"] / after["mean_step_ms"]


def change(what: str, before: pd.Series | None, after: pd.Series | None) -> dict:
    """Return by what a step's time changed, and the experts' part of it before and after."""
    if before is None or after is None:
        return {f"{what}_change": None, f"{what}_experts_ms": None}
    experts_ms = [before["expert_ms"], after["expert_ms"]]
    return {f"{what}_change": after["mean_step_ms"] / before["mean_step_ms"], f"{what}_experts_ms": experts_ms}


def hot_words(found: dict) -> str:
    """Return what helps where one expert has more than a device's mean load."""
    return (
        f"One hot expert: with {found['hottest']:.2f} times a device's mean load in {found['at']}, no placement of "
        f"whole experts is below that (reached: {found['whole_max_over_mean']:.2f}, {found['whole_system']} "
        f"{found['whole_ms']:.2f} ms a step, {found['in_order_ms']:.2f} in order); "
        f"with {found['redundant']} replicas {found['replicas_system']} comes to "
        f"{found['replicas_max_over_mean']:.2f} and {found['replicas_ms']:.2f} ms."
    )


def change_words(what: str, name: str, gains: list[dict]) -> str:
    """Return where something makes steps longer, and where shorter, with the extremes."""
    change, known = f"{name}_change", [each for each in gains if each[f"{name}_change"] is not None]
    if not known:
        return ""
    most, least = (pick(known, key=lambda each: each[change]) for pick in (max, min))
    before, after = most[f"{name}_experts_ms"]
    return (
        f"{what} make a step longer in {sum(each[change] > 1 for each in known)} of {len(known)} cases, at most "
        f"{most[change]:.2f} times ({most['at']}: experts take {after:.2f} ms of it, not {before:.2f}, since a small "
        f"batch reads as many weights as a large one), at least {least[change]:.2f} times ({least['at']})."
    )


def node_words(nodes: int) -> str:
    """Return `1 node`, `2 nodes`."""
    return f"{nodes} node" if nodes == 1 else f"{nodes} nodes"


def copy_words(rows: pd.DataFrame) -> str:
    """Return what copying experts takes each time that they are placed anew, beside the step itself."""
    moved = rows[(rows["replans"] > 0) & rows["copy_ms"].notna()]
    if moved.empty:
        return ""
    said = [
        f"{row['copy_ms']:.2f} ms ({trace_words(row['set'], row['trace'])}, {row['system']}, {row['links']}, "
        f"{node_words(row['nodes'])}; a step {row['mean_step_ms']:.2f})"
        for row in (moved.loc[moved["copy_ms"].idxmin()], moved.loc[moved["copy_ms"].idxmax()])
    ]  # fmt: skip
    return f"Copying experts is no part of the steps: each time that they are placed anew it takes {' to '.join(said)}."


def rule_words(gains: list[dict]) -> str:
    """Return how much faster steps are where SmartMoE's rule places experts anew, by trace."""
    known = [each for each in gains if each["smartmoe"] is not None]
    if not known:
        return "not timed"
    best, worst = (pick(known, key=lambda each: each["smartmoe"]) for pick in (max, min))
    return f"{worst['smartmoe']:.2f} ({worst['at']}) to {best['smartmoe']:.2f} ({best['at']})"
