"""Points in time whose loads are known: iterations of a load trace, or batches of a trace's rows.

Letters: S points, N rows of a batch, L layers, E experts, K experts of a token.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from moe_replay.simulate.placing.load_profile import LoadProfile
from moe_replay.simulate.placing.recorded_batches import counted_batches, token_batches
from moe_replay.traces.errors import InputError
from moe_replay.traces.file.trace_file import load_trace
from moe_replay.traces.header import ModelInfo
from moe_replay.traces.load_trace import LoadTrace, holds_loads, read_loads
from moe_replay.traces.selections import Trace

PHASES = ("prefill", "decode")  # of phase_T


@dataclass(frozen=True, eq=False, kw_only=True)
class LoadPoints:
    """`load_SLE` int64; `number_S` what the source calls the points; `experts_SNLK` their tokens, None for counts.

    `phase` is prefill, decode, or all. `layer_ids` are the model's own numbers of its layers, `expert_bytes` the size
    of one expert, None where the source does not tell. `sequence_SN` and `rank_SN` are those of the tokens, `model` is
    the source's.
    """

    name: str
    phase: str
    load_SLE: np.ndarray
    number_S: np.ndarray
    layer_ids: tuple[int, ...]
    expert_bytes: int | None = None
    experts_SNLK: np.ndarray | None = None
    sequence_SN: np.ndarray | None = None
    rank_SN: np.ndarray | None = None
    model: ModelInfo | None = None

    def known(self, start: int, stop: int) -> LoadProfile:
        """Return what is known of the points start..stop-1, as far as there are such."""
        part = slice(max(start, 0), stop)
        tokens = self.experts_SNLK
        return LoadProfile(self.load_SLE[part], None if tokens is None else tokens[part].reshape(-1, *tokens.shape[2:]))


def read_points(path: Path, batch: int) -> tuple[list[LoadPoints], str]:
    """Return (points of every phase, the file's digest); InputError for what is neither a trace nor a load trace.

    A load trace gives its iterations. A trace gives batches of `batch` rows, what is left over dropped: all rows in
    their order and, where it has both, those of prefill and of decode by themselves.
    """
    if path.is_file() and holds_loads(path):
        loads = read_loads(path)
        return [points_of_loads(loads, path.name)], loads.digest
    trace = load_trace(path)
    phases = [name for number, name in enumerate(PHASES) if (trace.phase_T == number).any()]
    rows = {"all": np.ones(trace.T, bool)}
    if len(phases) > 1:
        rows |= {name: trace.phase_T == PHASES.index(name) for name in phases}
    return [points_of_rows(trace, path.name, phase, wanted_T, batch) for phase, wanted_T in rows.items()], trace.digest


def points_of_loads(loads: LoadTrace, name: str) -> LoadPoints:
    """Return the iterations of a load trace, ranks and microbatches summed; those without selections are left out."""
    if not loads.used_S.any():
        raise InputError(f"{name}: holds no selections, allowed: some in one iteration at least")
    return LoadPoints(
        name=name, phase="all", load_SLE=counted_batches(loads).profile.load_BLE,
        number_S=loads.iteration_S[loads.used_S], layer_ids=loads.model.layer_ids,
        expert_bytes=loads.model.expert_bytes, model=loads.model,
    )  # fmt: skip


def points_of_rows(trace: Trace, name: str, phase: str, wanted_T: np.ndarray, batch: int) -> LoadPoints:
    """Return batches of some rows of a trace, numbered by their first row; InputError where they fill none."""
    row_X, model = np.flatnonzero(wanted_T), trace.header.model
    points = len(row_X) // batch
    if points == 0:
        raise InputError(f"{name}: {len(row_X)} rows ({phase}), allowed: at least one batch of {batch}")
    found = token_batches(trace, batch, wanted_T)
    profile = found.profile
    return LoadPoints(
        name=name, phase=phase, load_SLE=profile.load_BLE, number_S=row_X[: points * batch : batch].astype(np.int64),
        layer_ids=model.layer_ids, expert_bytes=model.expert_bytes,
        experts_SNLK=profile.experts_TLK.reshape(points, batch, *profile.experts_TLK.shape[1:]),
        sequence_SN=found.sequence_T.reshape(points, batch), model=model,
        rank_SN=None if found.rank_T is None else found.rank_T.reshape(points, batch),
    )  # fmt: skip
