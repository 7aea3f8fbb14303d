"""Queues over linked devices, compiled: `simulate.policies.cluster.cluster_queues`, method by method.

The queues are those of a run without links (`simulate.compiled.queueing`), numbered by (layer, device, block); here is
how members come to them. A chain of members is its first node; `next` of the last is -1.
"""

from __future__ import annotations

import numpy as np

from moe_replay.simulate.compiled.cluster.cluster_accessors import (
    carried_A,
    copies_D,
    entered_A,
    first_D,
    first_part_P,
    last_D,
    marked_D,
    part_at,
    part_N,
    queue_A,
    token_N,
)
from moe_replay.simulate.compiled.cluster.cluster_layout import Cluster
from moe_replay.simulate.compiled.cluster.ports import send
from moe_replay.simulate.compiled.cluster.replica_split import slot_of
from moe_replay.simulate.compiled.jit import compiled, inlined
from moe_replay.simulate.compiled.queueing import grown, note_head, size_of
from moe_replay.simulate.compiled.run_layout import (
    NEVER,
    World,
    device_at,
    experts_TLK,
    node_at,
    pass_at,
    pass_N,
    queue_at,
)
from moe_replay.simulate.compiled.scheduler import finish
from moe_replay.simulate.compiled.structures.chains import append_node, bind_members, new_node
from moe_replay.simulate.policies.cluster.ports import COMBINE, DISPATCH


@inlined
def note_start(world: World, p: int, start_ns: int) -> None:
    """Note when a batch of a pass began: the first of them need not be the first to end."""
    pass_at(world, p).start_ns = min(pass_at(world, p).start_ns, start_ns)


@compiled
def part_of(cluster: Cluster, p: int, home: int) -> int:
    """Return the part of a pass that has this home."""
    part = first_part_P(cluster)[p]
    while part_at(cluster, part).home != home:
        part += 1
    return part


@compiled
def go_on(world: World, cluster: Cluster, part: int, layer: int, behind_dense: bool, now: int) -> None:
    """Let a part of a pass enter a layer, or go on behind its dense block, as far as it gets at once."""
    own = part_at(cluster, part)
    p = np.int64(pass_N(world)[token_N(cluster)[own.first]])  # else what follows is compiled for 32 bits, too
    while True:
        own.layer = layer
        if world.dense and not behind_dense:
            queue = (layer * world.devices + own.home) * world.width
            join(world, cluster, queue, new_node(world, p), world.dense_size, now)
            return
        if layer == world.layers:
            pass_at(world, p).left -= 1
            if pass_at(world, p).left == 0:
                world.present -= 1
                finish(world, p)
            return
        if dispatch(world, cluster, part, layer, now) > 0:
            return
        layer, behind_dense = layer + 1, False


@inlined
def join(world: World, cluster: Cluster, queue: int, node: int, size: int, now: int) -> None:
    """Append a node to a queue; its member waits from now."""
    entered_A(cluster)[node] = now
    grown(world, queue, append_node(world, queue, node), size, now)


@compiled
def dispatch(world: World, cluster: Cluster, part: int, layer: int, now: int) -> int:
    """Let the selections of a part travel, and those join that stay; return how many there are."""
    own = part_at(cluster, part)
    clear_chains(cluster)
    selections = 0
    for at in range(own.first, own.first + own.tokens):
        token = token_N(cluster)[at]
        rec = pass_at(world, pass_N(world)[token])
        row = rec.first_row + token - rec.offset
        for rank in range(world.k):
            expert = experts_TLK(world)[row, layer, rank]
            if expert >= 0:
                slot = slot_of(cluster, layer, expert, own.home)
                device = slot // cluster.per_device
                node = new_node(world, token)
                queue_A(cluster)[node] = (
                    (layer * world.devices + device) * world.width + 1 + slot - device * cluster.per_device
                )
                chain(world, cluster, device, node)
                if cluster.per_selection or marked_D(cluster)[device] != token:
                    marked_D(cluster)[device] = token
                    copies_D(cluster)[device] += 1
                selections += 1
        for shared in range(cluster.shared):
            node = new_node(world, token)
            queue_A(cluster)[node] = (layer * world.devices + own.home) * world.width + 1 + cluster.per_device + shared
            chain(world, cluster, own.home, node)
            selections += 1
    own.left = selections
    send_chains(cluster, DISPATCH, np.int64(own.home), layer)
    node = first_D(cluster)[own.home]
    if node >= 0:
        join_slots(world, cluster, node, now)
    return selections


@compiled
def clear_chains(cluster: Cluster) -> None:
    """Let nothing be sorted by device."""
    for device in range(cluster.devices):
        first_D(cluster)[device], copies_D(cluster)[device], marked_D(cluster)[device] = -1, 0, -1


@inlined
def chain(world: World, cluster: Cluster, device: int, node: int) -> None:
    """Put a node at the end of what is for a device."""
    if first_D(cluster)[device] < 0:
        first_D(cluster)[device] = node
    else:
        node_at(world, last_D(cluster)[device]).next = node
    last_D(cluster)[device] = node
    node_at(world, node).next = -1


@compiled
def send_chains(cluster: Cluster, kind: int, source: int, layer: int) -> None:
    """Send what is for other devices to them, in order of the devices behind the source."""
    for further in range(1, cluster.devices):
        device = (source + further) % cluster.devices
        if first_D(cluster)[device] >= 0:
            carried_A(cluster)[cluster.messages] = first_D(cluster)[device]
            home = device if kind == COMBINE else source
            send(cluster, layer, kind, source, device, home, copies_D(cluster)[device])


@compiled
def join_slots(world: World, cluster: Cluster, first: int, now: int) -> None:
    """Let a chain of selections join the queues of their slots."""
    node = first
    while node >= 0:
        following = node_at(world, node).next
        node_at(world, node).next = -1
        join(world, cluster, np.int64(queue_A(cluster)[node]), node, world.size, now)
        node = following


@compiled
def combine(world: World, cluster: Cluster, device: int, layer: int, now: int) -> None:
    """Let the results of a device's batch travel home, or be there."""
    batch = device_at(world, device)
    clear_chains(cluster)
    node = batch.head
    for _ in range(batch.size):
        following, token = node_at(world, node).next, node_at(world, node).member
        note_start(world, pass_N(world)[token], batch.start_ns)
        home = part_at(cluster, part_N(cluster)[token]).home
        chain(world, cluster, home, node)
        copies_D(cluster)[home] += 1
        node = following
    send_chains(cluster, COMBINE, device, layer)
    node = first_D(cluster)[device]
    if node >= 0:
        come_back(world, cluster, node, now)


@compiled
def come_back(world: World, cluster: Cluster, first: int, now: int) -> None:
    """A chain of results is at home; a part moves on with its last."""
    node = last = first
    while node >= 0:
        part = np.int64(part_N(cluster)[node_at(world, node).member])
        own = part_at(cluster, part)
        own.left -= 1
        if own.left == 0:
            # Members queue before these nodes are given back: the list of nodes has room for both (`run_build`).
            go_on(world, cluster, part, own.layer + 1, False, now)
        last, node = node, node_at(world, node).next
    node_at(world, last).next = world.free_node
    world.free_node = first


@compiled
def bind(world: World, cluster: Cluster, device: int, queue: int) -> tuple[int, int, int]:
    """Bind the first min(B, length) members of a queue; return (how many, their checksum, whether it was forced)."""
    waiting = queue_at(world, queue)
    count = min(size_of(world, queue), waiting.length)
    crc = bind_members(world, queue, device, count)
    forced, waiting.forced = waiting.forced, 0
    waiting.listed = 0
    note_head(world, queue, entered_A(cluster)[waiting.head] if waiting.length > 0 else NEVER)
    return count, crc, forced


@compiled
def tokens_of(world: World, cluster: Cluster, device: int) -> int:
    """Return the tokens of the parts in a device's dense batch."""
    node, tokens = device_at(world, device).head, 0
    for _ in range(device_at(world, device).size):
        tokens += part_at(cluster, part_of(cluster, np.int64(node_at(world, node).member), device)).tokens
        node = node_at(world, node).next
    return tokens
