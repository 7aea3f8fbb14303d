"""The importance matrix of llama.cpp in GGUF: `blk.N.ffn_{gate,up,down}_exps.weight.counts`, a count per expert.

The same counts are there for each of a layer's matrices. Older imatrix files (.dat) hold no counts by expert.
"""

from __future__ import annotations

import re
import struct
from pathlib import Path

import numpy as np

from moe_replay.traces.errors import InputError
from moe_replay.traces.importers.reading.count_rows import load_trace_of
from moe_replay.traces.importers.reading.import_source import Source, given
from moe_replay.traces.importers.tables.count_arrays import whole_counts
from moe_replay.traces.load_trace import LoadTrace

COUNTS = re.compile(r"blk\.(\d{1,5})\.ffn_\w*exps\.weight\.counts")
# What the reader of GGUF was seen to raise on damaged files.
DAMAGE = (
    OSError, ValueError, TypeError, LookupError, ArithmeticError, AttributeError, MemoryError, struct.error,
    AssertionError, RuntimeError,
)  # fmt: skip


def read_imatrix(source: Source) -> LoadTrace:
    """Return the load trace of one imatrix; --k, where its chunks do not tell the experts per token."""
    path = source.one_file()
    tensors, chunks = contents(path)
    by_layer = {}
    for name, values in tensors.items():
        match = COUNTS.fullmatch(name)
        if match:
            count_E = whole_counts(f"{path}: {name}", values.reshape(1, -1))[0]
            layer = int(match[1])
            if layer in by_layer and not np.array_equal(by_layer[layer], count_E):
                raise InputError(f"{path}: {name}: not the counts of the layer's other matrices, allowed: the same")
            by_layer[layer] = count_E
    if not by_layer:
        raise InputError(f"{path}: no tensor blk.N.ffn_*_exps.weight.counts, allowed the imatrix of a MoE model")
    if len({len(each) for each in by_layer.values()}) > 1:
        raise InputError(f"{path}: layers of different numbers of experts, allowed: as many in all")
    layer_ids = tuple(sorted(by_layer))
    load_LE = np.stack([by_layer[layer] for layer in layer_ids])
    experts = load_LE.shape[1]
    if source.options.experts not in (None, experts):
        raise InputError(f"{path}: counts of {experts} experts, but --experts is {source.options.experts}")
    k = experts_per_token(source, load_LE, chunks)
    return load_trace_of(source, load_LE[None, None, None], [0], [0], layer_ids, k, counts="llama.cpp's imatrix")


def experts_per_token(source: Source, load_LE: np.ndarray, tokens: int) -> int:
    """Return --k, or the selections of a layer per token of the file's chunks."""
    if source.options.k is not None:
        return source.options.k
    total = int(load_LE[0].sum())
    if tokens and total and total % tokens == 0 and total // tokens <= load_LE.shape[1]:
        return total // tokens
    return given(source, "k", f"{total} selections in a layer, and chunks of {tokens} tokens, do not tell")


def contents(path: Path) -> tuple[dict[str, np.ndarray], int]:
    """Return (the tensors of counts by name, the tokens of all chunks or 0); InputError for another file."""
    try:
        from gguf import GGUFReader
    except ImportError:
        raise InputError(f"{path}: GGUF needs the package gguf (pip install moe-replay[gguf])") from None
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    if path.read_bytes()[:4] != b"GGUF":
        raise InputError(f"{path}: not a GGUF file, allowed an imatrix in GGUF")
    try:
        reader = GGUFReader(path)
        kind = reader.fields["general.type"].contents() if "general.type" in reader.fields else "of no type"
        tensors = {each.name: np.array(each.data) for each in reader.tensors if each.name.endswith(".counts")}
        sizes = [reader.fields[name].contents() for name in ("imatrix.chunk_count", "imatrix.chunk_size")
                 if name in reader.fields]  # fmt: skip
    except DAMAGE as error:
        raise InputError(f"{path}: not a whole GGUF file ({str(error)[:60]})") from None
    if kind != "imatrix":
        raise InputError(f"{path}: GGUF, general.type {kind!r:.40}, allowed imatrix")
    whole = len(sizes) == 2 and all(isinstance(each, int) and each > 0 for each in sizes)
    return tensors, sizes[0] * sizes[1] if whole else 0
