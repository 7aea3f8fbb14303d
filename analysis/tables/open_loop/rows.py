"""How far a re-gated trace is from one recorded under the rule: experts per token, load, and the sets of experts.

Three loads are compared, each as an expert's share of a layer's selections, by total variation distance (half the sum
of absolute differences): re-gated against recorded, the source's own load against recorded (the answer of one who does
not re-gate), and the noise floor, which is what two samples of as many tokens would differ by under the recorded rule.
"""

import numpy as np
import pandas as pd

from moe_replay.traces.errors import InputError
from moe_replay.traces.regating import check_pair, regate, rule_of, rule_text
from moe_replay.traces.selections import Trace

ALL_LAYERS = "all"
SPLITS = 20  # random halves behind a noise floor
FIRST_LAYER_SHARE = (
    1e-3  # of the tokens; the last bits of a matrix product may flip a near-tie, another model flips all
)

# A re-gated trace may be trusted where all three hold. Chosen beforehand: what a figure of this project would show.
LARGEST_LOAD_TV = 0.02  # over the noise floor, in the worst layer
LARGEST_MEAN_K_PERCENT = 2.0  # all layers together
LARGEST_THROUGHPUT_PERCENT = 5.0  # closed loop; where it is not known the verdict is `load only`
RULE_OF_TRUST = (
    f"load within {LARGEST_LOAD_TV} of the noise floor in every layer, mean K within {LARGEST_MEAN_K_PERCENT:g} %, "
    f"throughput within {LARGEST_THROUGHPUT_PERCENT:g} %"
)


def open_loop_rows(source: Trace, recorded: Trace, generator: np.random.Generator) -> tuple[list[dict], Trace]:
    """Return (a row per layer and one for all of them, the re-gated trace); InputError where they are no pair."""
    check_pair(source, recorded)
    rule = rule_of(recorded)
    regated = regate(source, rule)
    recorded = recorded.at_k(rule) if isinstance(rule, int) else recorded  # candidates behind k did not run
    rows = [layer_row(source, recorded, regated, layer, generator) for layer in range(source.L)]
    differing = round((1 - rows[0]["same_set_share"]) * source.T)
    if differing > FIRST_LAYER_SHARE * source.T:
        raise InputError(f"the first layer differs in {differing} of {source.T} tokens: another model or other images")
    remark = f"the first layer differs in {differing} tokens: near-ties" if differing else ""
    rows.append({**all_layers(rows), "first_layer_differs": differing})
    told = {"rule": rule_text(rule), "source_rule": rule_text(rule_of(source)), "tokens": source.T}
    return [{**told, **row, "status": "ok", "reason": remark} for row in rows], regated


def layer_row(
    source: Trace, recorded: Trace, regated: Trace, layer: int, generator: np.random.Generator
) -> dict[str, float | str]:
    """Return what one layer's three sets of choices say."""
    own_TK, experts = source.experts_TLK[:, layer, : source.header.model.used_k], source.header.model.experts
    recorded_TK, regated_TK = recorded.experts_TLK[:, layer], regated.experts_TLK[:, layer]
    share_E = load_share(recorded_TK, experts)
    tv = variation(load_share(regated_TK, experts), share_E)
    noise = noise_floor(recorded_TK, experts, generator)
    overlap_T = jaccard(recorded_TK, regated_TK, experts)
    return {
        "layer": str(layer), **mean_k_columns(mean_k(own_TK), mean_k(recorded_TK), mean_k(regated_TK)),
        "load_tv_regated": tv, "load_tv_noise": noise, "load_tv_over_noise": max(tv - noise, 0.0),
        "load_tv_source": variation(load_share(own_TK, experts), share_E),
        "jaccard": float(overlap_T.mean()), "same_set_share": float((overlap_T == 1).mean()),
    }  # fmt: skip


def all_layers(rows: list[dict]) -> dict[str, float | str]:
    """Return the means over layers; of the load over the noise floor the largest."""
    table = pd.DataFrame(rows)
    means = {name: float(table[name].mean()) for name in table.columns if name != "layer"}
    k_columns = mean_k_columns(*(means[f"mean_k_{kind}"] for kind in ("source", "recorded", "regated")))
    return {**means, **k_columns, "layer": ALL_LAYERS, "load_tv_over_noise": float(table["load_tv_over_noise"].max())}


def mean_k_columns(source: float, recorded: float, regated: float) -> dict[str, float]:
    """Return mean experts per token of all three and the error of the re-gated one."""
    error = error_percent(regated, recorded)
    return {
        "mean_k_source": source,
        "mean_k_recorded": recorded,
        "mean_k_regated": regated,
        "mean_k_error_percent": error,
    }


def error_percent(predicted: float, true: float) -> float:
    """Return by how much a prediction is off, in per cent of the truth."""
    return float((predicted / true - 1) * 100)


def mean_k(experts_TK: np.ndarray) -> float:
    """Return the mean number of experts per token."""
    return float((experts_TK >= 0).sum() / len(experts_TK))


def load_share(experts_TK: np.ndarray, experts: int) -> np.ndarray:
    """Return every expert's share of the selections."""
    return shares(load(experts_TK, experts))


def load(experts_TK: np.ndarray, experts: int) -> np.ndarray:
    """Return every expert's selections."""
    return np.bincount(experts_TK[experts_TK >= 0], minlength=experts)


def shares(load_E: np.ndarray) -> np.ndarray:
    """Return loads as shares of all of them."""
    return load_E / max(load_E.sum(), 1)


def variation(share_E: np.ndarray, other_E: np.ndarray) -> float:
    """Return the total variation distance of two distributions: 0 equal, 1 disjoint."""
    return float(np.abs(share_E - other_E).sum() / 2)


def noise_floor(experts_TK: np.ndarray, experts: int, generator: np.random.Generator) -> float:
    """Return the expected distance between the loads of two samples of as many tokens.

    Measured between random halves of the tokens, and divided by the root of two for samples of double the size.
    """
    load_E, halves = load(experts_TK, experts), []
    for _ in range(SPLITS):
        order_T = generator.permutation(len(experts_TK))
        one_E = load(experts_TK[np.array_split(order_T, 2)[0]], experts)
        halves.append(variation(shares(one_E), shares(load_E - one_E)))
    return float(np.mean(halves) / np.sqrt(2))


def jaccard(one_TK: np.ndarray, other_TK: np.ndarray, experts: int) -> np.ndarray:
    """Return, per token, the experts in both sets over those in either."""
    one_TE, other_TE = membership(one_TK, experts), membership(other_TK, experts)
    either_T = (one_TE | other_TE).sum(1)
    return np.where(either_T > 0, (one_TE & other_TE).sum(1) / np.maximum(either_T, 1), 1.0)


def membership(experts_TK: np.ndarray, experts: int) -> np.ndarray:
    """Return which experts each token chose (T, E)."""
    member_TE = np.zeros((len(experts_TK), experts + 1), bool)
    np.put_along_axis(member_TE, experts_TK.astype(np.intp), True, axis=1)  # -1 lands in the last column
    return member_TE[:, :experts]


def verdict(row: dict) -> str:
    """Return whether a rule's re-gated trace may be trusted: yes, no, or `load only` where no time is known."""
    load = row["load_tv_over_noise"] <= LARGEST_LOAD_TV and abs(row["mean_k_error_percent"]) <= LARGEST_MEAN_K_PERCENT
    slip = row.get("throughput_error_percent", np.nan)
    if not load or abs(slip) > LARGEST_THROUGHPUT_PERCENT:
        return "no"
    return "load only" if np.isnan(slip) else "yes"
