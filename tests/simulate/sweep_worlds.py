"""A small trace, and sweeps of it that take as long as a test needs."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np

from moe_replay.simulate.config.run_config import RunConfig
from moe_replay.simulate.sweeps.shared_inputs import Study
from moe_replay.simulate.sweeps.sweep import sweep
from moe_replay.traces.file.trace_file import save_trace
from moe_replay.traces.header import Header, ModelInfo
from moe_replay.traces.selections import Trace

ROOT = Path(__file__).resolve().parents[2]
PROVENANCE = {"command": "a test", "seed": None, "python": "3", "packages": {}, "source_revision": "none"}


def toy_trace(tokens=200, layers=2, experts=6, k=2, expert_bytes=1000, scores=False):
    """Sequences of one token each, experts drawn evenly, all of them recorded, with scores if asked for."""
    rng = np.random.default_rng(5)
    scores_TLE = rng.dirichlet(np.ones(experts), (tokens, layers)).astype(np.float32)
    experts_TLK = np.argsort(-scores_TLE, axis=2)
    model = ModelInfo(name="toy", experts=experts, used_k=k, layer_ids=tuple(range(layers)), expert_bytes=expert_bytes)
    header = Header(
        model=model, gate_rule="top-k", score_kind="softmax" if scores else None, ranked=True, device="none",
        data={"name": None, "digest": None, "note": None},
    )  # fmt: skip
    ids = np.arange(tokens, dtype=np.int32)
    return Trace(
        header=header, experts_TLK=experts_TLK.astype(np.int16), sequence_T=ids, position_T=np.zeros(tokens, np.int32),
        step_T=ids // 8, phase_T=np.zeros(tokens, np.int8),
        scores_TLK=np.take_along_axis(scores_TLE, experts_TLK, axis=2) if scores else None,
    )  # fmt: skip


def toy_study(folder, **fields):
    """Write a toy trace into a folder, and return a study of it under affine costs."""
    path = Path(folder) / "toy.trace.parquet"
    if not path.exists():
        save_trace(toy_trace(**fields.pop("world", {})), path)
    return Study(path, affine="2000,100", **fields)


def named(*configs):
    """Return the configurations under their own names."""
    return {config.name: config for config in configs}


def closed_loops(sizes=(1, 4, 16), seeds=range(4), **fields):
    """Return closed loops of several queue sizes and seeds."""
    fields = {"arrivals": "closed", "in_flight": 16, **fields}
    return named(*(RunConfig(queue_size=size, seed=seed, **fields) for size in sizes for seed in seeds))


def swept(study, configs, out, **how):
    """Sweep in this process unless asked otherwise, with a provenance that is the same everywhere."""
    return sweep(study, configs, Path(out), provenance=PROVENANCE, **{"jobs": 1, **how})


def start(folder, *words):
    """Start a command in a folder, in a group of processes of its own; its output is read by `communicate`.

    It heeds Ctrl-C even where these tests run in a shell's background, which has its processes ignore it.
    """
    return subprocess.Popen(
        [sys.executable, "-m", "simulate", *map(str, words)], cwd=folder, start_new_session=True, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
