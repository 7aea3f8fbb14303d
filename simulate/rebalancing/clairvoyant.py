"""The cheapest placements over time for who knows all loads beforehand, among the plans of a pool (Viterbi).

A path goes from point to point through the pool; it pays max/mean at every point, and `move_cost` for every copy when
it changes its placement. Letters: S points, L layers, E experts, D devices, P slots, Q plans of a pool.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from moe_replay.simulate.placing.cluster_shape import ClusterShape
from moe_replay.simulate.rebalancing.migration import held_counts

MOST_AT_ONCE = 2**22  # loads of devices that are held at a time


@dataclass(frozen=True)
class Foreknown:
    """The cheapest path of a layer: `cost` of all points and moves, `over_mean_S`, `copies` after the first point.

    `first_copies` lead from the pool's first plan to the one of the first point; they are paid for too.
    """

    cost: float
    over_mean_S: np.ndarray
    copies: int
    first_copies: int


@dataclass(frozen=True, eq=False)
class LayerPool:
    """The distinct plans of a layer: what each costs at every point, and the copies from one to another.

    `cost_SQ`: max/mean, 0 where nothing is selected. `copies_QQ` [from, to]. Plan 0 is in force before the first point.
    """

    cost_SQ: np.ndarray
    copies_QQ: np.ndarray


def layer_pool(load_SE: np.ndarray, expert_QP: np.ndarray, shape: ClusterShape) -> LayerPool:
    """Return what the plans [Q, P] of a layer cost at the points; plans that are equal count once, the first first."""
    experts = load_SE.shape[1]
    held_QDE = held_counts(expert_QP, shape.devices, experts)
    _, first_Q = np.unique(held_QDE.reshape(len(held_QDE), -1), axis=0, return_index=True)
    held_QDE = held_QDE[np.sort(first_Q)].astype(np.float64)
    # Devices before plans: the largest over devices is then taken of whole rows at a time.
    share_EX = (held_QDE / held_QDE.sum(1)[:, None]).transpose(2, 1, 0).reshape(experts, -1)
    at_once = max(1, MOST_AT_ONCE // share_EX.shape[1])
    most_SQ = np.concatenate([
        (load_SE[start : start + at_once] @ share_EX).reshape(-1, shape.devices, len(held_QDE)).max(1)
        for start in range(0, len(load_SE), at_once)
    ])  # fmt: skip
    mean_S1 = load_SE.sum(1, keepdims=True) / shape.devices
    cost_SQ = np.divide(most_SQ, mean_S1, out=np.zeros_like(most_SQ), where=mean_S1 > 0)
    flat_QX = (held_QDE > 0).reshape(len(held_QDE), -1).astype(np.float64)
    copies_QQ = flat_QX.sum(1)[None] - flat_QX @ flat_QX.T
    return LayerPool(cost_SQ, copies_QQ)


def cheapest(pool: LayerPool, move_cost: float) -> Foreknown:
    """Return the cheapest path through a pool; of equally cheap ones that of the lower plan at each step back."""
    price_from_to = move_cost * pool.copies_QQ
    best_SQ = np.empty_like(pool.cost_SQ)
    best_SQ[0] = price_from_to[0] + pool.cost_SQ[0]
    for point in range(1, len(best_SQ)):
        before_Q = best_SQ[point - 1]
        # From the cheapest plan every other is reached for the dearest move at most: dearer plans lead nowhere cheaper.
        near = np.flatnonzero(before_Q <= before_Q.min() + price_from_to.max())
        best_SQ[point] = (price_from_to[near] + before_Q[near, None]).min(0) + pool.cost_SQ[point]
    path = [int(best_SQ[-1].argmin())]
    for point in range(len(best_SQ) - 1, 0, -1):
        path.append(int((price_from_to[:, path[-1]] + best_SQ[point - 1]).argmin()))
    path_S = np.array(path[::-1])
    copies = pool.copies_QQ[path_S[:-1], path_S[1:]].sum()
    over_mean_S = pool.cost_SQ[np.arange(len(path_S)), path_S]
    return Foreknown(float(best_SQ[-1].min()), over_mean_S, int(copies), int(pool.copies_QQ[0, path_S[0]]))


def foreknown(
    load_SLE: np.ndarray, expert_QLP: np.ndarray, shape: ClusterShape, move_costs: list[float],
    advance: Callable[[], object] = lambda: None,
) -> list[list[Foreknown]]:  # fmt: skip
    """Return the cheapest path of every layer, for every cost of a move, through a pool of plans."""
    paths: list[list[Foreknown]] = [[] for _ in move_costs]
    for layer in range(load_SLE.shape[1]):
        pool = layer_pool(load_SLE[:, layer], expert_QLP[:, layer], shape)
        for found, move_cost in zip(paths, move_costs, strict=True):
            found.append(cheapest(pool, move_cost))
        advance()
    return paths
