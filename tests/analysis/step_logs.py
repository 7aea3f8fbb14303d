"""Logs of ordered and of compiled training iterations with known answers, as `collect peak-memory` writes them."""

from moe_replay.traces.command_line.files import write_rows

STEP = {"model": "classifier", "checkpoint": "layer", "optimizer": "adam", "dispatch": "gathered",
        "separate_experts": False, "layers": 4, "experts": 8, "k": 2, "operations": 10, "storages": 8}  # fmt: skip
# order, interleaved, allocated, predicted, lower bound
ORDERS = {
    "cls-b64-ac": [
        ("eager", False, 1000, None, None), ("captured", False, 900, 900, None), ("lpmf", True, 850, 850, None),
        ("best", True, 600, 600, 600), ("best", False, 800, 800, 780),
    ],
    "cls-b128-ac": [
        ("eager", False, 2000, None, None), ("captured", False, 2000, 2000, None), ("lpmf", True, 3000, 3000, None),
        ("best", True, 1600, 1600, 1500), ("best", False, 1900, 1900, 1900),
    ],
}  # fmt: skip
WAYS = {"eager": (100, 10.0), "compiled": (121, 5.0), "compiled, pass": (114, 6.0), "whole step": (None, None)}


def write_step_logs(folder):
    folder.mkdir(parents=True)
    for name, orders in ORDERS.items():
        rows = [
            {"graph": name, **STEP, "batch_size": int(name.split("-")[1][1:]), "step_order": order,
             "interleaved": free, "allocated_bytes": allocated, "predicted_bytes": predicted,
             "counted_bytes": predicted, "lower_bound_bytes": bound, "by": order if predicted else "",
             "search_s": 0.5 if predicted else None, "same_bits": True}
            for order, free, allocated, predicted, bound in orders
        ]  # fmt: skip
        write_rows(folder / f"{name}.orders.csv", rows)
    for name, checkpoint in (("vit-b8", "none"), ("vit-b8-ac", "layer")):
        rows = [
            {"graph": name, "model": "vit", "layers": 2, "experts": 4, "batch_size": 8, "checkpoint": checkpoint,
             "way": way, "step_peak_bytes": peak, "step_ms": time, "processor_ms": time, "rounds": 5,
             "status": "ok" if peak else "skipped", "reason": "" if peak else "draws"}
            for way, (peak, time) in WAYS.items()
        ]  # fmt: skip
        write_rows(folder / f"{name}.compiled.csv", rows)
