"""The sentence of the locality figure, and the numbers it rests on."""

import pandas as pd

from moe_replay.analysis.reading.setting_words import trace_words

ALL = "all"
KEPT = (
    "tokens", "reuse", "reuse_shuffled", "slots_quarter", "hits_quarter", "hits_quarter_shuffled", "median_distance",
)  # fmt: skip
EMPTIED = {
    "sequence": "emptied before every sequence", "stream": "emptied before every patch of a video",
    "never": "never emptied",
}  # fmt: skip
FOLLOWS = {"sequence": "the next token", "position": "the same patch of the next frame"}
DRIFT_KEPT = ("divergence_bits", "permuted_mean", "p")


def locality_claim(rows: pd.DataFrame, drift: pd.DataFrame) -> dict:
    """Return the sentence and the numbers of the figure."""
    fine = rows[rows["status"] == "ok"] if "reuse" in rows else rows.iloc[:0]
    if fine.empty:
        return {"claim": "No trace could be read, so nothing can be said about locality.", "numbers": {}}
    whole = fine[(fine["layer"] == ALL) & (fine["domain"] == ALL)]
    sentences, numbers = [], {}
    for row in whole.to_dict("records"):
        name = f"{row['set']} {row['trace']}"
        numbers[name] = {key: row[key] for key in KEPT}
        sentences.append(reuse_sentence(row))
    if "p" in drift:
        for row in drift[drift["layer"] == ALL].to_dict("records"):
            numbers[f"{row['set']} {row['trace']} drift"] = {key: row[key] for key in DRIFT_KEPT}
            sentences.append(drift_sentence(row))
    return {"claim": " ".join(sentences), "numbers": numbers}


def reuse_sentence(row: dict) -> str:
    """Return what one trace reuses."""
    name = trace_words(row["set"], row["trace"])
    if not row["reuse_shuffled"] > 0:  # also where it is not known
        return f"{name}: too few tokens follow each other, so nothing can be said about reuse."
    return (
        f"{name}: {FOLLOWS[row['stream']]} selects "
        f"{100 * row['reuse']:.0f} % of its experts again, {row['reuse'] / row['reuse_shuffled']:.2f} times as many as "
        f"in random order ({100 * row['reuse_shuffled']:.0f} %); LRU with {row['slots_quarter']} slots per layer, "
        f"{EMPTIED[row['emptied']]}, hits "
        f"{100 * row['hits_quarter']:.0f} % ({100 * row['hits_quarter_shuffled']:.0f} % in random order)."
    )


def drift_sentence(row: dict) -> str:
    """Return whether domains use different experts in one trace."""
    verdict = "differ" if row["p"] < 0.05 else "are not shown to differ"
    divergence = f"mean Jensen-Shannon divergence {row['divergence_bits']:.3f} bits"
    return (
        f"{trace_words(row['set'], row['trace'])}: the experts of {row['domains']} domains {verdict} ({divergence}, "
        f"{row['permuted_mean']:.3f} with sequences permuted, p = {row['p']:.3f})."
    )
