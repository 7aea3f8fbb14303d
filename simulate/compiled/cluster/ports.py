"""Ports and the calendar of events, compiled: `simulate.policies.cluster.ports`.

A port that is free takes its first message at once here: in the same round and the same order as it would at the
round's end, since messages wait in the order in which they come.
"""

from __future__ import annotations

import numpy as np

from moe_replay.simulate.compiled.cluster.cluster_accessors import due_at, event_at, message_at, port_at
from moe_replay.simulate.compiled.cluster.cluster_layout import (
    DELIVERED,
    FREE,
    HEAD,
    PORT_BITS,
    WHICH_BITS,
    Cluster,
)
from moe_replay.simulate.compiled.jit import compiled, inlined
from moe_replay.simulate.compiled.run_layout import NEVER
from moe_replay.simulate.compiled.structures.clock import later


@compiled
def note(cluster: Cluster, when: int, kind: int, place: int, what: int) -> None:
    """Put an event into the calendar, a heap by time and then by the order within an instant."""
    number = (((kind << PORT_BITS) + place) << WHICH_BITS) + cluster.numbered
    cluster.numbered += 1
    at = cluster.events
    cluster.events += 1
    while at > 0:
        above = event_at(cluster, (at - 1) >> 1)
        if above.when < when or (above.when == when and above.number < number):
            break
        put_event(cluster, at, above.when, above.number, above.what)
        at = (at - 1) >> 1
    put_event(cluster, at, when, number, what)


@inlined
def put_event(cluster: Cluster, at: int, when: int, number: int, what: int) -> None:
    """Put an event at a place of the heap."""
    event_at(cluster, at).when, event_at(cluster, at).number, event_at(cluster, at).what = when, number, what


@compiled
def take_due(cluster: Cluster) -> int:
    """Move the events of the present instant into the list of those due, in order; return how many."""
    due = 0
    while cluster.events > 0 and event_at(cluster, 0).when == cluster.now:
        first = event_at(cluster, 0)
        due_at(cluster, due).number, due_at(cluster, due).what = first.number, first.what
        due += 1
        cluster.events -= 1
        last = event_at(cluster, cluster.events)
        sift_down(cluster, last.when, last.number, last.what)
    return due


@compiled
def sift_down(cluster: Cluster, when: int, number: int, what: int) -> None:
    """Put an event where the top of the heap was, and restore its order."""
    at = 0
    while True:
        below = 2 * at + 1
        if below >= cluster.events:
            break
        if below + 1 < cluster.events:
            below += is_before(cluster, below + 1, below)  # no branch: which child is smaller nobody can foresee
        child = event_at(cluster, below)
        if when < child.when or (when == child.when and number < child.number):
            break
        put_event(cluster, at, child.when, child.number, child.what)
        at = below
    put_event(cluster, at, when, number, what)


@inlined
def is_before(cluster: Cluster, one: int, other: int) -> bool:
    """Say whether one place of the heap holds an earlier event than another."""
    first, second = event_at(cluster, one), event_at(cluster, other)
    return (first.when < second.when) | ((first.when == second.when) & (first.number < second.number))


@inlined
def kind_of(number: int) -> int:
    """Return what kind of event has a number."""
    return number >> (WHICH_BITS + PORT_BITS)


@inlined
def network_port(cluster: Cluster, device: int) -> int:
    """Return the network port that a device uses."""
    node, place = device // cluster.in_node, device % cluster.in_node
    return cluster.devices + node * cluster.nics + place * cluster.nics // cluster.in_node


@compiled
def send(cluster: Cluster, x: int, kind: int, source: int, destination: int, home: int, tokens: int) -> None:
    """Make a message, and put it into the queue of its port out."""
    made = cluster.messages
    cluster.messages += 1
    message = message_at(cluster, made)
    message.micro_batch, message.layer = x // cluster.layers, x % cluster.layers
    message.kind, message.source, message.destination, message.home = kind, source, destination, home
    message.tokens = tokens
    message.bytes = np.int64(tokens) * (cluster.combine_bytes if kind else cluster.dispatch_bytes)
    message.queued_ns, message.start_ns, message.end_ns, message.next = cluster.now, -1, -1, -1
    if source // cluster.in_node == destination // cluster.in_node:
        message.port_out, message.port_in, message.latency_ns = source, destination, cluster.inside_ns
        message.wire_ns = wire_ns(message.bytes, cluster.inside_per_s)
    else:
        message.port_out, message.port_in = network_port(cluster, source), network_port(cluster, destination)
        message.latency_ns = cluster.network_ns
        message.wire_ns = wire_ns(message.bytes, cluster.network_per_s)
    port = port_at(cluster, message.port_out)
    if port.first_out < 0:
        port.first_out = made
    else:
        message_at(cluster, port.last_out).next = made
    port.last_out = made
    leave_port(cluster, message.port_out)


@inlined
def wire_ns(size: int, bytes_per_s: float) -> int:
    """Return how long so many bytes are on a port, rounded to whole ns (halves to even), at most the clock's end."""
    taken_ns = size * 1e9 / bytes_per_s
    return np.int64(np.rint(taken_ns)) if taken_ns < NEVER else NEVER


@compiled
def leave_port(cluster: Cluster, number: int) -> None:
    """Let a port out, if it is free, take its first message."""
    port = port_at(cluster, number)
    first = port.first_out
    if port.busy_out or first < 0:
        return
    message = message_at(cluster, first)
    port.busy_out, port.first_out = 1, message.next
    message.next, message.start_ns = -1, cluster.now
    note(cluster, later(cluster.now, message.latency_ns), HEAD, number, first)
    note(cluster, later(cluster.now, message.wire_ns), FREE, number, first)


@compiled
def enter_port(cluster: Cluster, number: int) -> None:
    """Let a port in, if it is free, take its first message."""
    port = port_at(cluster, number)
    first = port.first_in
    if port.busy_in or first < 0:
        return
    message = message_at(cluster, first)
    port.busy_in, port.first_in = 1, message.next
    message.end_ns = later(cluster.now, message.wire_ns)
    note(cluster, message.end_ns, DELIVERED, number, first)


@compiled
def head_arrives(cluster: Cluster, arriving: int) -> None:
    """Put a message whose head is there into the queue of its port in."""
    message = message_at(cluster, arriving)
    port = port_at(cluster, message.port_in)
    message.next = -1
    if port.first_in < 0:
        port.first_in = arriving
    else:
        message_at(cluster, port.last_in).next = arriving
    port.last_in = arriving
    enter_port(cluster, message.port_in)
