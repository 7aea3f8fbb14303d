"""The per_token mode of SGLang's recorder: records of passes become rows of a trace.

The recorder keeps no request ids, so a sequence of the trace is what one request has in one pass: prompts are whole
where prefill is not chunked, and every decoded token is a sequence of its own.
"""

from pathlib import Path

import numpy as np

from moe_replay.traces.command_line.number_limits import narrowed
from moe_replay.traces.errors import InputError
from moe_replay.traces.importers.reading.import_source import Source, layer_numbers
from moe_replay.traces.importers.reading.token_rows import (
    check_copies,
    check_ids,
    check_no_shared,
    without_dense,
    without_shared,
)
from moe_replay.traces.importers.reading.torch_file import pass_and_rank, whole_numbers
from moe_replay.traces.selections import LARGEST_ROWS, Trace

COLUMNS = 8  # hard-coded in the recorder, whatever the model's k
EXTEND, DECODE = 1, 2  # SGLang's ForwardMode
NOTES = {
    "sequences": "the recorder keeps no request ids: a sequence is what one request has in one pass",
    "ids": "physical ids were mapped by last_physical_to_logical_map: the last one, if experts were moved",
}


def read_tokens(source: Source, path: Path, content: dict, logical_LP: np.ndarray) -> Trace:
    """Return the trace of one rank's records, whose passes must ascend."""
    shared = source.options.shared_slots or 0
    if source.options.k + shared > COLUMNS:
        beside = f" beside --shared-slots {shared}" if shared else ""
        raise InputError(f"{path}: --k is {source.options.k}{beside}, allowed 1..{COLUMNS}, the recorder's columns")
    pieces, before = [], (-1, None)
    for at, record in enumerate(content["records"]):
        place = f"{path}: record {at}"
        number, rank = pass_and_rank(place, record)
        if not before[0] < number <= LARGEST_ROWS or before[1] not in (None, rank):
            found = f"pass {number} of rank {rank}" + (f" after pass {before[0]} of rank {before[1]}" if at else "")
            raise InputError(f"{place}: {found}, allowed ascending passes of one rank")
        before = number, rank
        piece = token_fields(place, record)
        tokens = len(piece["position_T"])
        physical_TLK = rows(place, record, tokens, source.options.k + shared, len(logical_LP))
        pieces.append(piece | {"physical_TLK": physical_TLK, "step_T": np.full(tokens, number)})
    joined = {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}
    return assembled(source, joined, rank, logical_LP)


def token_fields(place: str, record: dict) -> dict[str, np.ndarray]:
    """Return token ids, positions, phases and which rows begin a request; InputError if their numbers differ."""
    token_id_T, position_T = (whole_numbers(place, record, key, 1) for key in ("input_ids", "positions"))
    mode, tokens = int(whole_numbers(place, record, "forward_mode", 0)), len(token_id_T)
    if mode not in (EXTEND, DECODE):
        raise InputError(f"{place}: forward_mode is {mode}, allowed {EXTEND} (extend) or {DECODE} (decode)")
    if len(position_T) != tokens or not tokens:
        raise InputError(f"{place}: {tokens} input_ids, {len(position_T)} positions, allowed equally many, at least 1")
    for key, values in (("input_ids", token_id_T), ("positions", position_T)):
        if values.min() < 0 or values.max() > LARGEST_ROWS:
            raise InputError(f"{place}: {key} has {values.min()}..{values.max()}, allowed 0..{LARGEST_ROWS}")
    first_T = np.ones(tokens, bool)  # every decoded token is of another request
    if mode == EXTEND:
        length_S = whole_numbers(place, record, "extend_seq_lens", 1)
        if (length_S < 1).any() or length_S.sum() != tokens:
            found = f"extend_seq_lens is {length_S.tolist()!s:.60}"
            raise InputError(f"{place}: {found}, allowed numbers >= 1 that sum to {tokens}, the input_ids")
        first_T[:] = False
        first_T[np.cumsum(length_S) - length_S] = True
    phase_T = np.full(tokens, int(mode == DECODE), np.int8)
    return {"token_id_T": token_id_T, "position_T": position_T, "phase_T": phase_T, "first_T": first_T}


def rows(place: str, record: dict, tokens: int, k: int, layers: int) -> np.ndarray:
    """Return a record's physical ids [tokens, layers, k]; InputError for ids where the recorder has only padding."""
    physical_LTK = whole_numbers(place, record, "topk_ids_of_layer", 3)
    if physical_LTK.shape[0] != layers or physical_LTK.shape[1] < tokens or physical_LTK.shape[2] != COLUMNS:
        found = f"topk_ids_of_layer has shape {physical_LTK.shape}"
        raise InputError(f"{place}: {found}, allowed ({layers}, >= {tokens}, {COLUMNS}): layers, input_ids, columns")
    for beyond, what in (
        (physical_LTK[:, tokens:], f"rows from {tokens} on"),
        (physical_LTK[:, :, k:], f"columns from {k} on"),
    ):
        if (beyond != -1).any():
            raise InputError(f"{place}: topk_ids_of_layer has experts in {what}, allowed -1 there: stale padding")
    return physical_LTK[:, :tokens, :k].transpose(1, 0, 2)


def assembled(source: Source, joined: dict[str, np.ndarray], rank: int, logical_LP: np.ndarray) -> Trace:
    """Return the trace of all records: dense layers left out, physical ids mapped to logical ones."""
    physical_TLK = joined.pop("physical_TLK")
    layer_ids = layer_numbers(source.options.layers, physical_TLK.shape[1])
    physical_TLK = without_dense(source.place, physical_TLK, layer_ids)
    check_ids(f"{source.place}: physical ids", physical_TLK, logical_LP.shape[1], layer_ids=layer_ids)
    experts_TLK = logical_LP[np.array(layer_ids)[:, None], physical_TLK].astype(np.int16)
    experts_TLK = without_shared(source.place, experts_TLK, source.options.experts, source.options.shared_slots)
    check_no_shared(source.place, experts_TLK, source.options.experts, source.options.shared_slots)
    check_copies(source.place, experts_TLK, layer_ids, source.options.experts)
    model = source.model(source.options.k, layer_ids)
    fields = {name: narrowed(name, joined[name], np.int32) for name in ("token_id_T", "position_T", "step_T")}
    fields["sequence_T"] = (np.cumsum(joined["first_T"]) - 1).astype(np.int32)
    fields["rank_T"] = np.full(len(experts_TLK), rank, np.int16)
    return source.trace(model, NOTES, experts_TLK=experts_TLK, phase_T=joined["phase_T"], **fields)
