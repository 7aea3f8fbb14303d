"""A folder of a user's own results, small, one of every kind, in the form that commands write them."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd

from moe_replay.traces.file.trace_file import save_trace
from moe_replay.traces.load_trace import LoadTrace
from moe_replay.traces.new_traces import synthetic

NAN = float("nan")
PERCENTILES = {"p50": 0.5, "p95": 1, "p99": 2}  # of p95


def runs_table():
    """B against the rate: 400/s can be served from B = 2 on; 100 passes/s per unit of B, p95 = rate / B."""
    rows = []
    for size in (1, 2, 4):
        for rate in (200, 400):
            fine = size * 200 >= rate
            value, p95 = float(rate), rate / size
            rows.append({
                "scheduler": "queues", "queue_size": size, "arrivals": "poisson", "rate_per_s": rate, "devices": 1,
                "replications": 3, "values_of": "window" if fine else "whole run",
                "throughput_per_s": value if fine else 150.0,
                "throughput_per_s_low": value - 10 if fine else NAN,
                "throughput_per_s_high": value + 10 if fine else NAN,
                **{f"latency_{p}_ms": p95 * share if fine else NAN for p, share in PERCENTILES.items()},
                "status": "ok" if fine else "unstable", "reason": "" if fine else "arrivals are 2 of the capacity",
            })  # fmt: skip
    return pd.DataFrame(rows)


def memory_table():
    rows = [{"world": "resident", "cache": "resident", "slots": NAN, "slowdown": 1.0, "tokens_per_s": 500.0,
             "time_ms": 2.0, "hit_ratio": NAN}]  # fmt: skip
    for cache, factor in (("lru", 1.5), ("lfu", 1.25)):
        for slots in (4, 8):
            slower = 1 + (factor - 1) * 4 / slots
            rows.append({"world": "run", "cache": cache, "slots": slots, "slowdown": slower, "hit_ratio": slots / 16,
                         "tokens_per_s": 500 / slower, "time_ms": 2 * slower})  # fmt: skip
    common = {"miss": "load", "known": "none", "prefetch": "none", "replications": 1, "values_of": "whole run",
              "lost_in": "ms/pass", "capacity_ms": NAN, "policy_ms": NAN}  # fmt: skip
    table = pd.DataFrame([{**row, **common} for row in rows])
    first = ["world", "cache", "slots", "miss", "known", "prefetch", "replications"]
    return table[[*first, *(name for name in table if name not in first)]]


def misses_table():
    return pd.DataFrame([
        {"policy": policy, "slots": slots, "mode": "group", "known": "hindsight" if policy == "belady" else "none",
         "layer": layer, "miss_ratio": share / slots}
        for policy, share in (("lru", 2.0), ("lfu", 1.6), ("belady", 1.2))
        for slots in (2, 4, 8) for layer in ("all", "0")
    ])  # fmt: skip


def plans_table():
    return pd.DataFrame([
        {"memory_budget": budget, "latency_budget": 4.5, "search": search, "slots": slots, "period": 0,
         "predicted_loss": loss, "predicted_latency_ms": 4.0, "predicted_memory_bytes": budget, "seconds": 0.1}
        for budget, search, slots, loss in ((2e7, "exact", "4.8", 0.3), (2e7, "uniform", "6.6", 0.5),
                                            (3e7, "exact", "8.8", 0.1), (3e7, "uniform", "9.9", NAN))
    ])  # fmt: skip


def placements_table():
    return pd.DataFrame([
        {"planner": planner, "known": "held-out", "devices": 8, "redundant": redundant, "repaired": False,
         "useless_replicas": redundant // 4, "split": "even" if redundant else NAN, "device_max_over_mean": even,
         "device_copies": 2 - redundant / 8}
        for planner, redundant, even in (("lpt", 0, 2.5), ("eplb", 0, 2.25), ("eplb", 8, 1.125))
    ])  # fmt: skip


def rebalances_table():
    fixed = [{"placement": "contiguous", "planner": "contiguous", "known": "none", "device_max_over_mean": 2.0},
             {"placement": "bound", "planner": "any", "known": "hindsight", "device_max_over_mean": 1.125}]  # fmt: skip
    again = [
        {"placement": "rebalanced", "planner": "smartmoe", "plan_interval": every, "adopt_threshold": threshold,
         "known": "none", "device_max_over_mean": 1.25 + every / 100, "copies_per_layer": 100 / every / threshold}
        for every in (1, 10) for threshold in (1.0, 1.5)
    ]  # fmt: skip
    return pd.DataFrame([*fixed, *again])


def orders_table():
    return pd.DataFrame([
        {"order_policy": policy, "refused": "", "order_peak_bytes": peak, "order_bound_bytes": 5e6, "proved": False}
        for policy, peak in (("captured", 8e6), ("lpmf", 6e6), ("liu", NAN))
    ])  # fmt: skip


TABLES = {
    "runs.csv": runs_table, "memory.csv": memory_table, "misses.csv": misses_table, "plans.csv": plans_table,
    "placed/placements.csv": placements_table, "over.csv": rebalances_table, "orders.csv": orders_table,
}  # fmt: skip


def own_results(folder):
    """Fill a folder with every kind of result; each CSV says beside it how it was made."""
    for name, make in TABLES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        make().to_csv(path, index=False)
        command = f"python -m simulate {path.stem}"
        path.with_suffix(".json").write_text(json.dumps({"provenance": {"command": command, "source_revision": "r1"}}))
    save_trace(small_trace(), folder / "toy.trace.parquet")
    small_loads().save(folder / "training.loads.parquet")
    return folder


def small_trace():
    return synthetic(sequences=10, layers=3, experts=8, k=2, seed=1)


def small_loads():
    """Layer 0 is even all the time, layer 1 at the start alone."""
    load_SRMLE = np.ones((4, 1, 1, 2, 4), np.int64)
    load_SRMLE[2:, 0, 0, 1] = (5, 1, 1, 1)
    trace = small_trace()
    model = replace(trace.header.model, layer_ids=(0, 1), experts=4)
    data = {"name": "toy", "digest": None, "note": None}
    return LoadTrace(
        model=model, load_SRMLE=load_SRMLE, iteration_S=np.arange(4), rank_R=np.zeros(1, np.int32), data=data,
        provenance={}, notes={},
    )  # fmt: skip
