"""Rows about locality: reuse and cache hits of every domain beside shuffled controls, heat over time, drift."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from moe_replay.analysis.tables.locality.drift import domain_drift, sequence_counts
from moe_replay.analysis.tables.locality.reuse import Adjacent, adjacent_reuse, counts, distances
from moe_replay.analysis.tables.locality.streams import cached_streams, stream_kind, streams_of
from moe_replay.traces.describe import default_k, slots
from moe_replay.traces.glossary.lookup import title
from moe_replay.traces.routes import routed_rows
from moe_replay.traces.selections import Trace

SHUFFLES = 3
BINS = 24  # of time, per domain, in the heat map
ALL = "all"


def locality_rows(
    name: str, source: str, trace: Trace, rng: np.random.Generator, emptied: str = "sequence"
) -> list[dict]:
    """Return a row per domain and layer, and one over all of either: reuse, LRU hits, and the same shuffled."""
    return [
        row for domain, wanted_T in domains(trace)
        for row in domain_rows(name, source, domain, trace, wanted_T, rng, emptied)
    ]  # fmt: skip


def domains(trace: Trace) -> Iterator[tuple[str, np.ndarray | None]]:
    """Yield (ALL, None), and (domain, its tokens) where the trace has several."""
    yield ALL, None
    names = np.unique(trace.domain_S) if trace.domain_S is not None else []
    if len(names) > 1:
        domain_T = trace.domain_S[np.searchsorted(trace.sequences_S, trace.sequence_T)]
        for name in names:
            yield str(name), domain_T == name


def domain_rows(
    name: str, source: str, domain: str, trace: Trace, wanted_T: np.ndarray | None, rng: np.random.Generator,
    emptied: str,
) -> list[dict]:  # fmt: skip
    """Return the rows of one domain. Shuffled reuse is exact, shuffled hits are the mean of SHUFFLES shuffles."""
    streams = streams_of(trace, wanted_T)
    routed_TL = routed_rows(streams.experts_TLK)
    tokens_X = [int(routed_TL.any(1).sum()), *routed_TL.sum(0).tolist()]  # those without a route are no tokens here
    cached = cached_streams(trace, emptied, wanted_T)
    reuse, found_LX = adjacent_reuse(streams), distances(cached)
    shuffled_RLX = np.stack([distances(cached.shuffled(rng)) for _ in range(SHUFFLES)])
    labels = [ALL, *map(str, trace.header.model.layer_ids)]
    return [
        {
            "set": name, "trace": source, "status": "ok", "reason": "", "domain": domain, "layer": label,
            "stream": stream_kind(trace), "tokens": tokens, "streams": len(streams.start_X),
            **reuse_columns(reuse, layer), **counted(trace, emptied),
            **hit_columns(found_LX, shuffled_RLX, layer, trace.E),
        }
        for layer, label, tokens in zip([slice(None), *range(trace.L)], labels, tokens_X, strict=True)
    ]  # fmt: skip


def reuse_columns(reuse: Adjacent, layer: int | slice) -> dict:
    """Return reuse between neighbours, in the recorded and in random order."""
    shared, selections = int(reuse.shared_L[layer].sum()), int(reuse.selections_L[layer].sum())
    chance = float(reuse.chance_L[layer].sum())
    return {
        "shared": shared, "selections": selections, "reuse": ratio(shared, selections),
        "reuse_shuffled": ratio(chance, selections), "reuse_over_shuffled": ratio(shared, chance),
    }  # fmt: skip


def hit_columns(found_LX: np.ndarray, shuffled_RLX: np.ndarray, layer: int | slice, experts: int) -> dict:
    """Return the share of selections that LRU with a quarter and half of the experts hits, and the median distance."""
    found_X, shuffled_RX = summed(found_LX, layer), summed(shuffled_RLX, layer)
    columns = {"accesses": int(found_X.sum()), "median_distance": median(found_X)}
    columns["median_distance_shuffled"] = float(np.mean([median(each) for each in shuffled_RX]))
    for part, held in (("quarter", max(experts // 4, 1)), ("half", max(experts // 2, 1))):
        rates = np.array([ratio(shuffled_X[:held].sum(), shuffled_X.sum()) for shuffled_X in shuffled_RX])
        columns |= {
            f"slots_{part}": held, f"hits_{part}": ratio(found_X[:held].sum(), found_X.sum()),
            f"hits_{part}_shuffled": float(rates.mean()), f"hits_{part}_shuffled_spread": float(np.ptp(rates)),
        }  # fmt: skip
    return columns


def summed(found: np.ndarray, layer: int | slice) -> np.ndarray:
    """Return distances [.., L, X] of one layer, or summed over layers."""
    return found[..., layer, :].sum(-2) if isinstance(layer, slice) else found[..., layer, :]


def median(found_X: np.ndarray) -> float:
    """Return the median distance of the selections that had one before; NaN where none had."""
    again = found_X[:-1].cumsum()
    return float(np.searchsorted(again, again[-1] / 2)) if again[-1] else np.nan


def ratio(part: float, whole: float) -> float:
    """Return part / whole, NaN where there is nothing."""
    return float(part / whole) if whole else np.nan


def counted(trace: Trace, emptied: str) -> dict[str, str]:
    """Return the columns that say how hits were counted: access by access, with caches emptied where?"""
    at_start = "sequence" if stream_kind(trace) == "sequence" else "stream"
    return {"mode": "flat", "emptied": at_start if emptied == "sequence" else "never"}


def curve_rows(name: str, source: str, trace: Trace, rng: np.random.Generator, emptied: str = "sequence") -> list[dict]:
    """Return LRU's hit ratio at every number of slots per layer, over all layers, as recorded and shuffled."""
    streams = cached_streams(trace, emptied)
    rows = []
    for order, of in (("recorded", streams), ("shuffled", streams.shuffled(rng))):
        found_X = distances(of).sum(0)
        hits_C = found_X[:-1].cumsum() / found_X.sum()
        rows += [
            {
                "set": name,
                "trace": source,
                "order": order,
                **counted(trace, emptied),
                "slots": index + 1,
                "hit_ratio": hit_ratio,
            }
            for index, hit_ratio in enumerate(hits_C)
        ]
    return rows


def heat_rows(name: str, source: str, trace: Trace, rng: np.random.Generator) -> list[dict]:
    """Return each expert's share of the selections per bin of time, in every layer.

    Time runs domain by domain, in each through its tokens in recorded order; the control puts all tokens of all
    domains into random order. Experts are ordered by the domain that uses them most, then by how much (`place`).
    """
    parts = [np.flatnonzero(wanted_T) for domain, wanted_T in domains(trace) if domain != ALL]
    labels = [domain for domain, _ in domains(trace) if domain != ALL] or [ALL]
    parts = parts or [np.arange(trace.T)]
    everything = np.concatenate(parts)
    mixed = np.split(rng.permutation(everything), np.cumsum([len(part) for part in parts])[:-1])
    experts_TLK = slots(trace, default_k(trace))
    rows = []
    for layer in range(trace.L):
        one_TK = experts_TLK[:, layer : layer + 1]
        routed_D = [max(int(routed_rows(one_TK[part]).sum()), 1) for part in parts]
        share_DE = np.stack([counts(one_TK[part], trace.E)[0] for part in parts]) / np.array(routed_D)[:, None]
        place_E = np.lexsort((-share_DE.max(0), share_DE.argmax(0))).argsort()
        for order, of in (("recorded", parts), ("shuffled", mixed)):
            for label, part in zip(labels, of, strict=True):
                for number, chosen in enumerate(np.array_split(part, BINS)):
                    count_E = counts(one_TK[chosen], trace.E)[0] if len(chosen) else np.zeros(trace.E)
                    rows += [
                        {"set": name, "trace": source, "layer": trace.header.model.layer_ids[layer], "order": order,
                         "domain": label, "bin": number, "expert": expert, "place": int(place_E[expert]),
                         "share": count_E[expert] / max(count_E.sum(), 1)}
                        for expert in range(trace.E)
                    ]  # fmt: skip
    return rows


def drift_rows(name: str, source: str, trace: Trace, rng: np.random.Generator) -> list[dict]:
    """Return the test of every layer, and of all together; none where the trace has one domain only."""
    if trace.domain_S is None or len(np.unique(trace.domain_S)) < 2:
        return []
    drift = domain_drift(sequence_counts(trace), trace.domain_S, rng)
    columns = zip(drift.divergence_L, drift.null_mean_L, drift.null_high_L, drift.p_L, strict=True)
    common = {"set": name, "trace": source, "sequences": trace.S, "domains": len(np.unique(trace.domain_S))}
    rows = [
        {**common, "layer": str(layer), "divergence_bits": value, "permuted_mean": mean, "permuted_95": high, "p": p}
        for layer, (value, mean, high, p) in zip(trace.header.model.layer_ids, columns, strict=True)
    ]
    total = {"divergence_bits": drift.divergence_L.mean(), "permuted_mean": drift.null_mean_L.mean()}
    return [*rows, {**common, "layer": ALL, **total, "permuted_95": np.nan, "p": drift.p}]


def shown_locality(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows over all layers as texts to read: each share with its shuffled control behind it."""
    rows = table[table["layer"] == ALL]
    shown = {"trace": rows["trace"], "domain": rows["domain"], "tokens": rows["tokens"].map("{:,}".format)}
    shown |= {"mode": rows["mode"], "emptied": rows["emptied"]}
    for name in ("reuse", "hits_quarter", "hits_half"):
        for column in (name, f"{name}_shuffled"):
            shown[title(column)] = rows[column].map("{:.1%}".format)
    return pd.DataFrame(shown)
