"""Which of an expert's slots a selection goes to, compiled: `simulate.policies.cluster.replica_split`."""

from __future__ import annotations

from moe_replay.simulate.compiled.cluster.cluster_accessors import slots_LER, turns_VP
from moe_replay.simulate.compiled.cluster.cluster_layout import Cluster
from moe_replay.simulate.compiled.jit import compiled, inlined

OWN_DEVICE, OWN_NODE, ALL = range(3)  # how far a set of replicas reaches


@compiled
def begin_step(cluster: Cluster) -> None:
    """Start to count anew."""
    for reach in range(turns_VP(cluster).shape[0]):
        for slot in range(turns_VP(cluster).shape[1]):
            turns_VP(cluster)[reach, slot] = 0


@inlined
def slot_of(cluster: Cluster, layer: int, expert: int, home: int) -> int:
    """Return the slot of the next selection of an expert by a token of a home device."""
    slots = slots_LER(cluster)
    if slots.shape[2] == 1:
        return slots[layer, expert, 0]
    return one_of_several(cluster, layer, expert, home)


@compiled
def one_of_several(cluster: Cluster, layer: int, expert: int, home: int) -> int:
    """Return the slot, where experts may have replicas.

    Slots ascend device by device, so that the replicas of a device, or of a node, follow one another. Equal sets share
    their turns: one that holds all replicas of the next larger reach counts as that.
    """
    slots = slots_LER(cluster)
    every = 0
    while every < slots.shape[2] and slots[layer, expert, every] >= 0:
        every += 1
    first, count, reach = 0, every, ALL
    if cluster.nearest:
        in_node = cluster.per_device * cluster.in_node
        node_first, node_count = within(cluster, layer, expert, every, home // cluster.in_node * in_node, in_node)
        if 0 < node_count < every:
            first, count, reach = node_first, node_count, OWN_NODE
        here_first, here = within(cluster, layer, expert, every, home * cluster.per_device, cluster.per_device)
        if 0 < here < count:
            first, count, reach = here_first, here, OWN_DEVICE
    at = slots[layer, expert, first]
    # A slot is first in the set of all for one expert only, and likewise for each smaller reach.
    turn = turns_VP(cluster)[3 * layer + reach, at]
    turns_VP(cluster)[3 * layer + reach, at] = turn + 1
    return slots[layer, expert, first + turn % count]


@compiled
def within(cluster: Cluster, layer: int, expert: int, every: int, low: int, size: int) -> tuple[int, int]:
    """Return (place of the first, how many) of an expert's slots that lie in `low` .. `low + size - 1`."""
    slots = slots_LER(cluster)
    first, count = 0, 0
    for place in range(every):
        slot = slots[layer, expert, place]
        if slot < low:
            first = place + 1
        elif slot < low + size:
            count += 1
    return first, count
