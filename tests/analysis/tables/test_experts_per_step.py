"""How many distinct experts does a step of B sequences touch in a layer? N (1 - (1 - k/N)^B) where all are alike."""

import numpy as np
import pandas as pd
import pytest

from moe_replay.analysis.tables.miss_ratio import shown_misses, trace_rows
from moe_replay.simulate.misses.miss_curves import curve_rows
from moe_replay.traces.header import Header, ModelInfo
from moe_replay.traces.selections import Trace

EXPERTS, K, LAYERS = 8, 2, 2


def decoding(batch, steps=1500):
    """Steps of `batch` sequences with a token each; k of the experts, all alike, drawn anew for every token."""
    rng = np.random.default_rng(0)
    experts = np.argsort(rng.random((steps * batch, LAYERS, EXPERTS)), axis=2)[:, :, :K].astype(np.int16)
    header = Header(
        model=ModelInfo(name="toy", experts=EXPERTS, used_k=K, layer_ids=tuple(range(LAYERS))), gate_rule="none",
        score_kind=None, ranked=True, device="none", data={"name": None, "digest": None, "note": None},
    )  # fmt: skip
    step = np.repeat(np.arange(steps, dtype=np.int32), batch)
    return Trace(
        header=header, experts_TLK=experts, sequence_T=np.tile(np.arange(batch, dtype=np.int32), steps),
        position_T=step, step_T=step, phase_T=np.ones(steps * batch, np.int8),
    )  # fmt: skip


@pytest.mark.parametrize("batch", [1, 3, 4])
def test_distinct_experts_of_a_step_are_counted_and_printed(batch):
    trace = decoding(batch)
    counts = curve_rows(trace, grouped=("lru", "fifo", "lifo", "lfu", "belady"))
    rows = pd.DataFrame(trace_rows("s", "toy", counts))
    found = rows.loc[rows["mode"] == "group", "experts_per_step"].unique()
    counted = np.mean([
        len(np.unique(trace.experts_TLK[trace.step_T == step, layer]))
        for step in range(1500) for layer in range(LAYERS)
    ])  # fmt: skip
    assert found == pytest.approx([counted])
    assert counted == pytest.approx(EXPERTS * (1 - (1 - K / EXPERTS) ** batch), abs=0.06)
    assert f"{counted:.3f}" in shown_misses(rows)["experts/step"].tolist()
