"""Placements in other programs' files: a table of the expert of every slot, and what the file does not say of it."""

from __future__ import annotations

import numpy as np

from moe_replay.traces.errors import InputError
from moe_replay.traces.header import LARGEST_EXPERTS
from moe_replay.traces.importers.reading.import_source import Source, given
from moe_replay.traces.placements.expert_placement import ExpertPlacement


def placement_of(
    source: Source, place: str, expert_LP: np.ndarray, layer_ids: tuple[int, ...], experts: int | None = None
) -> ExpertPlacement:
    """Return the placement of a table [L, P] on --devices in --nodes; `experts` where the file tells them.

    Else they are --experts, or the largest number and one. InputError for a table that is no placement.
    """
    devices, nodes = given(source, "devices", "a placement's file does not tell"), source.options.nodes or 1
    stated = source.options.experts
    if None not in (stated, experts) and stated != experts:
        raise InputError(f"{place}: holds {experts} experts, but --experts is {stated}")
    experts = experts or stated or int(expert_LP.max()) + 1
    worst = int(max(experts, expert_LP.max(), -expert_LP.min()))
    if worst > LARGEST_EXPERTS:
        raise InputError(f"{place}: expert {worst}, allowed 0..{LARGEST_EXPERTS}")
    try:
        return ExpertPlacement(
            model=source.options.model or "unknown", experts=experts, devices=devices, nodes=nodes,
            layer_ids=layer_ids, expert_LP=expert_LP.astype(np.int16),
        )  # fmt: skip
    except InputError as error:
        raise InputError(f"{place}: {error}") from None
