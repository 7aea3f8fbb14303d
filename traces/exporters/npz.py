"""`npz`: selections as plain arrays with sequence offsets, as this project's own npz importer reads them."""

from pathlib import Path

import numpy as np

from moe_replay.traces.command_line.files import replacing
from moe_replay.traces.errors import InputError
from moe_replay.traces.exporters.export_subject import HEADER, LAYERS, TOKENS, ZERO, K, Subject
from moe_replay.traces.importers.sequences.whole_trace import beside_selections
from moe_replay.traces.load_trace import LoadTrace
from moe_replay.traces.selections import Trace

SUFFIXES = (".npz",)
KEEPS = (TOKENS, HEADER, LAYERS, K, ZERO)


def write(subject: Subject, path: Path) -> None:
    """Write `experts` [T, L, K], `offsets`, `layer_ids`, and what else the importer of `npz` reads, where there is any.

    That is `scores`, `prompt_len`, `domain`, `zero_experts`, how many of the last experts have no weights, and
    `chosen_first`, the k of rows that hold what was left behind the chosen.
    Rows are put sequence by sequence. Tokens that are missing in a sequence, as its positions tell, are rows of -1.
    Beside them is the rest of the trace, its header and the order of its rows too (`whole_trace`), so that it comes
    back equal. InputError for counts, for a placement, and for more missing tokens than there are.
    """
    trace = subject.recorded
    if isinstance(trace, LoadTrace) or subject.placement is not None:
        what = "a placement" if subject.placement is not None else "counts without tokens"
        raise InputError(f"npz: holds selections, not {what}; allowed: a trace of tokens alone")
    order_T = np.lexsort((np.arange(trace.T), trace.sequence_T))
    missing_T = missing_before(trace, order_T)
    if (lost := int(missing_T.sum())) > trace.T:
        raise InputError(f"npz: {lost:,} tokens are missing between {trace.T:,}; allowed: at most as many")
    row_T = np.arange(trace.T) + np.cumsum(missing_T)
    at_T = np.searchsorted(trace.sequences_S, trace.sequence_T[order_T])
    length_S = np.bincount(at_T, 1 + missing_T).astype(np.int64)
    experts_TLK = np.full((trace.T + lost, trace.L, trace.K), -1, np.int16)
    experts_TLK[row_T] = trace.experts_TLK[order_T]
    arrays = {"experts": experts_TLK, "offsets": np.append(0, length_S.cumsum())}
    arrays["layer_ids"] = np.array(trace.header.model.layer_ids)
    arrays |= beside_selections(trace, row_T, order_T, len(experts_TLK))
    if trace.header.model.zero_experts:
        arrays["zero_experts"] = np.array(trace.header.model.zero_experts)
    if trace.header.chosen_first:
        arrays["chosen_first"] = np.array(trace.header.model.used_k)
    with replacing(path) as temporary, open(temporary, "wb") as opened:
        np.savez_compressed(opened, **arrays)


def missing_before(trace: Trace, order_T: np.ndarray) -> np.ndarray:
    """Return how many tokens of its sequence are missing right before each, in the order given.

    What is before the first token is missing where the sequence has a part of a prompt whose length is known.
    """
    sequence_T, position_T = trace.sequence_T[order_T], trace.position_T[order_T].astype(np.int64)
    first_T = np.append(True, sequence_T[1:] != sequence_T[:-1])
    at_T = np.searchsorted(trace.sequences_S, sequence_T)
    has_prompt_S = np.zeros(trace.S, bool)
    has_prompt_S[at_T[trace.phase_T[order_T] == 0]] = trace.prompt_len_S is not None
    between_T = np.maximum(np.diff(position_T, prepend=0) - 1, 0)
    return np.where(first_T, position_T * has_prompt_S[at_T], between_T)
