"""Rows of selections in MoE layers, from any file, as a trace takes them, free of the traps that all files share."""

import numpy as np

from moe_replay.traces.importers.reading.id_maps import mapped
from moe_replay.traces.importers.reading.import_source import Source
from moe_replay.traces.importers.reading.token_rows import check_copies, check_ids, check_no_shared, without_shared
from moe_replay.traces.importers.reading.unrouted import Routes, check_whole, routes_of


def sound_rows(
    source: Source,
    place: str,
    rows_TLK: np.ndarray,
    layer_ids: tuple[int, ...],
    logical_LP: np.ndarray | None = None,
    whole: bool = False,
) -> Routes:
    """Return the routes in rows [T, L, K] of ids: shared experts left out, rows without a route as -1 or left out.

    With a map, ids are of physical slots, and become experts. If `whole`, -1 is no empty slot but padding. InputError
    for ids that cannot be, rows that are no data, shared experts among the routed ones, and copied layers.
    """
    experts, shared = source.options.experts, source.options.shared_slots
    if logical_LP is None:
        rows_TLK = without_shared(place, rows_TLK, experts, shared)
        check_ids(place, rows_TLK, experts, -1, layer_ids)
        routes = routes_of(source, place, rows_TLK, layer_ids)
    else:
        slots = logical_LP.shape[1]
        at = f"{place}: physical ids"
        check_ids(at, rows_TLK, slots, -1, layer_ids, hints=False)
        routes = routes_of(source, at, rows_TLK, layer_ids, slots)
    if whole:
        check_whole(source, place, routes.experts_TLK, layer_ids)
    if logical_LP is not None:
        experts_TLK = without_shared(place, mapped(source, routes.experts_TLK, logical_LP, layer_ids), experts, shared)
        check_ids(place, experts_TLK, experts, -1, layer_ids)
        routes = Routes(experts_TLK, routes.kept_T, routes.left_out)
    kept_TLK = routes.experts_TLK if routes.kept_T.all() else routes.experts_TLK[routes.kept_T]
    check_no_shared(place, kept_TLK, experts, shared)
    check_copies(place, kept_TLK, layer_ids, experts)
    return routes
