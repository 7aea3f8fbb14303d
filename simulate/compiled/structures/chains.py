"""Chains: the members of queues and batches, and the ready lists of devices."""

from __future__ import annotations

from moe_replay.simulate.compiled.jit import compiled, inlined
from moe_replay.simulate.compiled.run_layout import World, crc_table, device_at, node_at, queue_at
from moe_replay.simulate.compiled.structures.checksum import crc_step


@inlined
def new_node(world: World, member: int) -> int:
    """Return a node that holds a member."""
    node = world.free_node
    if node >= 0:
        world.free_node = node_at(world, node).next
    else:
        node = world.fresh_node
        world.fresh_node = node + 1
    node_at(world, node).member = member
    node_at(world, node).next = -1
    return node


@inlined
def append_node(world: World, queue: int, node: int) -> int:
    """Put a node, behind which there is none, at the end of a queue; return the queue's new length."""
    waiting = queue_at(world, queue)
    length = waiting.length
    if length == 0:
        waiting.head = node
    else:
        node_at(world, waiting.tail).next = node
    waiting.tail = node
    waiting.length = length + 1
    return length + 1


@inlined
def append_member(world: World, queue: int, member: int) -> int:
    """Put a member at the end of a queue; return the queue's new length."""
    return append_node(world, queue, new_node(world, member))


@compiled
def bind_members(world: World, queue: int, device: int, count: int) -> int:
    """Move the first `count` members of a queue to a device's batch; return the checksum of the members."""
    waiting, batch, table = queue_at(world, queue), device_at(world, device), crc_table(world)
    batch.head = waiting.head
    node = last = waiting.head
    crc = 0xFFFFFFFF
    for _ in range(count):
        crc = crc_step(crc, node_at(world, node).member, table)
        last = node
        node = node_at(world, node).next
    node_at(world, last).next = -1
    batch.last, batch.size = last, count
    waiting.head = node
    waiting.length -= count
    return (crc ^ 0xFFFFFFFF) & 0xFFFF


@compiled
def free_members(world: World, device: int) -> None:
    """Give the nodes of a device's batch back."""
    batch = device_at(world, device)
    node_at(world, batch.last).next = world.free_node
    world.free_node = batch.head


@inlined
def append_ready(world: World, device: int, queue: int) -> None:
    """Put a queue at the end of a device's ready list."""
    ready = device_at(world, device)
    queue_at(world, queue).next = -1
    if ready.first_ready < 0:
        ready.first_ready = queue
    else:
        queue_at(world, ready.last_ready).next = queue
    ready.last_ready = queue


@compiled
def put_first_ready(world: World, device: int, queue: int) -> None:
    """Put a queue at the head of a device's ready list."""
    ready = device_at(world, device)
    queue_at(world, queue).next = ready.first_ready
    if ready.first_ready < 0:
        ready.last_ready = queue
    ready.first_ready = queue


@inlined
def pop_ready(world: World, device: int) -> int:
    """Take the first queue off a device's ready list and return it."""
    ready = device_at(world, device)
    queue = ready.first_ready
    ready.first_ready = queue_at(world, queue).next
    return queue
