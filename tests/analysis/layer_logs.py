"""Logs of a published layer shape and of a link with known answers, as `collect layer-costs` and `link` write them."""

import numpy as np
import pyarrow as pa

from moe_replay.traces.file.mixed_table import save_mixed
from moe_replay.traces.runs import layer_times, link_table
from moe_replay.traces.runs.cost_table import COST_COLUMNS, CostTable

MODEL = {"name": "toy", "experts": 4, "k": 2, "width": 100, "hidden": 1000, "dtype": "bfloat16", "scale": 1}
WEIGHTS, BYTES = 3 * 100 * 1000, 600_000
SIZES = (1, 10, 100, 1000)
FIXED_NS = {"loop": 20_000, "wall": 12_000, "event": 6_000, "looped": 6_000, "grouped": 3_000}  # beside 100 a token


def layer_table():
    """An expert takes what is fixed and 100 ns a token; a step four times that. A time in three is twice as long."""
    rows = [
        (form, size, at, repetition, round((fixed + 100 * size) * noise * (4 if at < 0 else 1)))
        for form, fixed in FIXED_NS.items() if form != "loop" for size in SIZES
        for at in ((-1,) if form in ("looped", "grouped") else (0, 1)) for repetition, noise in enumerate((1, 1, 2))
    ]  # fmt: skip
    return pa.table(
        dict(zip(("form", "tokens", "expert", "repetition", "took_ns"), zip(*rows, strict=True), strict=True))
    )


def cost_table():
    rows = [
        (layer, block, size, 0, FIXED_NS["loop"] + 100 * size)
        for layer, block in ((-1, 0), (0, 1), (0, 2)) for size in SIZES
    ]  # fmt: skip
    columns = {
        name: np.array(values, kind)
        for (name, kind), values in zip(COST_COLUMNS.items(), zip(*rows, strict=True), strict=True)
    }
    return CostTable(columns, {"device": "gpu-toy", "model": MODEL})


def link_times():
    rows = [
        (memory, copies, size, repetition, 10_000 + copies * size // 10)
        for memory, copies in (("pageable", 1), ("pinned", 1), ("pinned", 2)) for size in (1000, 1_000_000)
        for repetition in range(3)
    ]  # fmt: skip
    names = ("host_memory", "copies", "copy_bytes", "repetition", "took_ns")
    return pa.table(dict(zip(names, zip(*rows, strict=True), strict=True)))


def write_layer_logs(folder):
    """Write a cost table, times and a link of ten bytes a ns after 10 us."""
    folder.mkdir(parents=True, exist_ok=True)
    cost_table().save(folder / "toy.costs.parquet")
    header = {"device": "gpu-toy", "model": MODEL, "expert_bytes": BYTES, "lacking": {}}
    save_mixed(folder / "toy.times.parquet", layer_table(), header, layer_times.KIND)
    links = [
        {"host_memory": memory, "copies": copies, "latency_ns": 10_000, "bytes_per_s": 1e10, "error_percent": 0.5}
        for memory, copies in (("pinned", 1), ("pinned", 2), ("pageable", 1))
    ]
    save_mixed(folder / "link.parquet", link_times(), {"device": "gpu-toy", "links": links}, link_table.KIND)
