"""What a page must know of a trace and its costs before anything is asked: the ends of its sliders."""

from __future__ import annotations

from dataclasses import dataclass

from moe_replay.simulate.answers.trace_part import part_of
from moe_replay.simulate.config.run_config import RunConfig
from moe_replay.simulate.config.workload import GATE_MASS
from moe_replay.simulate.sweeps.shared_inputs import Study
from moe_replay.traces.errors import InputError
from moe_replay.traces.file.trace_file import load_trace

LARGEST_FIRST = (64, 32, 16, 8, 4, 2, 1)  # queue sizes at which a capacity is asked for: costs may end below the first


@dataclass(frozen=True)
class TraceFacts:
    """Sizes of a trace, and what may be asked of it.

    `ks` are the numbers of experts per token that it can be replayed at, `expert_bytes` None where neither trace nor
    costs tell, `masked` whether misses may be redirected or skipped. `recorded` says whether the trace tells when its
    sequences arrived, `decodes` whether it tells decoded tokens from prompts, so that runs have TTFT and TPOT.
    `capacity_per_s` are sequences per second with full batches of `capacity_batch`, None where there are no costs; then
    `no_costs` says why.
    """

    model: str
    layer_ids: tuple[int, ...]
    experts: int
    ks: tuple[int, ...]
    used_k: int
    sequences: int
    tokens: int
    selections: int
    expert_bytes: int | None
    masked: bool
    recorded: bool
    decodes: bool
    capacity_per_s: float | None
    capacity_batch: int | None
    no_costs: str
    digest: str


def facts_of(study: Study, expert_bytes: int | None = None) -> TraceFacts:
    """Return the facts of a study; InputError for a trace or a cost table that cannot be read."""
    opened = study.opened("trace")
    trace, model = opened.trace, opened.trace.header.model
    part = part_of(study, RunConfig())
    capacity, batch, reason = capacity_of(study)
    return TraceFacts(
        model=model.name, layer_ids=tuple(model.layer_ids), experts=trace.E,
        ks=tuple(trace.ks),
        used_k=model.used_k, sequences=part.of, tokens=trace.T, selections=part.of_selections,
        expert_bytes=expert_bytes or bytes_of(study), masked=masks(study),
        recorded=trace.arrival_ns_S is not None, decodes=bool((trace.phase_T > 0).any()),
        capacity_per_s=capacity, capacity_batch=batch, no_costs=reason, digest=opened.digest,
    )  # fmt: skip


def capacity_of(study: Study) -> tuple[float | None, int | None, str]:
    """Return sequences per second with full batches, the batch, and why there is no such number where there is none."""
    if study.costs is None and study.affine is None:
        return None, None, "no costs were given; allowed: --costs FILE|NAME or --affine A,B"
    study.cost_model(study.costs if study.costs is None or study.costs.is_file() else study.costs / "resident.parquet")
    reason = ""
    for batch in LARGEST_FIRST:
        try:
            return study.capacity_per_s(None, batch, True, 1), batch, ""
        except InputError as error:
            reason = str(error)
    return None, None, reason


def bytes_of(study: Study) -> int | None:
    """Return the bytes of an expert, None where nothing tells."""
    try:
        return study.expert_bytes()
    except InputError:
        return None


def masks(study: Study) -> bool:
    """Say whether a trace has what masked gating looks at: ranked candidates with gate mass, all with weights."""
    header = load_trace(study.trace).header  # what a study keeps open has lost its scores
    return bool(header.ranked and header.score_kind in GATE_MASS and not header.model.zero_experts)
