"""The sentence that says whether choosing K per sample beats a fixed K, whatever the data say."""

import pandas as pd

from moe_replay.analysis.tables.delta_k.histogram import DIFFERENCE
from moe_replay.analysis.tables.delta_k.point_series import FIXED_MODEL
from moe_replay.analysis.tables.delta_k.rows import (
    BEATS,
    EQUAL_TIME,
    LOSES,
    MARGIN_POINTS,
    SAME,
    SAME_WEIGHTS,
    SHUFFLED,
    UNDECIDED,
)

WORDS = {BEATS: "yes", LOSES: "no, it loses", SAME: "no, there is no difference", UNDECIDED: "undecided"}
HARDLY_VARIES_K = 0.05  # standard deviation over samples below which a rule chooses next to nothing
NUMBERS = (
    "mean_k", "k_deviation", "accuracy_percent", "accuracy_percent_low", "accuracy_percent_high", "baseline_k",
    "baseline_percent", "difference_points", "difference_points_low", "difference_points_high",
    "difference_points_components_low", "difference_points_components_high", "verdict", "primary", "reason",
)  # fmt: skip


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
    question = f"Does choosing K per sample beat a fixed K at equal mean K, by more than {MARGIN_POINTS} points?"
    return {"claim": " ".join([question, tally(usable), *sentences]), "numbers": numbers}


def tally(rows: pd.DataFrame) -> str:
    """Return how the primary comparisons came out, all sets together."""
    primary = rows[rows["primary"].astype(bool)]
    count = primary["verdict"].value_counts()
    told = [f"{count[name]} {words}" for name, words in WORDS.items() if name in count]
    unknown = int(primary["verdict"].isna().sum())
    told += [f"{unknown} without an answer"] if unknown else []
    return f"Of {len(primary)} primary comparisons: {'; '.join(told)}."


def primary_sentence(row: dict, rows: pd.DataFrame) -> str:
    """Return the primary comparison of one model in words, with the comparisons beside it."""
    how = f"{row['rule']} applied afterwards" if row["model"].startswith(FIXED_MODEL) else f"trained with {row['rule']}"
    start = f"{row['model']}, {how} (mean K {row['mean_k']:.2f}{varies(row)})"
    if row["status"] != "ok":
        return f"{start}: no answer against {row['baseline']} ({row['reason']})."
    text = (f"{start}: {WORDS[row['verdict']]}: {row['accuracy_percent']:.2f} % against "
            f"{row['baseline_percent']:.2f} % ({row['baseline']}), {points(row)}")  # fmt: skip
    return (
        "; ".join([text, *[beside_text(each) for each in others(row, rows) if each["baseline"] != row["baseline"]]])
        + "."
    )


def beside_text(row: dict) -> str:
    """Return one of the comparisons beside the primary one."""
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
    oracle = f"The oracle (some k of 1 to {row['tries']} of {row['model']} is right) stands at"
    return (
        f"{oracle} {row['oracle_percent']:.2f} % with a mean least K of {row['oracle_mean_k']:.2f}, {away:.1f} points "
        f"above {best['model']} under {best['rule']}; but {row['tries']} noisy tries of equal single accuracy reach "
        f"{row['luck_percent']:.2f} %: luck alone gives {luck}."
    )


def who_sentence(groups: pd.DataFrame, row: dict) -> str:
    """Return whether wrong answers got more experts than right ones, for the first primary point."""
    found = groups[(groups["model"] == row["model"]) & (groups["group"] == DIFFERENCE)].iloc[0]
    return (f"Under {row['rule']} on {row['model']}, mean K of wrong answers minus that of right ones is "
            f"{found['mean_k']:+.2f} ({found['mean_k_low']:+.2f} to {found['mean_k_high']:+.2f}).")  # fmt: skip


def best_sentence(rows: pd.DataFrame) -> str:
    """Return what the rules with the best validation accuracy show on test images, where they are not primary ones."""
    chosen = rows[rows["best_on_validation"].astype(bool) & (rows["baseline"] == SAME_WEIGHTS)]
    primary = {place_of(row) for row in rows[rows["primary"].astype(bool)].to_dict("records")}
    return "".join(
        f" Best on validation images at this target: {row['rule']} on {row['model']}{varies(row)}, {points(row)} "
        f"on test against the same weights, {row['verdict']}."
        for row in chosen.to_dict("records") if place_of(row) not in primary and row["status"] == "ok"
    )  # fmt: skip


def place_of(row: dict) -> tuple:
    """Return what names a dynamic point within a set."""
    return tuple(row[key] for key in ("model", "how", "rule", "target_k"))


def others(row: dict, rows: pd.DataFrame) -> list[dict]:
    """Return the rows of the same dynamic point, this one included."""
    return [each for each in rows.to_dict("records") if place_of(each) == place_of(row)]


def numbers_of(rows: pd.DataFrame, primary: list[dict]) -> dict:
    """Return the numbers of the primary points against every baseline."""
    return {
        f"{row['model']}, {row['rule']}": {
            f"against {each['baseline']}": {key: each[key] for key in NUMBERS} for each in others(row, rows)
        }
        for row in primary
    }
