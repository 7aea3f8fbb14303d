"""Miss counts as one result: every policy beside the optimum, at every number of slots."""

import pandas as pd

from moe_replay.analysis.results.result import MISSES, Result, percent

OPTIMA = ("belady", "belady-bypass")
ALL_LAYERS = "all"


def misses_result(table: pd.DataFrame, name: str, made: dict) -> Result:
    """Return a table of `simulate misses` or `miss-curves` as a result."""
    whole = of_all_layers(table)
    axes = [each for each in ("mode", "prefetcher", "known") if each in whole and whole[each].nunique() > 1]
    return Result(
        MISSES, name, table, axes=("policy", "slots", *axes), made=made, findings=tuple(findings(whole)),
        doubts=tuple(doubts(whole)),
    )  # fmt: skip


def of_all_layers(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows over all layers."""
    return table[table["layer"].astype(str) == ALL_LAYERS] if "layer" in table else table


def findings(rows: pd.DataFrame) -> list[str]:
    """Return the best policy beside the optimum at the middle number of slots of every mode."""
    said = []
    for mode, each in rows.groupby("mode", sort=False) if "mode" in rows else [("", rows)]:
        slots = sorted(each["slots"].unique())
        middle = slots[len(slots) // 2]
        here = each[each["slots"] == middle]
        policies = here[~here["policy"].isin(OPTIMA)]
        best = here[here["policy"].isin(OPTIMA)]
        if policies.empty:
            policies, best = best, policies
        row = policies.loc[policies["miss_ratio"].idxmin()]
        line = f"With {middle:g} slots per layer {row['policy']} misses least: {percent(row['miss_ratio'])} of accesses"
        line += f", the optimum {percent(best['miss_ratio'].min())}" if len(best) else ""
        said.append(f"{line} ({mode} mode)." if mode else f"{line}.")
    return said


def doubts(rows: pd.DataFrame) -> list[str]:
    """Return how misses were counted, and which policies knew the future."""
    said = ["Misses are counts: what they cost in time depends on the link (`simulate memory`)."]
    if "mode" in rows and (rows["mode"] == "flat").any():
        said.append("Flat mode takes one access after another; an engine has a layer's experts of a step together.")
    knowing = sorted(set(rows.loc[rows["known"] == "hindsight", "policy"])) if "known" in rows else []
    if knowing:
        said.append(f"{', '.join(knowing)} knew the accesses beforehand (hindsight): a bound, no policy to use.")
    return said
