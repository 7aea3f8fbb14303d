"""The sentence of the gating_memory figure, and the numbers it rests on."""

import pandas as pd

from moe_replay.analysis.tables.gating_memory.rows import LIKE_NAMES, TRAINED_VIEW

HUANG_WASTE = {"lm": 12.8, "mt": 64.0}  # E C / k as published (Huang et al. 2023, section 3)


def memory_claim(rows: pd.DataFrame) -> dict:
    """Return the sentence and the numbers of the figure."""
    if "static_peak_bytes" not in rows or not (rows["status"] == "ok").any():
        return {"claim": "No memory table could be read, so nothing can be said about dispatch.", "numbers": {}}
    sentences, numbers = [], {}
    for name, own in rows[rows["status"] == "ok"].groupby("set", sort=False):
        found = set_numbers(own)
        sentences.append(f"{name}: {never_more(found)} {waste_sentence(found)}")
        numbers[name] = found
    return {"claim": " ".join(sentences), "numbers": numbers}


def set_numbers(own: pd.DataFrame) -> dict:
    """Return what the sentence of one set rests on."""
    whole, dropping = own[own["dropped"] == 0], own[own["dropped"] > 0]
    more = dropping[~dropping["dynamic_at_most_static"].astype(bool)]
    rounding = own["waste_measured"] / own["waste_predicted"] * own["choices"] / (own["batch"] * own["k"]) - 1
    return {
        "configurations": len(own), "without_drops": len(whole),
        "never_more_without_drops": int(whole["dynamic_at_most_static"].sum()),
        "least_peak_ratio_without_drops": whole["peak_over_dynamic"].min(),
        "most_peak_ratio_without_drops": whole["peak_over_dynamic"].max(),
        "with_drops": len(dropping), "more_with_drops": len(more),
        "least_dropped_percent_there": more["dropped_percent"].min(),
        "gathered_more": int((own["peak_over_gathered"] < 1).sum()), "as_counted": int(own["as_counted"].sum()),
        "most_rounding_percent": 100 * rounding.max(),
        "slower_than_dynamic": int((own["time_over_dynamic"] > 1).sum()),
        "published": {like: published_numbers(of, like) for like, of in own.groupby("like") if like in LIKE_NAMES},
        **layers_numbers(own),
    }  # fmt: skip


def layers_numbers(own: pd.DataFrame) -> dict:
    """Return, under `layers`, what static capacity costs on layers of published shapes; nothing without them."""
    viewed = own[(own["convention"] == TRAINED_VIEW[0]) & (own["capacity_factor"] == TRAINED_VIEW[1])]
    found = {}
    for like, rows in viewed.groupby("like"):
        if like and like not in LIKE_NAMES:
            row = rows.loc[rows["batch"].idxmax()]
            kept = ("peak_over_dynamic", "peak_over_gathered", "time_over_dynamic", "dropped_percent", "waste_measured")
            found[like] = {"batch": int(row["batch"]), **{name: float(row[name]) for name in kept}}
    return {"layers": found} if found else {}


def published_numbers(rows: pd.DataFrame, like: str) -> dict:
    """Return what a published model's ratios give at the largest batch that was measured."""
    row = rows.loc[rows["batch"].idxmax()]
    static, dynamic = row["static_expert_peak_bytes_max"], row["dynamic_expert_peak_bytes_mean"]
    return {
        "waste_published": HUANG_WASTE[like], "waste_measured": row["waste_measured"], "batch": int(row["batch"]),
        "peak_over_dynamic": row["peak_over_dynamic"], "peak_over_gathered": row["peak_over_gathered"],
        "time_over_dynamic": row["time_over_dynamic"], "dropped_percent": row["dropped_percent"],
        "expert_peak_over_mean_dynamic": static / dynamic,
        "expert_peak_over_busiest_dynamic": static / row["dynamic_expert_peak_bytes_max"],
    }  # fmt: skip


def never_more(found: dict) -> str:
    """Return whether dynamic dispatch ever allocated more than static."""
    text = (
        f"dynamic dispatch's peak is at most static's in {found['never_more_without_drops']} of "
        f"{found['without_drops']} configurations in which static dispatch keeps every choice (static's is "
        f"{found['least_peak_ratio_without_drops']:.3g} to {found['most_peak_ratio_without_drops']:.3g} times as high)"
    )
    if not found["more_with_drops"]:
        return f"{text}, and in all {found['with_drops']} in which it drops some."
    return (
        f"{text}; where static drops choices it is higher in {found['more_with_drops']} of {found['with_drops']}, all "
        f"with at least {found['least_dropped_percent_there']:.0f} % of the choices left out."
    )


def waste_sentence(found: dict) -> str:
    """Return predicted and measured waste, and what the published models' ratios cost here."""
    texts = [published_text(like, each) for like, each in found["published"].items()]
    text = "; ".join([*texts, *(layer_text(like, each) for like, each in found.get("layers", {}).items())])
    rounding = f"Over all configurations rounding up to whole rows adds at most {found['most_rounding_percent']:.0f} %."
    return f"{text[:1].upper()}{text[1:]}. {rounding}" if text else rounding


def layer_text(like: str, each: dict) -> str:
    """Return what static dispatch costs on a layer of a published shape."""
    convention, factor = TRAINED_VIEW
    return (
        f"on a layer of {like} (S={each['batch']}, capacity {convention}, C={factor:g}) static peaks at "
        f"{each['peak_over_dynamic']:.3g} times dynamic's memory ({each['peak_over_gathered']:.2g} times that of all "
        f"rows gathered at once), takes {each['time_over_dynamic']:.3g} times as long and drops "
        f"{each['dropped_percent']:.0f} % of the choices"
    )


def published_text(like: str, each: dict) -> str:
    """Return what static dispatch costs at one published model's ratios."""
    return (
        f"as Huang et al.'s {LIKE_NAMES[like]} (S={each['batch']}) static computes {each['waste_measured']:.4g} rows "
        f"per row asked for (published {each['waste_published']:g}), peaks at {each['peak_over_dynamic']:.0f} times "
        f"dynamic's memory ({each['peak_over_gathered']:.0f} times that of all rows gathered at once), gives an expert "
        f"{each['expert_peak_over_mean_dynamic']:.3g} times the memory of the mean expert and "
        f"{each['expert_peak_over_busiest_dynamic']:.2g} times that of the busiest one, and takes "
        f"{each['time_over_dynamic']:.3g} times as long"
    )
