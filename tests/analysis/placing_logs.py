"""Loads over training in small, and what `simulate place`, `rebalance` and `end-to-end` make of a folder of logs."""

import numpy as np
from typer.testing import CliRunner

from moe_replay.simulate.__main__ import app
from moe_replay.traces.header import ModelInfo
from moe_replay.traces.load_trace import LoadTrace

SYSTEMS = (
    "--affine", "5000,100", "--step-tokens", 400, "--devices", 2, "--systems",
    "contiguous,lpt,smartmoe-adaptive,eplb,eplb-adaptive", "--redundant", 2, "--links", "h100-ndr", "--nodes", "1,2",
    "--micro-batches", "1,2", "--token-bytes", 5760,
)  # fmt: skip
PLANNERS = "contiguous,greedy,anti-correlation,anti-correlation=0.02,lpt,eplb,bound"


def training_loads(w_balance):
    """Twelve points of a model with eight experts in two layers; without its balance loss the first two are hot."""
    rng = np.random.default_rng(int(100 * w_balance))
    share_E = np.array([5, 4, 1, 1, 1, 1, 1, 1]) if w_balance == 0 else np.ones(8)
    load = rng.multinomial(200, share_E / share_E.sum(), size=(12, 1, 1, 2))
    return LoadTrace(
        model=ModelInfo(name="toy-moe", experts=8, used_k=1, layer_ids=(0, 1), expert_bytes=1000),
        data={"name": "toy", "digest": None, "note": None}, load_SRMLE=load,
        iteration_S=np.arange(12) * 5 + 1, rank_R=np.zeros(1, np.int32), notes={"config": {"w_balance": w_balance}},
    )  # fmt: skip


def write_training_loads(folder):
    """Write loads of a training with and of one without balance loss."""
    (folder / "training").mkdir(parents=True)
    for name, w_balance in (("balanced", 0.01), ("unbalanced", 0.0)):
        training_loads(w_balance).save(folder / "training" / f"{name}.loads.parquet")


def write_simulated_placements(logs, simulated):
    """Write what a folder of logs asks of `simulate place`, `rebalance` and `end-to-end`, in small."""
    for folder in sorted(logs.glob("*/*")):
        out = simulated / folder.relative_to(logs)
        for name in ("wide.trace.parquet", "language-decode.trace.parquet", "training/unbalanced.loads.parquet"):
            if (folder / name).exists():
                short = "training" if name.startswith("training") else name.removesuffix(".trace.parquet")
                place = ("place", folder / name, "--devices", 2, "--batch", 20, "--method", PLANNERS)
                called(*place, "--redundant", "0,2", "--out", out / "placed" / short)
        for loads in sorted((folder / "training").glob("*.loads.parquet")):
            name = f"{loads.name.removesuffix('.loads.parquet')}.csv"
            rule = ("--method", "smartmoe", "--devices", 2, "--interval", "0,1,3", "--threshold", "1,1.1", "--points")
            called("rebalance", loads, *rule, "--out", out / "rebalanced" / name)
        if (loads := folder / "training" / "unbalanced.loads.parquet").exists():
            called("end-to-end", loads, *SYSTEMS, "--out", out / "end_to_end" / "training.csv")


def called(*words):
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == 0, (words, done.output, done.exception)
