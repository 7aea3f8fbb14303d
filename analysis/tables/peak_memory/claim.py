"""The sentence of the peak_memory figure, and the numbers it rests on."""

import pandas as pd

from moe_replay.analysis.tables.peak_memory.rows import BEST, CAPTURED, EAGER


def peak_claim(rows: pd.DataFrame, compiled: pd.DataFrame) -> dict:
    """Return the sentence and the numbers of the figure."""
    fine = rows[rows["status"] == "ok"] if "step_order" in rows else rows.iloc[:0]
    sentences, numbers = [], {}
    for name, own in fine.groupby("set", sort=False):
        found = set_numbers(own)
        of_set = compiled[compiled["set"] == name] if "way" in compiled else compiled
        found |= compiled_numbers(of_set)
        sentences.append(
            f"{name}: {order_sentence(found)} {waiting_sentence(found)} {compiled_sentence(found)}".strip()
        )
        numbers[name] = found
    if not sentences:
        return {"claim": "No order of a training iteration could be read.", "numbers": {}}
    return {"claim": " ".join(sentences), "numbers": numbers}


def set_numbers(own: pd.DataFrame) -> dict:
    """Return what the sentences of one set rest on. `checkpointed`: iterations that compute some of it again."""
    free = own["interleaved"].astype(bool)
    best = own[(own["step_order"] == BEST) & free]
    waiting = own[(own["step_order"] == BEST) & ~free].set_index("graph")["over_captured_percent"]
    again = best[(best["checkpoint"] != "none") & ~best["separate_experts"].astype(bool)]
    measured = own[own["step_order"] != EAGER]
    off = (measured["step_peak_bytes"] / measured["predicted_bytes"] - 1).abs()
    return {
        "iterations": len(best), "proved": int(best["proved"].sum()), "most_over_bound_percent":
        best["over_bound_percent"].max(), "runs": len(measured), "as_predicted": int(measured["as_predicted"].sum()),
        "same_bits": int(measured["same_bits"].sum()), "most_off_percent": 100 * off.max(),
        "checkpointed": len(again), "median_below_eager_percent": -again["over_eager_percent"].median(),
        "least_below_eager_percent": -again["over_eager_percent"].max(),
        "most_below_eager_percent": -again["over_eager_percent"].min(),
        "above_captured": int((best["over_captured_percent"] > 0).sum()),
        "median_below_captured_percent": -again["over_captured_percent"].median(),
        "median_below_captured_waiting_percent": -waiting.reindex(again["graph"]).median(),
        "by_graph": {row["graph"]: {"below_eager_percent": -row["over_eager_percent"], "over_bound_percent":
                     row["over_bound_percent"]} for row in best.to_dict("records")},
    }  # fmt: skip


def order_sentence(found: dict) -> str:
    """Return how much the best order saves, and what is known of the optimum and of the prediction."""
    above = "never more" if not found["above_captured"] else f"in {found['above_captured']} cases more"
    text = (
        f"the best order found needs {found['median_below_eager_percent']:.0f} % less memory than eager in the median "
        f"of {found['checkpointed']} checkpointed iterations ({found['least_below_eager_percent']:.0f} to "
        f"{found['most_below_eager_percent']:.0f} %), and {above} than the {CAPTURED} order."
        if found["checkpointed"] else "no iteration was checkpointed."
    )  # fmt: skip
    return (
        f"{text} {found['proved']} of {found['iterations']} orders are proved optimal, the others at most "
        f"{found['most_over_bound_percent']:.1f} % above the lower bound. In all {found['as_predicted']} of "
        f"{found['runs']} runs the allocator's peak was the predicted one (off by at most "
        f"{found['most_off_percent']:.2g} %), in {found['same_bits']} all results were eager's bits."
    )


def waiting_sentence(found: dict) -> str:
    """Return what is left of the gain where the optimizer waits for the end of the backward pass."""
    waiting = found["median_below_captured_waiting_percent"]
    if pd.isna(waiting):
        return ""
    return (
        f"Reordering alone, with the optimizer at the end, saves {waiting:.0f} % against the captured order in the "
        f"median, interleaving it {found['median_below_captured_percent']:.0f} %."
    )


def compiled_numbers(rows: pd.DataFrame) -> dict:
    """Return the median peak and time against eager by way of compiling, under checkpointing; empty without any."""
    if "way" not in rows:
        return {}
    again = rows[(rows["status"] == "ok") & (rows["checkpoint"] != "none") & (rows["way"] != EAGER)]
    kept = ["over_eager_percent", "time_over_eager"]
    ways = {way: own[kept].median().to_dict() for way, own in again.groupby("way", sort=False)}
    return {"compiled": ways} if ways else {}


def compiled_sentence(found: dict) -> str:
    """Return what compiling does to the peak under checkpointing, by way of compiling."""
    ways = found.get("compiled", {})
    if not ways:
        return ""
    told = [f"{way} {each['over_eager_percent']:+.0f} %" for way, each in ways.items()]
    return f"Peak against eager in the median of checkpointed iterations that were compiled: {', '.join(told)}."
