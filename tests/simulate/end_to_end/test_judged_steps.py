"""How wide a step of a training may be where costs end."""

import numpy as np
import pytest

from moe_replay.simulate.end_to_end.judged_steps import widest_step
from moe_replay.traces.header import ModelInfo
from moe_replay.traces.load_trace import LoadTrace


@pytest.mark.parametrize(
    ("most", "largest", "tokens"),
    [
        (100, 100, 30),  # half of the iterations at the most
        (29, 100, 20),
        (100, 11, 20),  # three iterations would have 4 + 7 + 6 = 17 of the second expert, two have 11
        (100, 7, 10),
        (100, 6, None),
        (9, 100, None),
    ],
)
def test_a_step_is_as_wide_as_tokens_and_costs_allow(most, largest, tokens):
    hot_S = np.array([4, 7, 6, 5, 5, 5])
    load_SE = np.stack([10 - hot_S, hot_S], axis=1)
    loads = LoadTrace(
        model=ModelInfo(name="toy", experts=2, used_k=1, layer_ids=(0,)),
        data={"name": "toy", "digest": None, "note": None},
        load_SRMLE=load_SE[:, None, None, None].astype(np.int64),
        iteration_S=np.arange(6), rank_R=np.zeros(1, np.int32),
    )  # fmt: skip
    assert widest_step(loads, most, largest) == tokens
