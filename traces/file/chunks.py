"""How long arrays are cut: runs of tokens of about 65,536 rows (token, layer), worked on by a few threads.

The same runs are the row groups of a trace's file and the leaves of its digests, so that a reader can verify each run
while it is still in the processor's cache, and a recording can be merged without ever standing in memory as a whole.
"""

import hashlib
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

CHUNK_ROWS = 65536  # part of the definition of every digest: never change it within a schema version
LARGEST_WORKERS = 8


def chunk_tokens(layers: int) -> int:
    """Return the tokens of one run for a model of this many MoE layers."""
    return max(1, CHUNK_ROWS // layers)


def chunks(tokens: int, layers: int) -> list[slice]:
    """Return the runs of a trace of this many tokens, in order; only the last may be shorter."""
    size = chunk_tokens(layers)
    return [slice(start, min(start + size, tokens)) for start in range(0, tokens, size)]


def in_threads(function: Callable, items: Iterable) -> list:
    """Return [function(item) ...] in order; NumPy, hashing and Parquet release the lock, so threads do run together."""
    items = list(items)
    workers = min(len(items), LARGEST_WORKERS, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 2)
    if workers < 2:
        return [function(item) for item in items]
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(function, items))


def leaf(values: np.ndarray) -> bytes:
    """Return the SHA-256 of one run's bytes."""
    return hashlib.sha256(np.ascontiguousarray(values).view(np.uint8).reshape(-1).data).digest()


def root(dtype: np.dtype, shape: tuple[int, ...], leaves: Iterable[bytes]) -> str:
    """Return a field's digest: SHA-256 over its type, its shape and the digests of its runs."""
    return hashlib.sha256(f"{np.dtype(dtype).str}{shape}".encode() + b"".join(leaves)).hexdigest()[:32]
