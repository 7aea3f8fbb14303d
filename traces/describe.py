"""What a trace looks like: load per expert, reuse between adjacent tokens, phases, sequences; numbers and tables."""

from dataclasses import dataclass

import numpy as np
from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from moe_replay.traces.file.chunks import chunks
from moe_replay.traces.file.joining import group
from moe_replay.traces.file.layout import column_of
from moe_replay.traces.glossary.lookup import title, titles
from moe_replay.traces.header import Header, ModelInfo
from moe_replay.traces.regating import open_loop_row
from moe_replay.traces.routes import leaps, marked, routed_rows, routed_tokens, weightless_text, without_route_text
from moe_replay.traces.selections import NEEDED, Trace, distinct

BARS = " ▁▂▃▄▅▆▇█"
HOTTEST = 3
WIDEST_BARS = 16


def load_LE(trace: Trace, k: int | None = None) -> np.ndarray:
    """Return the selections of every expert of every layer (int64), counting the first k slots of a row (all).

    Experts without weights are left out.
    """
    experts_TLK = slots(trace, k)
    layer_L1 = np.arange(trace.L)[:, None]
    counts = np.zeros((trace.L, trace.E + 1), np.int64)
    for rows in chunks(trace.T, trace.L):
        place = np.maximum(experts_TLK[rows], -1) + 1 + layer_L1 * (trace.E + 1)  # column 0 takes what is no expert
        counts += np.bincount(place.ravel(), minlength=counts.size).reshape(counts.shape)
    return counts[:, 1:]


def slots(trace: Trace, k: int | None) -> np.ndarray:
    """Return the first k slots of every row, experts without weights marked by a number below 0.

    None: as many as may be a choice, so all, or the chosen ones. InputError for another k, or where the order was not
    kept.
    """
    k = max(trace.ks) if k is None else k
    trace.check_k(k)
    return marked(trace.experts_TLK if k == trace.K else trace.experts_TLK[:, :, :k], trace.header.model)


@dataclass(frozen=True)
class Spread:
    """How evenly the experts of each layer are loaded: selections, coefficient of variation, largest over mean."""

    lowest_L: np.ndarray
    mean_L: np.ndarray
    highest_L: np.ndarray
    cv_L: np.ndarray
    max_over_mean_L: np.ndarray


def spread(load_LE: np.ndarray) -> Spread:
    """Return how evenly experts are loaded; a layer without selections has no variation (NaN)."""
    mean_L = load_LE.mean(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return Spread(load_LE.min(1), mean_L, load_LE.max(1), load_LE.std(1) / mean_L, load_LE.max(1) / mean_L)


@dataclass(frozen=True)
class Reuse:
    """Shares of a row's experts that the token before it in its sequence selected too, per layer; NaN without pairs.

    `chance_L` is what tokens would share that select independently of each other but with the same load. `pairs_L` are
    the pairs of which both tokens have a route in the layer; a token after one without has no token before it, nor has
    one whose position leaps.
    """

    pairs_L: np.ndarray
    share_L: np.ndarray
    chance_L: np.ndarray


def reuse(trace: Trace, k: int | None = None) -> Reuse:
    """Return the reuse between tokens that follow each other in a sequence, counting the first k slots (all)."""
    experts_TLK = slots(trace, k)
    by_sequence = np.argsort(trace.sequence_T, kind="stable")
    position_T = trace.position_T[by_sequence]
    same_T = trace.sequence_T[by_sequence[1:]] == trace.sequence_T[by_sequence[:-1]]
    pair_T = np.flatnonzero(same_T & ~leaps(position_T[:-1], position_T[1:]))
    before_P, after_P = by_sequence[pair_T], by_sequence[pair_T + 1]
    shared_L, filled_L, pairs_L = (np.zeros(trace.L, np.int64) for _ in range(3))
    for run in chunks(len(pair_T), trace.L * experts_TLK.shape[2]):
        before, after = experts_TLK[before_P[run]], experts_TLK[after_P[run]]
        both_PL = routed_rows(before) & routed_rows(after)
        shared_L += ((after[..., None] == before[:, :, None, :]).any(-1) & (after >= 0)).sum((0, 2))
        filled_L += ((after >= 0) & both_PL[..., None]).sum((0, 2))
        pairs_L += both_PL.sum(0)
    counts_LE = load_LE(trace, k)
    with np.errstate(invalid="ignore", divide="ignore"):
        chance_L = (counts_LE / routed_tokens(trace)[:, None] * counts_LE).sum(1) / counts_LE.sum(1)
        return Reuse(pairs_L, shared_L / filled_L, chance_L)


def sequence_lengths(trace: Trace) -> np.ndarray:
    """Return the tokens of every sequence, ascending by id."""
    return np.bincount(group(trace.sequence_T).index_X)


def default_k(trace: Trace) -> int:
    """Return how many slots describe the model itself: those it uses, where the trace kept their order."""
    return min(max(trace.ks), max(min(trace.ks), trace.header.model.used_k))


def description(trace: Trace, source: str, k: int | None = None) -> Group:
    """Return the tables that `describe` prints."""
    k = k or default_k(trace)
    counts_LE = load_LE(trace, k)
    return Group(
        Text(source, style="bold"),
        facts(trace),
        heading(
            f"Load at k={k}", "selections per expert; one bar per expert, from the hottest, full height, to the coldest"
        ),
        load_table(trace.header.model.layer_ids, counts_LE),
        heading(f"Reuse at k={k}", "share of a token's experts that the token before it in its sequence selected too"),
        reuse_table(trace, reuse(trace, k)),
    )


def heading(title: str, meaning: str) -> Text:
    """Return a table's title and what its numbers mean."""
    return Text.assemble((title, "bold"), ": ", meaning)


def table_of(*columns: str) -> Table:
    """Return a table whose columns are numbers, aligned right and never cut."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def facts(trace: Trace) -> Table:
    """Return what the trace is: model, shapes, scores, phases, sequences, provenance."""
    header, model, lengths = trace.header, trace.header.model, sequence_lengths(trace)
    recorded = f"{trace.K} of {model.experts} experts recorded per token, {model.used_k} used by the model"
    decode = int(trace.phase_T.sum())
    optional = [column_of(name) for name in trace.present if name not in (*NEEDED, "scores_TLK")]
    sizes = [f"{name} {getattr(model, name):,}" for name in ("d_model", "d_ff", "expert_bytes") if getattr(model, name)]
    return facts_table({
        "model": f"{model.name}: {model.layers} MoE layers x {experts_text(model)}, {model.shared_experts} shared",
        "sizes": ", ".join([*sizes, model.dtype or "dtype unknown"]),
        "gate": f"{header.gate_rule}; scores: {header.score_kind or 'none'}; {order_text(header)}",
        **open_loop_row(header.notes),
        "tokens": f"{trace.T:,} in {len(trace.passes):,} passes and {len(distinct(trace.step_T)):,} steps; {recorded}",
        **({"no route": missing} if (missing := without_route_text(trace)) else {}),
        **({"no weights": weightless} if (weightless := weightless_text(trace, default_k(trace))) else {}),
        "phases": f"{trace.T - decode:,} prefill or encode, {decode:,} decode",
        "sequences": f"{trace.S:,} of {lengths.min():,} to {lengths.max():,} tokens, {lengths.mean():,.1f} on average",
        "beside": ", ".join(optional) or "nothing",
        "data": ", ".join(f"{key}: {value}" for key, value in header.data.items() if value),
        "device": header.device,
        "made by": " | ".join(f"{key}: {value}" for key, value in header.provenance.items() if key != "packages"),
        "notes": " | ".join(f"{key}: {value}" for key, value in header.notes.items()),
        "digest": trace.digest,
    })  # fmt: skip


def order_text(header: Header) -> str:
    """Return what the order of a row's slots says."""
    if header.chosen_first:
        return f"not ranked: the {header.model.used_k} chosen first, then the others by score"
    return "ranked" if header.ranked else "not ranked"


def facts_table(rows: dict[str, str]) -> Table:
    """Return a table of what is known of a file, a row for each fact; `-` where there is nothing to say."""
    table = Table(box=box.SIMPLE, show_header=False, padding=(0, 1, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows.items():
        table.add_row(name, Text(printable(value) or "-"))
    return table


def experts_text(model: ModelInfo) -> str:
    """Return how many experts a layer has, those without weights apart."""
    without = f" and {model.zero_experts} without weights" if model.zero_experts else ""
    return f"{model.real_experts} experts{without}"


def printable(text: str) -> str:
    """Return text without what could command a terminal: a trace's header may come from anybody."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def load_table(layer_ids: tuple[int, ...], counts_LE: np.ndarray) -> Table:
    """Return the load per expert, a row per layer, with the hottest experts and a bar per expert."""
    names = ("layer", "least_selected", "mean_selected", "most_selected", "cv", "max_over_mean", "hottest")
    table = table_of(*titles(names).values())
    table.add_column(title("load_bars"), no_wrap=True)
    even = spread(counts_LE)
    for layer, layer_id in enumerate(layer_ids):
        known = counts_LE[layer].any()
        hottest = np.argsort(-counts_LE[layer], kind="stable")[:HOTTEST].tolist()
        table.add_row(
            str(layer_id),
            *(short(number) for number in (even.lowest_L[layer], even.mean_L[layer], even.highest_L[layer])),
            *(f"{n:.2f}" if known else "-" for n in (even.cv_L[layer], even.max_over_mean_L[layer])),
            " ".join(map(str, hottest)) if known else "-",
            bars(counts_LE[layer]),
        )
    return table


def short(number: float) -> str:
    """Return a count in six places: 12,345, 123.5k, 1.2M."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= max(size, 99_999.5):
            return f"{number / size:.1f}{letter}"
    return f"{number:,.0f}"


def bars(load_E: np.ndarray) -> str:
    """Return one bar per expert, from hottest to coldest; of many experts, groups of neighbours share a bar."""
    ordered = np.sort(load_E)[::-1]
    groups = np.array_split(ordered, min(len(ordered), WIDEST_BARS))
    heights = np.array([each.mean() for each in groups]) / max(ordered[0], 1)
    return "".join(BARS[int(np.ceil(height * (len(BARS) - 1)))] for height in heights)


def reuse_table(trace: Trace, found: Reuse) -> Table | Text:
    """Return the reuse between adjacent tokens against chance, a row per layer."""
    if not found.pairs_L.any():
        alone = len(trace.sequences_S) == trace.T
        reason = "every sequence has one token" if alone else "no two tokens that follow each other both have a route"
        return Text(f"  {reason}: there are no adjacent tokens")
    table = table_of(*titles(("layer", "adjacent_reuse", "chance_reuse", "reuse_over_chance")).values())
    for layer, layer_id in enumerate(trace.header.model.layer_ids):
        share, chance = found.share_L[layer], found.chance_L[layer]
        shown = (f"{share:.1%}", f"{chance:.1%}", f"{share / chance:.2f}") if found.pairs_L[layer] else ("-", "-", "-")
        table.add_row(str(layer_id), *shown)
    fewest, most = found.pairs_L.min(), found.pairs_L.max()
    counted = f"{most:,}" if fewest == most else f"{fewest:,} to {most:,}"
    table.caption = f"{counted} pairs of tokens" + (" by layer" if fewest < most else "")
    return table
