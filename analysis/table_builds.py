"""The tables by the name of their figure: a new one is a module or folder of that name in `tables`, and a line here.

A build reads its inputs from every set, writes its tables, and returns the holes in them. A set whose input cannot be
read keeps a row with status and reason in each table that needed it. What belongs to the data and not to the device
(the quality table, the base trace) has to be there once per data set, and counts once where devices hold equal copies.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from moe_replay.analysis.reading.inputs import Inputs

HOMES = {
    "accuracy_vs_k": "accuracy_vs_k.build:build_accuracy",
    "load_vs_k": "load_vs_k:build_load",
    "queue_size": "queue_size.build:build_queue_size",
    "fidelity": "fidelity.build:build_fidelity",
    "open_loop": "open_loop.build:build_open_loop",
    "delta_k": "delta_k.build:build_delta_k",
    "random_routing": "random_routing.build:build_random_routing",
    "gating_memory": "gating_memory.build:build_gating_memory",
    "delta_k_serving": "delta_k_serving:build_serving",
    "locality": "locality.build:build_locality",
    "language": "language:build_language",
    "miss_ratio": "miss_ratio:build_miss_ratio",
    "swap_tradeoff": "swap_tradeoff:build_swap_tradeoff",
    "skip_exchange": "skip_exchange:build_skip_exchange",
    "swap_budget": "swap_budget:build_swap_budget",
    "balance": "balance:build_balance",
    "placement": "placement:build_placement",
    "end_to_end": "end_to_end.build:build_end_to_end",
    "skew": "skew.build:build_skew",
    "layer_costs": "layer_costs:build_layer_costs",
    "links": "links:build_links",
    "all_to_all": "all_to_all:build_all_to_all",
    "peak_memory": "peak_memory.build:build_peak_memory",
}


@dataclass(frozen=True)
class Build:
    """A build by its home, `MODULE:FUNCTION` in `analysis.tables`, which is imported when it is called."""

    home: str

    def __call__(self, inputs: Inputs, out: Path) -> list[str]:
        """Write the tables of all sets into the folder `out`; return the holes in them."""
        module, _, function = self.home.partition(":")
        return getattr(import_module(f"moe_replay.analysis.tables.{module}"), function)(inputs, out)


BUILDS: dict[str, Callable[[Inputs, Path], list[str]]] = {name: Build(home) for name, home in HOMES.items()}
