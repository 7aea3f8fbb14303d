"""The tables by the name of their figure: a new one is one module or folder of that name, and a line here.

A build reads its inputs from every set, writes its tables, and returns the holes in them. A set whose input cannot be
read keeps a row with status and reason in each table that needed it. What belongs to the data and not to the device
(the quality table, the base trace) has to be there once per data set, and counts once where devices hold equal copies.
"""

from collections.abc import Callable
from pathlib import Path

from moe_replay.analysis.reading.inputs import Inputs
from moe_replay.analysis.tables.accuracy_vs_k.build import build_accuracy
from moe_replay.analysis.tables.delta_k.build import build_delta_k
from moe_replay.analysis.tables.delta_k_serving import build_serving
from moe_replay.analysis.tables.fidelity.build import build_fidelity
from moe_replay.analysis.tables.gating_memory.build import build_gating_memory
from moe_replay.analysis.tables.language import build_language
from moe_replay.analysis.tables.layer_costs import build_layer_costs
from moe_replay.analysis.tables.links import build_links
from moe_replay.analysis.tables.load_vs_k import build_load
from moe_replay.analysis.tables.locality.build import build_locality
from moe_replay.analysis.tables.miss_ratio import build_miss_ratio
from moe_replay.analysis.tables.open_loop.build import build_open_loop
from moe_replay.analysis.tables.queue_size.build import build_queue_size
from moe_replay.analysis.tables.random_routing.build import build_random_routing
from moe_replay.analysis.tables.skip_exchange import build_skip_exchange
from moe_replay.analysis.tables.swap_budget import build_swap_budget
from moe_replay.analysis.tables.swap_tradeoff import build_swap_tradeoff

BUILDS: dict[str, Callable[[Inputs, Path], list[str]]] = {
    "accuracy_vs_k": build_accuracy,
    "load_vs_k": build_load,
    "queue_size": build_queue_size,
    "fidelity": build_fidelity,
    "open_loop": build_open_loop,
    "delta_k": build_delta_k,
    "random_routing": build_random_routing,
    "gating_memory": build_gating_memory,
    "delta_k_serving": build_serving,
    "locality": build_locality,
    "language": build_language,
    "miss_ratio": build_miss_ratio,
    "swap_tradeoff": build_swap_tradeoff,
    "skip_exchange": build_skip_exchange,
    "swap_budget": build_swap_budget,
    "layer_costs": build_layer_costs,
    "links": build_links,
}
