"""The per_token mode of SGLang's recorder: records of passes become rows of a trace.

Where records name their requests (`rids`), a request is a sequence. Else a sequence is what one request has in one
pass: prompts are whole where prefill is not chunked, and every decoded token is a sequence of its own.
"""

import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from moe_replay.traces.command_line.number_limits import narrowed
from moe_replay.traces.errors import InputError
from moe_replay.traces.importers.reading.import_source import PADDING, Source, layer_numbers
from moe_replay.traces.importers.reading.sound_rows import sound_rows
from moe_replay.traces.importers.reading.token_rows import COPY_BITS, without_dense
from moe_replay.traces.importers.serving.recorder_passes import Pass, read_pass
from moe_replay.traces.selections import LARGEST_ROWS, Trace

ONE_PASS = "the recorder keeps no request ids: a sequence is what one request has in one pass"
BY_NAME = "a sequence is one request, by the records' rids"
MAPPED = "physical ids were mapped by last_physical_to_logical_map: the last one, if experts were moved"


def read_tokens(source: Source, contents: dict[Path, dict], logical_LP: np.ndarray) -> Trace:
    """Return the trace of the ranks' records, a file for each rank, in the order of passes, then of ranks."""
    by_rank: dict[int, Path] = {}
    passes = []
    for path, content in contents.items():
        found = passes_of(path, content["records"], len(logical_LP))
        if found[0].rank in by_rank:
            raise InputError(f"{path}: rank {found[0].rank} was in {by_rank[found[0].rank]}, allowed a file for each")
        by_rank[found[0].rank] = path
        passes += found
    passes.sort(key=lambda each: (each.number, each.rank))
    kept = [each for each in passes if len(each.position_T)]
    if not kept:
        raise InputError(f"{source.place}: no pass has tokens, allowed at least one with some")
    left_out = [f"{len(passes) - len(kept):,} of {len(passes):,} passes, without tokens (idle)"]
    left_out = left_out if len(kept) < len(passes) else []
    if stale := sum(each.stale for each in passes):
        if PADDING not in source.options.leave_out:
            first = next(each for each in passes if each.stale)
            found = f"topk_ids_of_layer has experts in {first.stale} rows behind the {len(first.position_T)} input_ids"
            raise InputError(f"{source.place}: {first.place}: {found}: stale padding; allowed: --leave-out {PADDING}")
        left_out.append(f"{stale:,} rows of padding behind the tokens of their pass")
    return assembled(source, with_columns(source, kept), logical_LP, left_out)


def passes_of(path: Path, records: list[dict], layers: int) -> list[Pass]:
    """Return the passes of one file, which must ascend and be of one rank."""
    found = [read_pass(f"{path}: record {at}", record, layers) for at, record in enumerate(records)]
    for at, (before, after) in enumerate(pairwise(found), 1):
        if not before.number < after.number or before.rank != after.rank:
            line = f"{after.place} after {before.place}, allowed ascending passes of one rank"
            raise InputError(f"{path}: record {at}: {line}")
    if found[0].number < 0 or found[-1].number > LARGEST_ROWS:
        numbers = f"{found[0].number}..{found[-1].number}"
        raise InputError(f"{path}: record 0: passes {numbers}, allowed ascending passes 0..{LARGEST_ROWS}")
    return found


def with_columns(source: Source, passes: list[Pass]) -> list[Pass]:
    """Return the passes with the columns that hold experts: --k and --shared-slots, or all that are not empty."""
    columns = {each.physical_TLK.shape[2] for each in passes}
    if len(columns) > 1:
        raise InputError(f"{source.place}: topk_ids_of_layer has {sorted(columns)!s:.40} columns, allowed equally many")
    shared, most = source.options.shared_slots or 0, columns.pop()
    used_K = np.logical_or.reduce([(each.physical_TLK != -1).any((0, 1)) for each in passes])
    used = int(np.flatnonzero(used_K)[-1]) + 1 if used_K.any() else 0
    k = used if source.options.k is None else source.options.k + shared
    if not shared < k <= most:
        beside = f" beside --shared-slots {shared}" if shared else ""
        raise InputError(f"{source.place}: --k is {k - shared}{beside}, allowed 1..{most}, the recorder's columns")
    if used > k:
        found = f"topk_ids_of_layer has experts in columns from {k} on"
        raise InputError(f"{source.place}: {found}, allowed -1 there: stale padding, or a larger --k")
    return [replace(each, physical_TLK=each.physical_TLK[:, :, :k]) for each in passes]


def sequence_numbers(passes: list[Pass]) -> tuple[np.ndarray, str]:
    """Return the sequence of every token, numbered as they appear, and how sequences were told."""
    named = all(each.rid_S is not None for each in passes)
    number_of: dict[object, int] = {}
    parts = []
    for each in passes:
        owners = [each.rid_S[at] for at in each.owner_T] if named else each.owner_T.tolist()
        apart_T = np.append(False, (each.owner_T[1:] == each.owner_T[:-1]) & (np.diff(each.position_T) <= 0))
        keys = [
            # a tree of drafts: tokens beside each other are no sequence
            (each.number, each.rank, at) if apart else owner if named else (each.number, each.rank, owner, "")
            for at, (owner, apart) in enumerate(zip(owners, (apart_T & (each.phase_T == 1)).tolist(), strict=True))
        ]
        parts += [number_of.setdefault(key, len(number_of)) for key in keys]
    return np.array(parts, np.int32), BY_NAME if named else ONE_PASS


def check_ranks(source: Source, passes: list[Pass], experts: int) -> None:
    """Refuse ranks that hold the same tokens with the same experts: tensor parallel ranks, which would count twice."""
    for before, after in pairwise(passes):
        if before.number != after.number or before.physical_TLK.shape != after.physical_TLK.shape:
            continue
        tokens, layers, k = after.physical_TLK.shape
        enough = k < experts and tokens * layers * math.log2(math.comb(experts, k)) >= COPY_BITS
        if enough and (before.physical_TLK == after.physical_TLK).all():
            found = f"{before.place} and {after.place} hold the same experts of all {tokens} tokens"
            raise InputError(f"{source.place}: {found}: the same tokens would count twice; allowed: one of these files")


def assembled(source: Source, passes: list[Pass], logical_LP: np.ndarray, left_out: list[str]) -> Trace:
    """Return the trace of all passes: dense layers left out, physical ids mapped to logical ones."""
    check_ranks(source, passes, logical_LP.shape[1])
    physical_TLK = np.concatenate([each.physical_TLK for each in passes])
    layer_ids = layer_numbers(source.options.layers, physical_TLK.shape[1])
    physical_TLK = without_dense(source.place, physical_TLK, layer_ids)
    routes = sound_rows(source, source.place, physical_TLK, layer_ids, logical_LP, whole=True)
    joined = {name: np.concatenate([getattr(each, name) for each in passes]) for name in ("token_id_T", "position_T")}
    length_P = [len(each.position_T) for each in passes]
    joined["step_T"] = np.repeat([each.number for each in passes], length_P)
    fields = {name: narrowed(name, values, np.int32) for name, values in joined.items()}
    fields["phase_T"] = np.concatenate([each.phase_T for each in passes])
    fields["sequence_T"], sequences = sequence_numbers(passes)
    fields["rank_T"] = np.repeat([each.rank for each in passes], length_P).astype(np.int16)
    said = left_out + list(routes.left_out)
    notes = {"sequences": sequences, "ids": MAPPED} | ({"left_out": said} if said else {})
    model = source.model(routes.experts_TLK.shape[2], layer_ids)
    return routes.only(source.trace(model, notes, experts_TLK=np.ascontiguousarray(routes.experts_TLK), **fields))
