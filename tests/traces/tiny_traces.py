"""Hand-made traces that a reader can take in at a glance, and what makes larger ones from random numbers."""

from dataclasses import replace

import numpy as np

from moe_replay.traces.header import Header, ModelInfo
from moe_replay.traces.selections import Trace


def tiny_header(**changes):
    """Two MoE layers (the model's 1 and 3) of four experts."""
    model = ModelInfo(name="tiny", experts=4, used_k=2, layer_ids=(1, 3), d_model=8, d_ff=16, expert_bytes=1024)
    header = Header(
        model=model,
        gate_rule="topk_renormalised",
        score_kind="softmax",
        ranked=True,
        data={"name": "made by hand", "digest": None, "note": None},
        device="none",
    )
    return replace(header, **changes)


def tiny(header=None, **changes):
    """Three tokens, two layers, two slots: sequence 7 has a prompt of two tokens, sequence 5 is decoding one."""
    fields = {
        "experts_TLK": np.array([[[0, 1], [2, 3]], [[1, 0], [3, -1]], [[3, 2], [0, 1]]], np.int16),
        "scores_TLK": np.array([[[0.5, 0.25]] * 2, [[0.5, 0.5], [0.75, 0]], [[0.5, 0.25]] * 2], np.float32),
        "sequence_T": np.array([7, 7, 5], np.int32),
        "position_T": np.array([0, 1, 9], np.int32),
        "step_T": np.array([0, 0, 1], np.int32),
        "phase_T": np.array([0, 0, 1], np.int8),
        "label_S": np.array([50, 70], np.int32),
    }
    return Trace(header=header or tiny_header(), **{**fields, **changes})


def random_trace(rng, tokens=40, layers=2, slots=3, experts=8, score_kind="softmax", ranked=True, optional=True):
    """A trace with every optional field: sequences of up to five tokens, in batches of two that interleave."""
    model = ModelInfo(name="random", experts=experts, used_k=slots, layer_ids=tuple(range(1, 2 * layers, 2)))
    header = tiny_header(model=model, score_kind=score_kind, ranked=ranked)
    scores = rng.random((tokens, layers, experts), dtype=np.float32) * 0.9 + 0.05
    if score_kind == "softmax":
        scores /= scores.sum(-1, keepdims=True)
    order = np.argsort(-scores, axis=-1)[..., :slots]
    kept = np.take_along_axis(scores, order, -1)
    experts_TLK = order.astype(np.int16)
    empty = np.arange(slots) >= rng.integers(1, slots + 1, (tokens, layers, 1))
    experts_TLK[empty] = -1
    kept[empty] = 0
    pair, place = np.divmod(np.arange(tokens), 10)
    sequence_T = (2 * pair + place % 2).astype(np.int32)
    fields = {
        "position_T": (place // 2).astype(np.int32),
        "step_T": (pair * 5 + place // 2).astype(np.int32),
        "phase_T": (place >= 2).astype(np.int8),
    }
    if optional:
        count = len(np.unique(sequence_T))
        fields |= {
            "token_id_T": rng.integers(50_000, size=tokens, dtype=np.int32),
            "rank_T": rng.integers(8, size=tokens, dtype=np.int16),
            "norm_TL": rng.random((tokens, layers), dtype=np.float32),
            "label_S": rng.integers(-1, 10, count, dtype=np.int32),
            "prediction_S": rng.integers(10, size=count, dtype=np.int32),
            "domain_S": np.array(["law", "maths", "", "日本"])[rng.integers(4, size=count)],
            "prompt_len_S": rng.integers(9, size=count, dtype=np.int32),
            "arrival_ns_S": rng.integers(2**40, size=count, dtype=np.int64),
        }
    scores_TLK = kept if score_kind else None
    return Trace(header=header, experts_TLK=experts_TLK, scores_TLK=scores_TLK, sequence_T=sequence_T, **fields)


def assert_same(found, expected):
    """Two traces are the same in header, fields, types and every entry."""
    assert found.header == expected.header
    assert found.present == expected.present
    for name in expected.present:
        values = getattr(found, name)
        kinds = values.dtype.kind, getattr(expected, name).dtype.kind
        assert values.dtype == getattr(expected, name).dtype or kinds == ("U", "U")
        np.testing.assert_array_equal(values, getattr(expected, name))
