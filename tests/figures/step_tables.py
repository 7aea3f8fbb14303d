"""Tables of the figure peak_memory in small, in the form that `python -m analysis` writes them."""

FINE = {"status": "ok", "reason": ""}
REFUSED = {"status": "skipped", "reason": "draws"}
SHARES = {"eager": 1.0, "captured": 0.9, "bfs": 3.0, "lpmf": 0.8, "best": 0.6}


def step_tables(sets):
    return {"peak_memory": list(order_rows(sets)), "peak_memory_compiled": list(compiled_rows(sets))}


def order_rows(sets):
    for name in sets:
        for graph, model, checkpoint in (("vit-b8-ac", "vit", "layer"), ("cls-b8", "classifier", "none")):
            common = {"set": name, "graph": graph, "model": model, "batch_size": 8, "checkpoint": checkpoint,
                      "separate_experts": False, **FINE}  # fmt: skip
            for order, share in SHARES.items():
                yield common | {
                    "step_order": order, "interleaved": order not in ("eager", "captured"),
                    "over_eager_percent": 100 * (share - 1), "over_captured_percent": 100 * (share / 0.9 - 1),
                    "over_bound_percent": 100 * (share / 0.5 - 1),
                }  # fmt: skip
            yield common | {"step_order": "best", "interleaved": False, "over_eager_percent": -19,
                            "over_captured_percent": -10, "over_bound_percent": 5}  # fmt: skip


def compiled_rows(sets):
    for name in sets[:1]:
        for checkpoint in ("none", "layer"):
            for way, (share, time) in {
                "eager": (1, 1),
                "compiled": (1.25, 0.5),
                "compiled, pass": (1.1, 0.6),
                "whole step": (None, None),
            }.items():
                yield {"set": name, "model": "vit", "layers": 2, "experts": 4, "batch_size": 8,
                       "checkpoint": checkpoint, "way": way, "over_eager_percent": share and 100 * (share - 1),
                       "time_over_eager": time, **(FINE if share else REFUSED)}  # fmt: skip
