"""Tables of the figures on several devices in small, in the form that `python -m analysis` writes them."""

FINE = {"status": "ok", "reason": ""}
PLANNERS = {
    "contiguous": 1.8, "greedy": 1.2, "anti-correlation": 1.9, "anti-correlation=0.02": 1.25, "lpt": 1.2, "eplb": 1.2,
    "bound": 1.1,
}  # fmt: skip
SERVED = {"toy (vllm 1, GPU)": 100.0, "small (vllm 1, GPU)": 50.0}


def placing_tables(sets):
    return {"balance": list(balance_rows(sets))} | over_time(sets[0])


def balance_rows(sets):
    for name in sets:
        for planner, value in PLANNERS.items():
            for redundant in (0, 8) if planner == "eplb" else (0,):
                yield {"set": name, "trace": "wide", "planner": planner, "known": "held-out", "devices": 8,
                       "redundant": redundant, "device_max_over_mean": value - redundant / 100, "max_load": value / 8,
                       "avg_max_load": value / 9, **FINE}  # fmt: skip


def over_time(name):
    """Two trainings of one model: placed anew every 5 and every 50 iterations, always or for a gain of a tenth."""
    tables = {"placement": [], "placement_iterations": [], "placement_layers": []}
    for trace, loss, static in (("balanced", 0.01, 1.6), ("unbalanced", 0.0, 2.0)):
        what = {
            "set": name,
            "trace": trace,
            "model": "toy-moe",
            "balance_loss": loss,
            "iterations_per_point": 5,
            **FINE,
        }
        row = {**what, "devices": 8, "redundant": 0, "points": 20, "planner": "smartmoe"}
        tables["placement"].append(row | {"placement": "contiguous", "device_max_over_mean": static, "known": "none"})
        for interval in (0, 1, 10):
            for threshold in (1.0, 1.1):
                tables["placement"].append(row | {
                    "placement": "rebalanced", "plan_interval": interval, "adopt_threshold": threshold, "known": "none",
                    "iterations": 5 * interval, "copies_per_1000_iterations": 1000 / max(interval, 0.1),
                    "device_max_over_mean": static - (0.5 / interval if interval else 0),
                })  # fmt: skip
        for interval in (0, 1):
            level = static - 0.5 * interval
            tables["placement_iterations"] += [
                what | {"plan_interval": interval, "iteration": 1 + 5 * at, "device_max_over_mean": level}
                for at in range(20)
            ]  # fmt: skip
            tables["placement_layers"] += [
                what | {"plan_interval": interval, "layer": layer, "device_max_over_mean": level} for layer in range(3)
            ]
    return tables


def timed_tables(name):
    """Steps of three traces on two clusters, four systems each; the published ratios of two figures."""
    rows, parts = [], {"dense_ms": 0.2, "expert_ms": 0.5, "wire_ms": 0.2, "waiting_ms": 0.1}
    traces = {"training": 8192, "language-decode": 64, "language-prefill": 2048}
    systems = {("contiguous", 0): 2.0, ("lpt", 0): 1.8, ("smartmoe-adaptive", 0): 1.6, ("eplb", 8): 2.4}
    for trace, tokens in traces.items():
        for links, nodes, slower in (("nvlink", 1, 1), ("ethernet", 2, 3)):
            for (system, redundant), ms in systems.items():
                for micro_batches in (1, 2):
                    step_ms = ms * slower * micro_batches
                    rows.append({
                        "set": name, "trace": trace, "step_tokens": tokens, "links": links, "nodes": nodes,
                        "system": system, "redundant": redundant, "micro_batches": micro_batches,
                        "mean_step_ms": step_ms, "speed_up": 2.0 * slower / step_ms, "step_costs": "gpu/layer",
                        **{part: share * step_ms for part, share in parts.items()}, **FINE,
                    })  # fmt: skip
    published = [
        {"published_figure": figure, "published_gpus": 16, "published_speed_up": value}
        for figure, value in (("8, a", 0.7), ("8, a", 2.0), ("9, b", 1.1))
    ]  # fmt: skip
    return {"end_to_end": rows, "end_to_end_published": published}


def placement_numbers(name):
    """The numbers of the claim, by load trace."""
    shared = {"model": "toy-moe", "devices": 8, "bound": 1.0, "often_copies": 100.0, "seldom_copies": 10.0,
              "often_iterations": 5, "seldom_iterations": 50}  # fmt: skip
    return {
        f"{name} balanced": shared | {"balance_loss": 0.01, "contiguous": 1.6, "often": 1.1, "seldom": 1.55},
        f"{name} unbalanced": shared | {"balance_loss": 0.0, "contiguous": 2.0, "often": 1.5, "seldom": 1.95},
    }


def exchange_tables(name):
    """Return a paced way, 4 % off, and one without a pace, which took twice as long as ports say."""
    rows, summary = [], []
    for way, factor in (("paced", 1.04), ("loopback", 2.0)):
        for devices in (2, 4):
            for at, pattern in enumerate(("balanced", "to-one-40%", "all-to-one"), 1):
                ports = 10.0 * at * devices
                rows.append({"set": name, "way": way, "devices": devices, "pattern": pattern, "took_ms": ports * factor,
                             "took_least_ms": ports, "took_most_ms": 3 * ports, "ports_ms": ports, **FINE})  # fmt: skip
            summary.append({"set": name, "way": way, "devices": devices, "mape_percent": 100 * (1 - 1 / factor),
                            **FINE})  # fmt: skip
    return {"all_to_all": rows, "all_to_all_summary": summary}


def skew_tables(name):
    """Two layers at two numbers of tokens: laws take twice as long, a trace 1.2 times; the rule is 20 % off at most."""
    rows = []
    for served, us in SERVED.items():
        for tokens in (64, 2048):
            for devices in (1, 2, 4):
                balanced = us * tokens / 64 / devices
                what = {"set": name, "served": served, "dtype": "bfloat16", "step_tokens": tokens, "devices": devices}
                for spread, factor, error in (
                    ("balanced", 1.0, 0), ("power_law_1.01", 2.0, -20), ("power_law_1.2", 2.0, 10),
                ):  # fmt: skip
                    rows.append(what | {
                        "spread": spread, "layer_us": factor * balanced, "rule_error_percent": error,
                        "experts_us": 5 * balanced, "roofline_us": balanced / 2, **FINE,
                    })  # fmt: skip
                if served.startswith("toy"):
                    recorded = {"spread": "recorded", "trace": "decode", "layer_us": 1.2 * balanced}
                    rows.append(what | recorded | FINE)
    return {"skew": rows}


def skew_numbers():
    """The numbers of the claim, by served layer."""
    laws = {"devices": 4, "laws": [2.0, 2.0]}
    return {
        "toy (vllm 1, GPU)": laws | {"trace": "decode", "trace_over": 1.2},
        "small (vllm 1, GPU)": laws | {"laws": [1.5, 1.9], "trace": None},
    }
