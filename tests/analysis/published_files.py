"""Files of the form of SmartMoE's published ones, made here: times are exact lines through the heaviest load."""

import json

import numpy as np

ITERATIONS, RANKS, LAYERS, EXPERTS, POINTS = range(101, 4902, 100), 2, 2, 4, 40


def write_published_files(path):
    """Write logs, times (2 + 0.01 h of layers, 5 + 0.002 h of the search) and the search's loads into a folder."""
    rng = np.random.default_rng(0)
    (path / "moe_trace").mkdir(parents=True)
    load = rng.multinomial(64, rng.dirichlet(np.ones(EXPERTS)), size=(len(ITERATIONS), RANKS, LAYERS, 1)).astype(float)
    for at, iteration in enumerate(ITERATIONS):
        for rank in range(RANKS):
            lines = [f"{layer}:{load[at, rank, layer].tolist()}\n" for layer in range(LAYERS)]
            (path / "moe_trace" / f"table_iter{iteration}_rank{rank}.log").write_text("".join(lines))
    heaviest = load.sum((1, 3)).reshape(len(ITERATIONS), LAYERS, 2, 2).sum(3).max(2)
    work = rng.integers(1, 100, size=(POINTS, 16))
    np.savez(path / "fig13_layer6.npz", work_SE=work, plan_SE=work)
    static = work.reshape(POINTS, 8, 2).sum(2).max(1)
    real = (2 + 0.01 * heaviest).ravel()
    times = {"static": (5 + 0.002 * static).tolist()}
    made = {
        "fig11": {"2-4": {"real_ms": real.tolist(), "estimate_ms": (1.1 * real).tolist()}},
        "fig13": {
            "freq10": {
                "every_iterations": 10, "changes": 7, "fastmoe_ms": times["static"], "smartmoe_ms": times["static"]
            }
        },
    }  # fmt: skip
    (path / "measured_ms.json").write_text(json.dumps(made))
