"""Tables of the expert memory figures in the form that analysis writes them."""

import itertools

FINE = {"status": "ok", "reason": ""}


def swapping_tables(name):
    return {
        "miss_ratio": list(miss_rows(name)), "swap_tradeoff": list(quality_rows(name)),
        "swap_latency": list(latency_rows(name)), "swap_budget": list(budget_rows(name)),
        "skip_exchange": list(altered_rows(name)),
    }  # fmt: skip


def miss_rows(name):
    optima = ("belady", "belady-bypass")
    modes = (("flat", ("lru", "fifo", "lfu", "sieve", *optima)), ("group", ("lru", "fifo", "lifo", "lfu", *optima)))
    for mode, policies in modes:
        for policy, slots in itertools.product(policies, (2, 4, 8)):
            yield {"set": name, "trace": "language-decode", **FINE, "policy": policy, "slots": slots,
                   "known": "none", "mode": mode, "grouping": "step", "emptied": "never",
                   "accesses": 100, "misses": 90 - 10 * slots, "miss_ratio": 0.9 - 0.1 * slots, "experts": 8,
                   "experts_per_step": 3.0, "over_lru_percent": 0.0}  # fmt: skip


def quality_rows(name):
    methods = [("swapmoe", 4.0), *((method, None) for method in ("importance", "popularity", "magnitude", "random"))]
    for (method, period), miss, slots in itertools.product(methods, ("redirect", "skip"), (2, 4)):
        yield {"set": name, **FINE, "method": method, "miss": miss, "slots": slots, "period": period,
               "measure": "bits_per_byte", "quality": 2.0, "loss": 1 / slots, "loss_half_width": 0.05,
               "lost_mass": 0.5 / slots, "experts": 8, "memory_bytes": 1e6, "memory_share": slots / 8}  # fmt: skip
    yield {"set": name, **FINE, "method": "dense", "measure": "bits_per_byte", "quality": 2.0, "loss": 0.0,
           "loss_half_width": 0.02, "memory_bytes": 4e5, "memory_share": 0.2}  # fmt: skip


def latency_rows(name):
    ways = [("resident", "", "", None), ("lru", "load", "none", None), ("lru", "block", "none", None),
            ("importance", "redirect", "none", None), ("importance", "redirect", "none", 64)]  # fmt: skip
    for cache, miss, prefetch, period in ways:
        for slots in (2, 4):
            yield {"set": name, **FINE, "run": f"{cache}{miss}{slots}", "in_flight": 1, "cache": cache, "slots": slots,
                   "miss": miss, "prefetch": prefetch, "period": period, "executed_mean_ms": 3.0 + slots,
                   "executed_mean_half_ms": 0.2, "resident_mean_ms": 6.0, "simulated_mean_ms": 3.1 + slots}  # fmt: skip


def budget_rows(name):
    for memory, latency, search in itertools.product((1e6, 2e6), (None, 3.0), ("exact", "genetic", "uniform")):
        yield {"set": name, **FINE, "memory_budget": memory, "latency_budget": latency, "search": search,
               "slots": "2.4", "period": 0, "loss": 1e6 / memory, "loss_half_width": 0.1, "predicted_loss": 0.9,
               "latency_ms": 3.1, "memory_bytes": 0.9 * memory, "measure": "bits_per_byte",
               "memory_kept": True, "latency_kept": latency is None}  # fmt: skip


def altered_rows(name):
    yield {"set": name, **FINE, "treatment": "none", "measure": "bits_per_byte", "quality": 1.5, "loss": 0.0,
           "loss_half_width": 0.0}  # fmt: skip
    for treatment, place in itertools.product(("skip", "exchange"), ("first layer", "all layers")):
        yield {"set": name, **FINE, "treatment": treatment, "treated_layers": place, "treated_share": 0.5,
               "measure": "bits_per_byte", "quality": 2.0, "loss": 0.5, "loss_half_width": 0.1}  # fmt: skip
