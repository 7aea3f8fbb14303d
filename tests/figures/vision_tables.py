"""The tables behind the figure random_routing, as `python -m analysis` writes them."""

import numpy as np

MODELS = {"dense": (100, 100, 60.0, 1.0), "switch, 4 experts": (400, 400, 62.0, 1.3),
          "random routing, 4 experts": (400, 100, 58.0, 1.0)}  # fmt: skip


def vision_tables(sets):
    """Return {table: rows}; the first set's times are measured, the others' are not."""
    rows, epochs = [], []
    for name in sets:
        for label, (trained, deployed, accuracy, ratio) in MODELS.items():
            seconds = ratio * 10 if name == sets[0] else np.nan
            timed = {f"{what}_s{end}": seconds for what in ("training", "inference") for end in ("", "_min", "_max")}
            ratios = {f"inference_over_dense{end}": seconds / 10 for end in ("", "_low", "_high")}
            rows.append({
                "set": name, "label": label, "variant": label.split(",")[0].split()[0], "seeds": 2, "epochs": 4,
                "trained_parameters": trained, "deployed_parameters": deployed, "accuracy_percent": accuracy,
                "accuracy_percent_min": accuracy - 1, "accuracy_percent_max": accuracy + 1, "best_epochs": "4; 3",
                "threshold_percent": 59.0, "first_epochs_over": "2; 3" if accuracy > 59 else "not reached",
                **timed, **ratios, "status": "ok", "reason": "",
            })  # fmt: skip
            epochs += [
                {"set": name, "label": label, "seed": seed, "epoch": epoch,
                 "accuracy_percent": accuracy * epoch / 4 + seed, "mean_accuracy_percent": accuracy * epoch / 4 + 0.5}
                for seed in range(2) for epoch in range(1, 5)
            ]  # fmt: skip
    return {"random_routing": rows, "random_routing_epochs": epochs}
