"""`npz`: selections as plain arrays with sequence offsets, as this project's own npz importer reads them."""

from pathlib import Path

import numpy as np

from moe_replay.traces.command_line.files import replacing
from moe_replay.traces.errors import InputError
from moe_replay.traces.exporters.export_subject import Subject
from moe_replay.traces.load_trace import LoadTrace

SUFFIXES = (".npz",)


def write(subject: Subject, path: Path) -> None:
    """Write `experts` [T, L, K], `offsets`, `layer_ids`, and what else the importer of `npz` reads, where there is any.

    That is `scores`, `prompt_len`, `domain`, and `zero_experts`, how many of the last experts have no weights.
    Rows are put sequence by sequence; which step a token ran in is lost. InputError for counts, or for a placement.
    """
    trace = subject.recorded
    if isinstance(trace, LoadTrace) or subject.placement is not None:
        what = "a placement" if subject.placement is not None else "counts without tokens"
        raise InputError(f"npz: holds selections, not {what}; allowed: a trace of tokens alone")
    order_T = np.lexsort((np.arange(trace.T), trace.sequence_T))
    _, length_S = np.unique(trace.sequence_T, return_counts=True)
    arrays = {
        "experts": trace.experts_TLK[order_T], "offsets": np.append(0, length_S.cumsum()),
        "layer_ids": np.array(trace.header.model.layer_ids),
    }  # fmt: skip
    for name, values in (("scores", trace.scores_TLK), ("prompt_len", trace.prompt_len_S), ("domain", trace.domain_S)):
        if values is not None:
            arrays[name] = values[order_T] if name == "scores" else values
    if trace.header.model.zero_experts:
        arrays["zero_experts"] = np.array(trace.header.model.zero_experts)
    with replacing(path) as temporary, open(temporary, "wb") as opened:
        np.savez_compressed(opened, **arrays)
