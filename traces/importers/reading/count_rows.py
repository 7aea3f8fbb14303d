"""Counts of selections as logs keep them: their known traps, and the load trace they make."""

import math
from pathlib import Path

import numpy as np

from moe_replay.traces.command_line.number_limits import narrowed
from moe_replay.traces.errors import InputError
from moe_replay.traces.importers.reading.import_source import Source
from moe_replay.traces.importers.reading.token_rows import COPY_BITS
from moe_replay.traces.load_trace import LoadTrace

SHARED_COUNTS = (
    "it looks like a shared expert; allowed: --shared-slots N to leave the last N experts out, and --experts and --k "
    "without them; --shared-slots 0 keeps it"
)
ESTIMATES = "; estimates with --approximate; of experts spread over ranks the files of all ranks"
COPY_CELLS = 8  # as many counts above zero cannot be alike by chance, if they differ among themselves


def check_count_copies(place: str, load_SRMLE: np.ndarray, layer_ids: tuple[int, ...]) -> None:
    """Refuse layers that hold the same counts everywhere, where that cannot be chance."""
    seen = {}
    for layer, layer_id in enumerate(layer_ids):
        load = np.ascontiguousarray(load_SRMLE[:, :, :, layer])
        if np.count_nonzero(load) < COPY_CELLS or len(np.unique(load[load > 0])) < 2:
            continue
        content = load.tobytes()
        if content in seen:
            both = f"layers {seen[content]} and {layer_id} hold the same counts everywhere"
            raise InputError(f"{place}: {both}, allowed: layers of their own, not copies")
        seen[content] = layer_id


def check_rank_copies(place: str, load_SRMLE: np.ndarray, rank_R: list[int]) -> None:
    """Refuse ranks that hold the same counts everywhere, where that cannot be chance: their tokens are the same."""
    seen = {}
    for at, rank in enumerate(rank_R):
        load = np.ascontiguousarray(load_SRMLE[:, at])
        if np.count_nonzero(load) < COPY_CELLS or len(np.unique(load[load > 0])) < 2:
            continue
        content = load.tobytes()
        if content in seen:
            both = f"ranks {seen[content]} and {rank} hold the same counts everywhere"
            why = "tensor parallel ranks see the same tokens, which would count twice"
            raise InputError(f"{place}: {both}: {why}; allowed: the files of one of them")
        seen[content] = rank


def without_shared_counts(source: Source, load_SRMLE: np.ndarray, k: int) -> np.ndarray:
    """Return counts without those of the last --shared-slots experts, which run for every token.

    InputError where these are not one for each of the slots and every k selections of the others.
    """
    shared = source.options.shared_slots or 0
    if not shared:
        return load_SRMLE
    if shared >= load_SRMLE.shape[-1]:
        raise InputError(f"{source.place}: --shared-slots {shared}, allowed fewer than {load_SRMLE.shape[-1]} experts")
    routed_SRML, apart_SRML = load_SRMLE[..., :-shared].sum(-1), load_SRMLE[..., -shared:].sum(-1)
    wrong = apart_SRML * k != routed_SRML * shared
    if wrong.any():
        found = f"the last {shared} experts have {apart_SRML[wrong][0]} selections, the others {routed_SRML[wrong][0]}"
        raise InputError(f"{source.place}: {found}, allowed with --shared-slots {shared}: {shared} beside every {k}")
    return load_SRMLE[..., :-shared]


def check_no_shared_counts(source: Source, load_SRMLE: np.ndarray, k: int) -> None:
    """Refuse an expert that every token selects in every layer, where that cannot be chance; stated: keep it."""
    experts, layers = load_SRMLE.shape[-1], load_SRMLE.shape[-2]
    token_SRML = load_SRMLE.sum(-1) // k
    enough = k < experts and token_SRML.sum() * math.log2(experts / k) >= COPY_BITS
    if source.options.shared_slots is not None or k < 2 or layers < 2 or not enough:
        return
    always_E = (load_SRMLE == token_SRML[..., None]).all((0, 1, 2, 3))
    if always_E.any():
        found = f"expert {int(always_E.argmax())} was selected by every token in all {layers} layers"
        raise InputError(f"{source.place}: {found}: {SHARED_COUNTS}")


def check_even_totals(source: Source, load_SRMLE: np.ndarray, layer_ids: tuple[int, ...], ids: tuple) -> None:
    """Refuse layers that do not line up: in an iteration, rank and microbatch all layers see the same tokens."""
    total_SRML = load_SRMLE.sum(-1)
    differs = total_SRML != total_SRML[..., :1]
    if differs.any():
        at = tuple(int(index) for index in np.unravel_index(int(differs.argmax()), differs.shape))
        place = f"iteration {ids[0][at[0]]}, rank {ids[1][at[1]]}, microbatch {at[2]}, layer {layer_ids[at[3]]}"
        allowed = f"{total_SRML[(*at[:3], 0)]} as in layer {layer_ids[0]}: all layers see the same tokens"
        raise InputError(f"{source.place}: {place}: {total_SRML[at]} selections, allowed {allowed}{ESTIMATES}")


def check_whole_tokens(source: Source, load_SRMLE: np.ndarray, k: int) -> None:
    """Refuse totals that are not k selections per token."""
    odd = load_SRMLE.sum(-1) % k != 0
    if odd.any():
        found = int(load_SRMLE.sum(-1)[odd][0])
        line = f"{found} selections in a layer, allowed a multiple of {k}, those of a token"
        raise InputError(f"{source.place}: {line}{ESTIMATES}")


def load_trace_of(
    source: Source,
    load_SRMLE: np.ndarray,
    iteration_S: list[int],
    rank_R: list[int],
    layer_ids: tuple[int, ...],
    used_k: int,
    files: list[Path] | None = None,
    rank_local: bool = False,
    **notes: object,
) -> LoadTrace:
    """Return the load trace of counts, checked for the traps that all count logs share.

    With `rank_local` counts each rank has its own experts' only, so that just their sum is one of tokens.
    """
    if not load_SRMLE.any():
        raise InputError(f"{source.place}: every count is zero: nothing was recorded")
    load_SRMLE = without_shared_counts(source, load_SRMLE, used_k)
    summed_SRMLE = load_SRMLE.sum(1, keepdims=True) if rank_local else load_SRMLE
    if not source.options.approximate:
        check_even_totals(source, summed_SRMLE, layer_ids, (iteration_S, [0] if rank_local else rank_R))
        check_whole_tokens(source, summed_SRMLE, used_k)
    else:
        notes["counts"] = "approximate: totals of layers may differ, and need be no multiple of k"
    check_count_copies(source.place, load_SRMLE, layer_ids)
    check_rank_copies(source.place, load_SRMLE, rank_R)
    check_no_shared_counts(source, load_SRMLE, used_k)
    try:
        return LoadTrace(
            model=source.model(used_k, layer_ids, load_SRMLE.shape[-1]),
            data=source.data(files or list(source.paths)),
            load_SRMLE=np.ascontiguousarray(load_SRMLE, np.int64),
            iteration_S=np.array(iteration_S, np.int64),
            rank_R=narrowed("rank", np.array(rank_R), np.int32),
            provenance=source.provenance,
            notes=notes,
        )
    except InputError as error:
        line = str(error)
        raise InputError(line if line.startswith(source.place) else f"{source.place}: {line}") from None


def check_grid(source: Source, found: dict[tuple[int, int], Path], what: str) -> tuple[list[int], list[int]]:
    """Return (iterations, ranks), ascending; InputError unless there is a file (or record) for each of both."""
    iterations, ranks = sorted({each[0] for each in found}), sorted({each[1] for each in found})
    for iteration in iterations:
        for rank in ranks:
            if (iteration, rank) not in found:
                missing = f"no {what} of iteration {iteration}, rank {rank}"
                raise InputError(f"{source.place}: {missing}, allowed: every rank in every iteration")
    return iterations, ranks
