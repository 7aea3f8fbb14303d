"""What devices send each other in a layer, compiled: `simulate.policies.cluster.exchange`; x is a place."""

from __future__ import annotations

from moe_replay.simulate.compiled.cluster.cluster_accessors import copies_XDD, message_at, node_copies_XDN, parts_XDN
from moe_replay.simulate.compiled.cluster.cluster_layout import Cluster
from moe_replay.simulate.compiled.cluster.ports import send
from moe_replay.simulate.compiled.jit import compiled, inlined
from moe_replay.simulate.policies.cluster.ports import COMBINE, DISPATCH


@inlined
def relay_of(cluster: Cluster, home: int, node: int) -> int:
    """Return the device of a home's place in another node."""
    return node * cluster.in_node + home % cluster.in_node


@compiled
def dispatch(cluster: Cluster, x: int, home: int) -> None:
    """Send the tokens of a home whose dense block is done: over the network first where there are relays."""
    own = home // cluster.in_node
    if cluster.relays:
        for further in range(1, cluster.nodes):
            node = (own + further) % cluster.nodes
            tokens = node_copies_XDN(cluster)[x, home, node]
            if tokens > 0:
                send(cluster, x, DISPATCH, home, relay_of(cluster, home, node), home, tokens)
    for further in range(1, cluster.devices):
        device = (home + further) % cluster.devices
        tokens = copies_XDD(cluster)[x, home, device]
        if tokens > 0 and not (cluster.relays and device // cluster.in_node != own):
            send(cluster, x, DISPATCH, home, device, home, tokens)


@compiled
def combine(cluster: Cluster, x: int, device: int) -> None:
    """Send the results of a device that has run all its slots, in order of the homes behind it."""
    node = device // cluster.in_node
    for further in range(1, cluster.devices):
        home = (device + further) % cluster.devices
        tokens = copies_XDD(cluster)[x, home, device]
        if tokens > 0:
            relay = relay_of(cluster, home, node)
            if not cluster.relays or home // cluster.in_node == node:
                send(cluster, x, COMBINE, device, home, home, tokens)
            elif relay == device:
                part_is_in(cluster, x, home, node)
            else:
                send(cluster, x, COMBINE, device, relay, home, tokens)


@compiled
def relay_on(cluster: Cluster, x: int, delivered: int) -> None:
    """Send on what a device does when a message is delivered to it, if it is a relay."""
    message = message_at(cluster, delivered)
    relay, home, source, kind = message.destination, message.home, message.source, message.kind
    node = relay // cluster.in_node
    if not cluster.relays or node == home // cluster.in_node:
        return
    if kind == COMBINE:
        part_is_in(cluster, x, home, node)
        return
    if source != home:
        return
    for further in range(1, cluster.in_node):
        device = node * cluster.in_node + (relay + further) % cluster.in_node
        tokens = copies_XDD(cluster)[x, home, device]
        if tokens > 0:
            send(cluster, x, DISPATCH, relay, device, home, tokens)


@compiled
def part_is_in(cluster: Cluster, x: int, home: int, node: int) -> None:
    """A relay has the results of one more device of its node; with the last of them it sends them to the home."""
    parts_XDN(cluster)[x, home, node] -= 1
    if parts_XDN(cluster)[x, home, node] == 0:
        tokens = node_copies_XDN(cluster)[x, home, node]
        send(cluster, x, COMBINE, relay_of(cluster, home, node), home, home, tokens)
