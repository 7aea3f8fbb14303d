"""Logs of vision transformers with known answers, in the form that `collect vision-grid` and `vision-times` write."""

import pandas as pd

ACCURACY = {("dense", 1): 60.0, ("switch", 4): 61.0, ("switch", 8): 62.0, ("random", 4): 58.0}
TRAINING_S = {("dense", 1): 2.0, ("switch", 4): 2.6, ("switch", 8): 3.0, ("random", 4): 2.2}
INFERENCE_S = {("dense", 1): 1.0, ("switch", 4): 1.3, ("switch", 8): 1.3, ("random", 4): 1.01}


def results(seeds=2):
    return pd.DataFrame([
        {
            "data": "toy", "variant": variant, "experts": experts, "consistency": 0, "seed": seed, "epochs": 8,
            "trained_parameters": 1000 * experts, "deployed_parameters": 1000 * (experts if variant == "switch" else 1),
            "best_accuracy_percent": accuracy + 0.2 * seed, "best_epoch": 8 - seed,
            "final_accuracy_percent": accuracy, "threshold_percent": 59.0,
            "first_epoch_over": "not reached" if accuracy < 59 else str(5 + seed), "training_s": 99.0,
        }
        for (variant, experts), accuracy in ACCURACY.items() for seed in range(seeds)
    ])  # fmt: skip


def epochs(seeds=2):
    return pd.DataFrame([
        {
            "data": "toy", "variant": variant, "experts": experts, "consistency": 0, "seed": seed, "epoch": epoch,
            "loss": 2.0 / epoch, "test_accuracy": accuracy / 100 * epoch / 8,
            "drawn_accuracy": accuracy / 100 * epoch / 9 if variant == "random" else None, "seconds": 10.0,
        }
        for (variant, experts), accuracy in ACCURACY.items() for seed in range(seeds) for epoch in range(1, 9)
    ])  # fmt: skip


def times(drift=0.1):
    """Every repetition is slower than the one before by `drift`, for all configurations alike."""
    return pd.DataFrame([
        {
            "variant": variant, "experts": experts, "consistency": 0, "repetition": repetition, "what": what,
            "images": images, "seconds": seconds[variant, experts] * (1 + drift * repetition),
        }
        for what, seconds, images in (("training", TRAINING_S, 5000), ("inference", INFERENCE_S, 60000))
        for variant, experts in ACCURACY for repetition in range(1, 6)
    ])  # fmt: skip


def write_vision_logs(folder):
    results().to_csv(folder / "vision.csv", index=False)
    epochs().to_csv(folder / "vision_epochs.csv", index=False)
    times().to_csv(folder / "vision_times.csv", index=False)
