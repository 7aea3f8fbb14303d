"""The sentence that says whether choosing K per sample beats a fixed K, whatever the data say."""

import pandas as pd

from analysis.delta_k_comparisons import BEATS, EQUAL_TIME, LOSES, MARGIN_POINTS, SAME, SHUFFLED, UNDECIDED
from analysis.delta_k_histogram import DIFFERENCE

WORDS = {BEATS: "yes", LOSES: "no, it loses", SAME: "no, there is no difference", UNDECIDED: "undecided"}
HARDLY_VARIES_K = 0.05  # standard deviation over samples below which a rule chooses next to nothing
NUMBERS = ("mean_k", "k_deviation", "accuracy_percent", "accuracy_percent_low", "accuracy_percent_high", "baseline_k",
           "baseline_percent", "difference_points", "difference_points_low", "difference_points_high", "verdict",
           "primary", "reason")  # fmt: skip


def delta_k_claim(comparisons: pd.DataFrame, oracle: pd.DataFrame, groups: pd.DataFrame) -> dict:
    """Return the claim and the numbers of the figure from its tables."""
    if "primary" not in comparisons or not comparisons["primary"].eq(True).any():
        return {"claim": "No set holds the operating points that are needed to compare K per sample with a fixed K.",
                "numbers": {}}  # fmt: skip
    usable = comparisons[comparisons["primary"].notna()]
    sentences, numbers = [], {}
    for name, rows in usable.groupby("set", sort=False):
        primary = rows[rows["primary"].astype(bool)].to_dict("records")
        parts = [primary_sentence(row, rows) for row in primary]
        own = [table[table["set"] == name] for table in (oracle, groups)]
        parts += [oracle_sentence(row, primary) for row in own[0].to_dict("records")[-1:]]
        parts += [who_sentence(own[1], primary[0])]
        sentences.append(f"{name} ({primary[0]['seeds']:.0f} seeds): " + " ".join(parts) + best_sentence(rows))
        numbers[name] = numbers_of(rows, primary)
    question = "Does choosing K per sample beat a fixed K at equal mean K"
    return {"claim": f"{question}, by more than {MARGIN_POINTS} points? " + " ".join(sentences), "numbers": numbers}


def primary_sentence(row: dict, rows: pd.DataFrame) -> str:
    """Return the primary comparison of one model in words, with what stands beside it."""
    how = "applied afterwards to" if row["model"].startswith("fixed-") else "in the model trained with it,"
    start = f"{row['rule']} {how} {row['model']} (mean K {row['mean_k']:.2f}{varies(row)})"
    if row["status"] != "ok":
        return f"{start}: no answer against {row['baseline']} ({row['reason']})."
    beside = rows[(rows["model"] == row["model"]) & (rows["how"] == row["how"]) & (rows["rule"] == row["rule"])
                  & (rows["target_k"] == row["target_k"]) & (rows["baseline"] != row["baseline"])]  # fmt: skip
    text = (f"{start}: {WORDS[row['verdict']]}: {row['accuracy_percent']:.2f} % against "
            f"{row['baseline_percent']:.2f} %, {row['baseline']}, {points(row)}")  # fmt: skip
    return "; ".join([text, *[beside_text(each) for each in beside.to_dict("records")]]) + "."


def beside_text(row: dict) -> str:
    """Return one of the comparisons that stand beside the primary one."""
    name = {SHUFFLED: "the same numbers dealt to other samples", EQUAL_TIME: "the same weights at equal time"}.get(
        row["baseline"], row["baseline"]
    )
    if row["baseline"] == EQUAL_TIME and pd.notna(row["baseline_k"]):
        name += f" (k = {row['baseline_k']:.2f}{', ' + row['reason'] if row['reason'] else ''})"
    return f"against {name} {points(row)}, {row['verdict']}" if row["status"] == "ok" else f"{name}: {row['reason']}"


def points(row: dict) -> str:
    """Return a difference with its interval."""
    low, high = row["difference_points_low"], row["difference_points_high"]
    return f"{row['difference_points']:+.2f} points ({low:+.2f} to {high:+.2f})"


def varies(row: dict) -> str:
    """Return a warning where a rule gives nearly every sample the same K."""
    return ", which hardly varies over samples" if row["k_deviation"] < HARDLY_VARIES_K else ""


def oracle_sentence(row: dict, primary: list[dict]) -> str:
    """Return how far the oracle is away and what luck alone gives."""
    best = max(primary, key=lambda each: each["accuracy_percent"])
    away = row["oracle_percent"] - best["accuracy_percent"]
    luck = f"{row['luck_share']:.0%} of the oracle's gain over one try" if pd.notna(row["luck_share"]) else "no share"
    return (
        f"The oracle (some k of 1 to {row['tries']} of {row['model']} is right) stands at {row['oracle_percent']:.2f} % "
        f"with a mean least K of {row['oracle_mean_k']:.2f}, {away:.1f} points above {best['model']} under "
        f"{best['rule']}; but {row['tries']} noisy tries of equal single accuracy reach {row['luck_percent']:.2f} %: "
        f"luck alone gives {luck}."
    )


def who_sentence(groups: pd.DataFrame, row: dict) -> str:
    """Return whether wrong answers got more experts than right ones, for the first primary point."""
    found = groups[(groups["model"] == row["model"]) & (groups["group"] == DIFFERENCE)].iloc[0]
    return (f"Wrong answers of {row['model']} took {found['mean_k']:+.2f} experts ({found['mean_k_low']:+.2f} to "
            f"{found['mean_k_high']:+.2f}) against right ones.")  # fmt: skip


def best_sentence(rows: pd.DataFrame) -> str:
    """Return what the rule with the best validation accuracy shows on test images, where it is not a primary one."""
    chosen = rows[rows["best_on_validation"].astype(bool)]
    primary = set(map(tuple, rows.loc[rows["primary"].astype(bool), ["model", "rule"]].to_numpy()))
    told = []
    for (model, rule), each in chosen.groupby(["model", "rule"], sort=False):
        row = each[each["baseline"] == "same weights"].to_dict("records")
        if (model, rule) not in primary and row and row[0]["status"] == "ok":
            told.append(f" Best on validation images at this target: {rule} on {model}{varies(row[0])}, {points(row[0])} "
                        f"on test against the same weights, {row[0]['verdict']}.")  # fmt: skip
    return "".join(told)


def numbers_of(rows: pd.DataFrame, primary: list[dict]) -> dict:
    """Return the numbers of the primary points against every baseline."""
    found = {}
    for row in primary:
        same = rows[(rows["model"] == row["model"]) & (rows["how"] == row["how"]) & (rows["target_k"] == row["target_k"])
                    & (rows["rule"] == row["rule"])]  # fmt: skip
        found[f"{row['model']}, {row['rule']}"] = {
            f"against {each['baseline']}": {key: each[key] for key in NUMBERS if key in each}
            for each in same.to_dict("records")
        }
    return found
