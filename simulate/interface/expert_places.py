"""`moe_replay.place`: experts on devices, and how balanced that is on what planners did not see."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from moe_replay.simulate.interface.miss_counting import names
from moe_replay.simulate.interface.table_result import TableResult
from moe_replay.simulate.placing.fitted_parts import FITS, opened, parts_of
from moe_replay.simulate.placing.placing_plan import PlacingPlan, placed
from moe_replay.simulate.placing.scores import useless_replicas
from moe_replay.simulate.placing.written_placements import as_placement
from moe_replay.traces.command_line.provenance import provenance
from moe_replay.traces.errors import InputError
from moe_replay.traces.load_trace import LoadTrace
from moe_replay.traces.placements.expert_placement import ExpertPlacement, save_placement
from moe_replay.traces.selections import Trace

PRINTED = [
    "planner", "known", "redundant", "split", "device_max_over_mean", "max_load", "avg_max_load", "fan_out",
    "device_copies", "node_copies",
]  # fmt: skip


@dataclass(frozen=True, repr=False)
class Placements(TableResult):
    """Scores by planner, redundant experts and split, in the columns that `simulate place --out` writes.

    `placements` holds what was placed, by planner and redundant experts; those with an expert twice on a device, which
    EPLB makes, are left out.
    """

    placements: dict[tuple[str, int], ExpertPlacement] = field(default_factory=dict)

    def summary(self) -> str:
        """Return the scores as a table for people, and what was known."""
        return self.text(PRINTED)

    def save(self, path: Path | str, method: str, redundant: int = 0) -> None:
        """Write one placement as a file that commands take; InputError where there is none, or a file already."""
        if (method, redundant) not in self.placements:
            known = ", ".join(f"{name} with {count}" for name, count in self.placements)
            raise InputError(f"no placement by {method!r} with {redundant} redundant experts; known: {known}")
        if Path(path).exists():
            raise InputError(f"{path}: is there already; allowed: another name")
        save_placement(self.placements[method, redundant], path, provenance())


def place(
    trace: Trace | LoadTrace | Path | str,
    *,
    method: str | Sequence[str] = ("contiguous", "lpt"),
    devices: int = 8,
    nodes: int = 1,
    redundant: int | Sequence[int] = 0,
    split: str | Sequence[str] = "even",
    repair: bool = False,
    expert_bytes: int | None = None,
    fit: Trace | LoadTrace | Path | str = "first-half",
    batch: int = 256,
) -> Placements:
    """Place the experts of a trace (or its file, or counts) on devices, and score the placements.

    `method` names planners, `NAME=NUMBER` with a parameter, or `bound`. `redundant` are slots beyond one for each
    expert, `split` how replicas share: even, best, round-robin, nearest. Planners see the first half of the batches of
    `batch` tokens, and the rest is scored; `fit` may be another word of `simulate place --fit`, or another trace.
    `repair` packs anew what holds an expert twice on a device. `expert_bytes` is the trace's, unless given.

    InputError for an unknown name, and for what cannot be.
    """
    recorded = opened(Path(trace)) if isinstance(trace, str | Path) else trace
    word, others = ("another trace", [fit]) if isinstance(fit, Trace | LoadTrace) else (str(fit), [])
    if not others and word not in FITS:
        others = [opened(Path(word))]
    model = recorded.model if isinstance(recorded, LoadTrace) else recorded.header.model
    plan = PlacingPlan(
        methods=names(method), devices=devices, nodes=nodes, splits=names(split), repair=repair,
        redundant=(redundant,) if isinstance(redundant, int) else tuple(redundant),
        expert_bytes=expert_bytes or model.expert_bytes,
    )  # fmt: skip
    parts = parts_of(recorded, word, others, batch)
    made = placed(plan, parts)
    kept = {
        (name, count): as_placement(expert_LP, made.shapes[count], model)
        for (name, count), expert_LP in made.expert_LP.items()
        if not useless_replicas(expert_LP, devices).any()
    }
    return Placements(tuple(made.rows), (parts.said,), kept)
