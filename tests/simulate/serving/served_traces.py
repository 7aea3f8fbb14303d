"""Traces of sequences with given lengths, for the tests of serving."""

import numpy as np

from moe_replay.traces.selections import Trace
from moe_replay.traces.synthetic import SyntheticSpec, synthetic_trace


def recorded(lengths, layers=2, experts=4, k=2, seed=0, **more):
    """A trace of sequences with given (prompt, decoded) lengths, one after another."""
    spec = SyntheticSpec(layers=layers, experts=experts, k=k, sequences=1, batch=1, prompt=(1, 1), decode=(1, 1))
    header = synthetic_trace(spec, np.random.default_rng(0), {}).trace.header
    rows = [(s, p, int(p >= prompt)) for s, (prompt, new) in enumerate(lengths) for p in range(prompt + new)]
    sequence_T, position_T, phase_T = np.array(rows).T
    first = np.append(True, (np.diff(sequence_T) != 0) | (phase_T[1:] == 1))
    draws = np.random.default_rng(seed)
    experts_TLK = np.argsort(draws.random((len(rows), layers, experts)), axis=2)[:, :, :k]
    scores_TLK = -np.sort(-draws.random((len(rows), layers, k)).astype(np.float32) / k)
    return Trace(
        header=header, experts_TLK=experts_TLK.astype(np.int16), scores_TLK=scores_TLK,
        sequence_T=sequence_T.astype(np.int32), position_T=position_T.astype(np.int32),
        step_T=(first.cumsum() - 1).astype(np.int32), phase_T=phase_T.astype(np.int8),
        prompt_len_S=np.array([prompt for prompt, _ in lengths], np.int32), **more,
    )  # fmt: skip
