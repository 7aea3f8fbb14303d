"""`smartmoe`: the count logs of SmartMoE's artifact, `moe_trace/table_iter<I>_rank<R>.log`.

A line per layer, `layer:[[counts of the experts] per microbatch]`: the selections that this rank sent to each expert.
"""

import json
import re
from pathlib import Path

import numpy as np
from rich.progress import track

from moe_replay.traces.errors import InputError
from moe_replay.traces.importers.reading.count_rows import check_grid, load_trace_of
from moe_replay.traces.importers.reading.import_source import Source
from moe_replay.traces.load_trace import LoadTrace

NAME = re.compile(r"table_iter(\d{1,9})_rank(\d{1,9})\.log")
TOP_K = 2  # of the published model; --k for another
LARGEST_COUNT = 2**53  # counts are written as floating-point numbers


def read(source: Source) -> LoadTrace:
    """Return the load trace in a folder `moe_trace`, or in single logs; every row must sum to the same number."""
    found = logs(source)
    iterations, ranks = check_grid(source, found, "log")
    shape, tables, total = None, [], None
    for at in track(
        [(i, r) for i in iterations for r in ranks], "reading logs", transient=True, disable=len(found) < 99
    ):
        table_MLE = counts_of(found[at])
        if table_MLE.shape != (shape := shape or table_MLE.shape):
            sizes = "{1} layers of {0} microbatches x {2} experts".format
            raise InputError(f"{found[at]}: {sizes(*table_MLE.shape)}, allowed {sizes(*shape)} as in other logs")
        total = check_totals(found[at], table_MLE, total)
        tables.append(table_MLE)
    load_SRMLE = np.stack(tables).reshape(len(iterations), len(ranks), *shape)
    check_experts(source, shape[2] - (source.options.shared_slots or 0))
    used_k, layer_ids = source.options.k or TOP_K, tuple(range(shape[1]))
    per_token = used_k + (source.options.shared_slots or 0)
    notes = {"tokens_per_row": total // per_token, "counts": "selections that a rank sent; training"}
    return load_trace_of(source, load_SRMLE, iterations, ranks, layer_ids, used_k, sorted(found.values()), **notes)


def check_experts(source: Source, experts: int) -> None:
    """Refuse --experts that the logs contradict."""
    if source.options.experts not in (None, experts):
        raise InputError(f"{source.place}: rows have {experts} counts, but --experts is {source.options.experts}")


def logs(source: Source) -> dict[tuple[int, int], Path]:
    """Return {(iteration, rank): file}; InputError for a file of another name, or two of the same."""
    found = {}
    for given in source.paths:
        paths = sorted(given.glob("table_iter*_rank*.log")) if given.is_dir() else [given]
        if not paths:
            raise InputError(f"{given}: a folder without logs, allowed files table_iter<I>_rank<R>.log")
        for path in paths:
            name = NAME.fullmatch(path.name)
            if not name:
                raise InputError(f"{path}: a log of unknown iteration, allowed the name table_iter<I>_rank<R>.log")
            at = int(name[1]), int(name[2])
            if at in found:
                raise InputError(f"{path}: iteration {at[0]}, rank {at[1]} was in {found[at]}, allowed: each once")
            found[at] = path
    return found


def counts_of(path: Path) -> np.ndarray:
    """Return the counts [microbatches, layers, experts] of one log, int64; InputError for anything else in it."""
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: not text, allowed a log of SmartMoE") from None
    if not lines:
        raise InputError(f"{path}: empty, allowed a line per layer")
    tables = []
    for layer, line in enumerate(lines):
        number, colon, rest = line.partition(":")
        if not colon or number != str(layer):
            raise InputError(
                f"{path}: line {layer + 1} begins {line[:20]!r}, allowed '{layer}:[[', the layers in order"
            )
        tables.append(row_counts(f"{path}: layer {layer}", rest))
        if tables[layer].shape != tables[0].shape:
            found, before = tables[layer].shape, tables[0].shape
            raise InputError(
                f"{path}: layer {layer}: [microbatches, experts] is {found}, allowed {before} as in layer 0"
            )
    return np.stack(tables, axis=1)


def row_counts(place: str, text: str) -> np.ndarray:
    """Return the counts [microbatches, experts] of a line; InputError for what is no whole number >= 0."""
    try:
        counts = np.array(json.loads(text), np.float64)
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise InputError(f"{place}: no rows of equally many numbers ({str(error)[:60]})") from None
    if counts.ndim != 2 or not counts.size:
        raise InputError(f"{place}: shape {counts.shape}, allowed [microbatches, experts]")
    wrong = ~((counts >= 0) & (counts < LARGEST_COUNT) & (counts == np.floor(counts)))
    if wrong.any():
        microbatch, expert = (int(at) for at in np.unravel_index(int(wrong.argmax()), wrong.shape))
        found = f"microbatch {microbatch}, expert {expert}: count is {counts[microbatch, expert]:g}"
        raise InputError(f"{place}: {found}, allowed whole numbers >= 0")
    return counts.astype(np.int64)


def check_totals(path: Path, table_MLE: np.ndarray, total: int | None) -> int:
    """Return what every row sums to; InputError for a row that sums to something else: selections are missing."""
    sums_ML = table_MLE.sum(-1)
    total = int(sums_ML[0, 0]) if total is None else total
    if (sums_ML != total).any():
        microbatch, layer = (int(at) for at in np.unravel_index(int((sums_ML != total).argmax()), sums_ML.shape))
        found = f"layer {layer}, microbatch {microbatch} sums to {sums_ML[microbatch, layer]}"
        raise InputError(f"{path}: {found}, allowed {total} as every row before it")
    return total
