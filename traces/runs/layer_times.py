"""Times of one layer outside any loop: by which ways they were taken, and the cost table that they make."""

from pathlib import Path

import numpy as np

from moe_replay.traces.file.mixed_table import load_mixed
from moe_replay.traces.runs.cost_table import ANY_LAYER, COST_COLUMNS, CostTable

KIND = "layer-times"
WALL, EVENT, LOOPED, GROUPED = OF_EXPERTS = ("wall", "event", "looped", "grouped")
DENSE_WALL, DENSE_EVENT = OF_DENSE = ("dense-wall", "dense-event")
FORMS = (*OF_EXPERTS, *OF_DENSE)
MEANINGS = {
    WALL: "one expert alone, wall clock, with a synchronise behind every call",
    EVENT: "one expert alone, between two CUDA events, behind enough work that the GPU waits for no launch",
    LOOPED: "all experts of a layer on equal batches, one after another, wall clock, one synchronise at the end",
    GROUPED: "all experts of a layer on equal batches, by two grouped matrix products, wall clock, one synchronise",
    DENSE_WALL: "norm, router and choice of the layer, without attention; as wall",
    DENSE_EVENT: "norm, router and choice of the layer, without attention; as event",
}
ALL_EXPERTS = -1  # in the column `expert`: the time is that of a whole step


def costs_alone(path: Path | str) -> CostTable:
    """Return the costs of a layer's experts and dense block alone on the device, from a table of its times.

    By the GPU's own clock where there is one, else by the wall clock: no loop, no queue and no launch is in them. So
    they are what a server could reach that keeps the device busy, where those of the loop are what the executor does.
    """
    table, header = load_mixed(path, KIND)
    form = np.array(table["form"].to_pylist())
    expert_form, dense_form = (EVENT, DENSE_EVENT) if (form == EVENT).any() else (WALL, DENSE_WALL)
    rows, is_dense = np.isin(form, (expert_form, dense_form)), form == dense_form
    columns = {
        "layer": np.where(is_dense, ANY_LAYER[0], 0), "block": np.where(is_dense, 0, 1 + table["expert"].to_numpy()),
        "tokens": table["tokens"].to_numpy(), "repetition": table["repetition"].to_numpy(),
        "service_ns": table["took_ns"].to_numpy(),
    }  # fmt: skip
    kept = ("device", "model", "sizes", "threads", "torch", "expert_bytes", "provenance")
    about = {
        "data": "drawn", "dense": MEANINGS[DENSE_WALL].partition(";")[0], "measured": MEANINGS[expert_form],
        **{name: header[name] for name in kept},
    }  # fmt: skip
    return CostTable({name: columns[name][rows].astype(kind) for name, kind in COST_COLUMNS.items()}, about)
