"""One build per group of tables: reads its inputs from every set, writes its tables, and returns the holes in them.

A set whose input cannot be read keeps a row with status and reason in each table that needed it. What belongs to the
data and not to the device (the quality table, the base trace) has to be there once per data set, and counts once
where devices hold equal copies.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from moe_replay.analysis.reading.inputs import Inputs
from moe_replay.analysis.reading.log_sets import BASE_TRACE, QUALITY, LogSet
from moe_replay.analysis.reading.run_pairs import RunPair
from moe_replay.analysis.tables import load_vs_k
from moe_replay.analysis.tables.accuracy_vs_k import claim as accuracy_claim
from moe_replay.analysis.tables.accuracy_vs_k import rows as accuracy
from moe_replay.analysis.tables.delta_k.build import build_delta_k
from moe_replay.analysis.tables.delta_k_serving import build_serving
from moe_replay.analysis.tables.fidelity import rows as fidelity
from moe_replay.analysis.tables.fidelity.repeatability import repeatability, repeatability_sentence
from moe_replay.analysis.tables.gating_memory.build import build_gating_memory
from moe_replay.analysis.tables.language import build_language
from moe_replay.analysis.tables.layer_costs import build_layer_costs
from moe_replay.analysis.tables.links import build_links
from moe_replay.analysis.tables.locality.build import build_locality
from moe_replay.analysis.tables.miss_ratio import build_miss_ratio
from moe_replay.analysis.tables.open_loop.build import build_open_loop
from moe_replay.analysis.tables.queue_size import claim as queue_size_claim
from moe_replay.analysis.tables.queue_size import rows as queue_size
from moe_replay.analysis.tables.random_routing.build import build_random_routing
from moe_replay.analysis.tables.swap_budget import build_swap_budget
from moe_replay.analysis.tables.swap_tradeoff import build_swapping
from moe_replay.analysis.written_tables import hole_row, holes, write_claims, write_tables
from moe_replay.traces.describe import slots
from moe_replay.traces.file.trace_file import load_trace

SEED = 0  # of the uniform control's draws


def build_accuracy(inputs: Inputs, out: Path) -> list[str]:
    """Write `accuracy_vs_k`, `accuracy_vs_k_seeds` and `accuracy_vs_k_fit`: is growth in k linear?"""
    means: list[dict] = []
    seeds: list[dict] = []
    fits: list[dict] = []
    for name, quality, reason in inputs.per_data(QUALITY, accuracy.read_quality):
        made = accuracy.accuracy_rows(name, quality) if quality is not None else []
        if not made:
            hole = hole_row(name, quality, reason or "no view has three values of k")
            means.append(hole)
            fits.append(hole)
            continue
        means += made
        seeds += accuracy.seed_rows(name, quality)
        fits += accuracy.fit_rows(name, quality)
    tables = {"accuracy_vs_k": means, "accuracy_vs_k_seeds": seeds, "accuracy_vs_k_fit": fits}
    written = write_tables(out, tables, inputs.used(QUALITY))
    write_claims(out, {"accuracy_vs_k": accuracy_claim.accuracy_claim(written["accuracy_vs_k_fit"])})
    return holes(written["accuracy_vs_k"]) + holes(written["accuracy_vs_k_fit"])


def build_load(inputs: Inputs, out: Path) -> list[str]:
    """Write `load_vs_k`, `load_vs_k_experts` and `load_vs_k_places`: how is load spread over experts for each k?"""
    rows: list[dict] = []
    experts: list[dict] = []
    generator = np.random.default_rng(SEED)
    for name, trace, reason in inputs.per_data(BASE_TRACE, load_trace):
        if trace is None or not trace.header.ranked:
            rows.append(
                hole_row(name, trace, reason or "the trace did not keep the router's order, so k cannot be cut")
            )
            continue
        rows += load_vs_k.load_rows(
            name, slots(trace, None), trace.step_T, trace.E, trace.header.model.used_k, generator
        )
        experts += load_vs_k.expert_rows(name, slots(trace, None), trace.step_T, trace.E)
    tables = {
        "load_vs_k": rows,
        "load_vs_k_experts": experts,
        "load_vs_k_places": load_vs_k.place_rows(pd.DataFrame(experts)),
    }
    written = write_tables(out, tables, inputs.used(BASE_TRACE))
    write_claims(out, {"load_vs_k": load_vs_k.load_claim(written["load_vs_k"])})
    return holes(written["load_vs_k"])


def build_queue_size(inputs: Inputs, out: Path) -> list[str]:
    """Write `queue_size`, `queue_size_tradeoff` and `queue_size_steps`: executed, simulated and theory against B."""
    rows: list[dict] = []
    for log_set in inputs.with_runs:
        rows += queue_size_rows(inputs, log_set) or [hole_row(log_set.name, None, "no runs, executed or simulated")]
    table = queue_size.queue_size_table(rows)
    sources = [(name, source) for name in dict.fromkeys(table["set"]) for source in ("executed", "simulated", "theory")]
    steps = [row for name, source in sources for row in queue_size.step_rows(table, name, source)]
    trade = [row for name, source in sources for row in queue_size.tradeoff_rows(table, name, source)]
    tables = {"queue_size": table, "queue_size_tradeoff": trade, "queue_size_steps": steps}
    written = write_tables(out, tables, inputs.used_by_runs())
    claim = queue_size_claim.queue_size_claim(written["queue_size"], written["queue_size_steps"])
    write_claims(out, {"queue_size": claim})
    return holes(written["queue_size"])


def queue_size_rows(inputs: Inputs, log_set: LogSet) -> list[dict]:
    """Return every row of one set: measured points, holes of their grid, theory."""
    replicated = inputs.replicated(f"{log_set.name}/", log_set.simulated)
    rows = queue_size.measured_rows(log_set, inputs.pairs(log_set), inputs.used_k(log_set), replicated)
    rows += queue_size.hole_rows(rows)
    return rows + queue_size.theory_rows(rows, *inputs.theory(log_set))


def build_fidelity(inputs: Inputs, out: Path) -> list[str]:
    """Write `fidelity`, its summary and `repeatability`: every executed run against its simulation and its like."""
    rows: list[dict] = []
    for log_set in inputs.with_runs:
        pairs: list[RunPair] = inputs.pairs(log_set)
        made = fidelity.fidelity_rows(log_set, pairs, inputs.used_k(log_set), inputs.partial)
        rows += made or [hole_row(log_set.name, None, "no executed runs")]
    table = pd.DataFrame(rows)
    summary = fidelity.fidelity_summary(table)
    repeated = repeatability(table)
    tables = {"fidelity": table, "fidelity_summary": summary, "fidelity_repeatability": repeated}
    written = write_tables(out, tables, inputs.used_by_runs())
    claim = fidelity.fidelity_claim(written["fidelity"], summary)
    claim["claim"] += repeatability_sentence(repeated)
    write_claims(out, {"fidelity": claim})
    return holes(written["fidelity"])


BUILDS: dict[str, Callable[[Inputs, Path], list[str]]] = {
    "accuracy": build_accuracy,
    "load": build_load,
    "queue-size": build_queue_size,
    "fidelity": build_fidelity,
    "open-loop": build_open_loop,
    "delta-k": build_delta_k,
    "random-routing": build_random_routing,
    "gating-memory": build_gating_memory,
    "serving": build_serving,
    "locality": build_locality,
    "language": build_language,
    "miss-ratio": build_miss_ratio,
    "swapping": build_swapping,
    "swap-budget": build_swap_budget,
    "layer-costs": build_layer_costs,
    "links": build_links,
}
