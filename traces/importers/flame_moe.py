"""`flame-moe`: the published traces of FLAME-MoE, Parquet files by layer that line up row by row.

`actives/iter_N/layer_NN.parquet` holds {scores: list<f16>[6], indices: list<i16>[6]}, `samples/*.parquet` {token_id}.
Shared experts are not in them.
"""

import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from moe_replay.traces.errors import InputError
from moe_replay.traces.file.parquet import DAMAGE
from moe_replay.traces.importers.reading.import_source import NO_SCORES, Source
from moe_replay.traces.importers.reading.token_rows import ONE_AFTER_ANOTHER, Sequences, check_copies, check_ids
from moe_replay.traces.importers.reading.unrouted import routes_of
from moe_replay.traces.selections import LARGEST_ROWS, Trace

EXPERTS = 64
LAYER_COLUMNS, SAMPLE_COLUMNS = {"scores", "indices"}, {"token_id"}
LAYER_NAME = re.compile(r"layer_(\d{1,6})\.parquet")


def read(source: Source) -> Trace:
    """Return the trace of one iteration: the folder `actives/iter_N` or its files, and sample files if wished.

    The stream of tokens is cut into sequences of --sequence-tokens, each a prefill pass.
    """
    layers, samples = sorted_out(source)
    layer_ids = tuple(sorted(layers))
    experts, scored = source.options.experts or EXPERTS, source.options.score_kind != NO_SCORES
    experts_TLK, scores_TLK = None, None
    for at, layer_id in enumerate(layer_ids):
        path = layers[layer_id]
        indices_TK, scores_TK = layer_of(path)
        check_ids(str(path), indices_TK[:, None], experts, layer_ids=(layer_id,))
        if experts_TLK is None:
            shape = (len(indices_TK), len(layer_ids), indices_TK.shape[1])
            experts_TLK = np.empty(shape, np.int16)
            scores_TLK = np.empty(shape, np.float32) if scored else None
        if indices_TK.shape != (expected := (len(experts_TLK), experts_TLK.shape[2])):
            found = f"{indices_TK.shape[0]} rows of {indices_TK.shape[1]} experts"
            raise InputError(
                f"{path}: {found}, allowed {expected[0]} of {expected[1]} as in {layers[layer_ids[0]].name}"
            )
        experts_TLK[:, at] = indices_TK
        if scored:
            scores_TLK[:, at] = scores_TK
    routes = routes_of(source, source.place, experts_TLK, layer_ids, experts)
    if scored:
        scores_TLK[routes.experts_TLK < 0] = 0
    check_copies(source.place, routes.experts_TLK[routes.kept_T], layer_ids, experts)
    fields = sequences(source, len(experts_TLK)).token_fields() | token_ids(samples, len(experts_TLK))
    model = source.model(source.options.k or experts_TLK.shape[2], layer_ids, experts)
    files = [*(layers[layer_id] for layer_id in layer_ids), *samples]
    notes = ONE_AFTER_ANOTHER | ({"left_out": list(routes.left_out)} if routes.left_out else {})
    fields |= {"experts_TLK": routes.experts_TLK, "scores_TLK": scores_TLK}
    return routes.only(source.trace(model, notes, files, **fields))


def sorted_out(source: Source) -> tuple[dict[int, Path], list[Path]]:
    """Return ({layer number: file}, sample files); InputError for a file that is neither, or a layer twice."""
    layers, samples = {}, []
    for given in source.paths:
        paths = sorted(given.glob("*.parquet")) if given.is_dir() else [given]
        if not paths:
            raise InputError(f"{given}: a folder without .parquet files, allowed actives/iter_N")
        for path in paths:
            columns = set(parquet(path).names)
            if columns == SAMPLE_COLUMNS:
                samples.append(path)
                continue
            if columns != LAYER_COLUMNS:
                found = f"columns {', '.join(sorted(columns)) or 'none'}"
                raise InputError(f"{path}: {found}, allowed scores and indices, or token_id")
            name = LAYER_NAME.fullmatch(path.name)
            if not name:
                raise InputError(f"{path}: selections of an unknown layer, allowed the name layer_NN.parquet")
            if (number := int(name[1])) in layers:
                raise InputError(f"{path}: layer {number} was in {layers[number]}, allowed: one iteration's layers")
            layers[number] = path
    if not layers:
        raise InputError(f"{source.place}: no selections, allowed files layer_NN.parquet")
    if len(folders := sorted({str(path.resolve().parent) for path in layers.values()})) > 1:
        names = " and ".join(Path(folder).name for folder in folders[:2])
        raise InputError(f"{source.place}: layers of {names}, allowed: one iteration's layers")
    return layers, samples


def parquet(path: Path, column: str | None = None) -> pa.Schema | pa.Array:
    """Return a Parquet file's schema, or one of its columns; InputError if it is missing or damaged, or has nulls."""
    try:
        if column is None:
            return pq.read_schema(path)
        values = pq.read_table(path, columns=[column])[column].combine_chunks()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except DAMAGE as error:
        raise InputError(f"{path}: not a whole Parquet file ({str(error)[:80]})") from None
    if values.null_count:
        raise InputError(f"{path}: column {column} has {values.null_count} nulls, allowed none")
    return values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values


def layer_of(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return (indices, scores) [T, K] of a layer's file."""
    indices, scores = lists(path, "indices"), lists(path, "scores")
    if indices.shape != scores.shape:
        raise InputError(f"{path}: scores have shape {scores.shape}, allowed {indices.shape} as the indices")
    if scores.dtype.kind != "f":
        raise InputError(f"{path}: scores are {scores.dtype}, allowed floating point")
    return indices, scores.astype(np.float32)


def lists(path: Path, column: str) -> np.ndarray:
    """Return a column of equally long lists as an array [rows, length]; InputError where they differ."""
    values = parquet(path, column)
    if not pa.types.is_list(values.type) and not pa.types.is_fixed_size_list(values.type):
        raise InputError(f"{path}: column {column} holds {values.type}, allowed lists of numbers")
    length_T = values.value_lengths().to_numpy(zero_copy_only=False)
    if not len(length_T):
        raise InputError(f"{path}: no rows, allowed at least one")
    if (length_T != length_T[0]).any():
        at = int((length_T != length_T[0]).argmax())
        found = f"row {at}: {column} has {length_T[at]} entries"
        raise InputError(f"{path}: {found}, allowed {length_T[0]} as in row 0: stale padding, or another model")
    flat = values.flatten()
    if flat.null_count:
        raise InputError(f"{path}: column {column} has {flat.null_count} nulls in its lists, allowed none")
    numeric = pa.types.is_integer(flat.type) or pa.types.is_floating(flat.type)
    if not numeric:
        raise InputError(f"{path}: column {column} holds {values.type}, allowed lists of numbers")
    return flat.to_numpy(zero_copy_only=False).reshape(len(length_T), -1)


def sequences(source: Source, tokens: int) -> Sequences:
    """Return equally long sequences, each one prompt; InputError if they do not fill the rows."""
    length = source.options.sequence_tokens
    if tokens % length:
        raise InputError(f"{source.place}: {tokens} rows, allowed a multiple of --sequence-tokens {length}")
    length_S = np.full(tokens // length, length)
    return Sequences(length_S, length_S, np.zeros_like(length_S))


def token_ids(samples: list[Path], tokens: int) -> dict[str, np.ndarray]:
    """Return token_id_T of sample files in their order, nothing without files; InputError for another number."""
    if not samples:
        return {}
    parts = []
    for path in samples:
        values = parquet(path, "token_id")
        if not pa.types.is_integer(values.type):
            raise InputError(f"{path}: column token_id holds {values.type}, allowed whole numbers")
        ids = values.to_numpy(zero_copy_only=False).astype(np.int64)
        if ids.size and not (ids.min() >= 0 and ids.max() <= LARGEST_ROWS):
            raise InputError(f"{path}: token_id has {ids.min()}..{ids.max()}, allowed 0..{LARGEST_ROWS}")
        parts.append(ids.astype(np.int32))
    found = np.concatenate(parts)
    if len(found) != tokens:
        raise InputError(f"{samples[0]}: {len(found)} tokens in the samples, allowed {tokens}, the rows of the layers")
    return {"token_id_T": found}
