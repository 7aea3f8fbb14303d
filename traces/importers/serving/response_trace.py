"""The trace of sequences that serving engines returned: turns of a conversation joined, traps of all rows checked."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from moe_replay.traces.command_line.number_limits import narrowed
from moe_replay.traces.errors import InputError
from moe_replay.traces.header import LARGEST_EXPERTS
from moe_replay.traces.importers.reading.id_maps import map_note, stated_map
from moe_replay.traces.importers.reading.import_source import Source, layer_numbers
from moe_replay.traces.importers.reading.sound_rows import sound_rows
from moe_replay.traces.importers.reading.token_rows import (
    ONE_AFTER_ANOTHER,
    Sequences,
    check_ids,
    without_dense,
    without_shared,
)
from moe_replay.traces.importers.serving.routed_arrays import KEY
from moe_replay.traces.importers.serving.token_counts import Tokens
from moe_replay.traces.selections import Trace

LAST_TOKEN = "the last generated token of a sequence is never routed and has no row"


@dataclass(frozen=True)
class Piece:
    """The rows [rows, hidden layers, k] of one sequence, its tokens, and whether the file itself says where they start.

    `response` is the place of the response that holds it.
    """

    place: str
    response: str
    experts_TLK: np.ndarray
    tokens: Tokens
    start_said: bool = False

    @property
    def prefill(self) -> int:
        """How many of the rows are the prompt's."""
        return min(max(self.tokens.prompt - self.tokens.start, 0), len(self.experts_TLK))

    def continues(self, before: "Piece") -> bool:
        """Return whether these rows begin where those before end, behind a prompt that holds all those tokens."""
        at_end = self.tokens.start == before.tokens.start + len(before.experts_TLK)
        follows = self.response != before.response and self.start_said and self.tokens.start > 0
        return follows and at_end and self.tokens.prompt >= before.tokens.total


def trace_of(source: Source, pieces: list[Piece], sequences: int) -> Trace:
    """Return the trace of what is left of so many sequences, checked for the traps that need all of them."""
    logical_LP = stated_map(source)
    rows_TLK = np.concatenate(list(rows_of(source, pieces, None if logical_LP is None else logical_LP.shape[1])))
    layer_ids = layer_numbers(source.options.layers, rows_TLK.shape[1])
    rows_TLK = without_dense(source.place, rows_TLK, layer_ids)
    routes = sound_rows(source, source.place, rows_TLK, layer_ids, logical_LP, whole=True)
    joined_S = np.array([False, *(after.continues(before) for before, after in pairwise(pieces))])
    rows = Sequences(
        np.array([len(piece.experts_TLK) for piece in pieces]), np.array([piece.prefill for piece in pieces]),
        np.array([piece.tokens.start for piece in pieces]), joined_S,
    )  # fmt: skip
    prompt_S = np.array([piece.prefill + piece.tokens.start for piece in pieces])[~joined_S]
    fields = rows.token_fields() | {"prompt_len_S": narrowed("prompt_len", prompt_S, np.int32)}
    aborted = sequences - len(pieces)
    lost = [f"{aborted:,} of {sequences:,} sequences, of responses that were aborted"] if aborted else []
    left_out = lost + list(routes.left_out)
    notes = ONE_AFTER_ANOTHER | {"rows": LAST_TOKEN} | map_note(source)
    if joined_S.any():
        notes["turns"] = f"{int(joined_S.sum())} responses continue the sequence before them, from where it ended"
    notes |= {"left_out": left_out} if left_out else {}
    model = source.model(routes.experts_TLK.shape[2], layer_ids)
    return routes.only(source.trace(model, notes, experts_TLK=np.ascontiguousarray(routes.experts_TLK), **fields))


def rows_of(source: Source, pieces: list[Piece], slots: int | None) -> Iterator[np.ndarray]:
    """Yield the rows of each sequence, ids checked; InputError for rows of another shape than those before.

    With physical `slots` ids are below these, else below the experts, shared ones counted.
    """
    shape, experts = None, slots or source.options.experts
    for piece in pieces:
        rows_TLK = piece.experts_TLK
        if rows_TLK.dtype.itemsize == 1 and np.iinfo(rows_TLK.dtype).max < experts - 1:
            raise InputError(f"{piece.place}: {KEY} is {rows_TLK.dtype}, allowed a wider type for {experts} experts")
        routed_TLK = rows_TLK if slots else without_shared(piece.place, rows_TLK, experts, source.options.shared_slots)
        check_ids(piece.place, routed_TLK, experts, lowest=-1)
        if shape not in (None, rows_TLK.shape[1:]):
            raise InputError(f"{piece.place}: rows are [layers, k] {rows_TLK.shape[1:]}, allowed {shape} as before")
        shape = rows_TLK.shape[1:]
        check_width(piece.place, rows_TLK)
        yield rows_TLK.astype(np.int16)


def check_width(place: str, rows_TLK: np.ndarray) -> None:
    """Refuse ids of shared experts that a trace cannot hold; those of routed ones are checked."""
    if rows_TLK.max() > LARGEST_EXPERTS:
        raise InputError(f"{place}: expert {rows_TLK.max()}, allowed up to {LARGEST_EXPERTS}")
