"""Where the tokens of one step go, compiled: `simulate.policies.cluster.step_routes`, as counts."""

from __future__ import annotations

from moe_replay.simulate.compiled.cluster.cluster_accessors import (
    awaited_XD,
    began_MD,
    began_XP,
    copies_XDD,
    count_XP,
    crc_MD,
    crc_table,
    crc_XP,
    experts_TLK,
    home_T,
    last_MD,
    marked_D,
    marked_N,
    node_copies_XDN,
    of_home_D,
    offset_P,
    parts_XDN,
    results_XD,
    routed_TLK,
    rows_P,
    shared_crc_MD,
    size_MD,
    start_P,
    step_P,
    tokens_MD,
    tokens_P,
)
from moe_replay.simulate.compiled.cluster.cluster_layout import Cluster
from moe_replay.simulate.compiled.cluster.replica_split import begin_step, slot_of
from moe_replay.simulate.compiled.jit import compiled, inlined
from moe_replay.simulate.compiled.run_layout import NEVER
from moe_replay.simulate.compiled.structures.checksum import crc_step


@compiled
def clear_counts(cluster: Cluster) -> None:
    """Let nothing be counted."""
    begin_step(cluster)
    for device in range(cluster.devices):
        of_home_D(cluster)[device], marked_D(cluster)[device] = 0, -1
        for m in range(cluster.micro_batches):
            tokens_MD(cluster)[m, device], size_MD(cluster)[m, device] = 0, 0
            crc_MD(cluster)[m, device], last_MD(cluster)[m, device] = 0xFFFFFFFF, -1
            began_MD(cluster)[m, device], shared_crc_MD(cluster)[m, device] = NEVER, 0xFFFFFFFF
    for node in range(cluster.nodes):
        marked_N(cluster)[node] = -1
    for x in range(cluster.micro_batches * cluster.layers):
        for slot in range(cluster.slots):
            count_XP(cluster)[x, slot], crc_XP(cluster)[x, slot], began_XP(cluster)[x, slot] = 0, 0xFFFFFFFF, NEVER
        for home in range(cluster.devices):
            for device in range(cluster.devices):
                copies_XDD(cluster)[x, home, device] = 0
            for node in range(cluster.nodes):
                node_copies_XDN(cluster)[x, home, node] = 0


@compiled
def count_step(cluster: Cluster) -> None:
    """Count what the step's tokens need, and how many messages and batches it will make."""
    clear_counts(cluster)
    at = 0
    for i in range(cluster.step):
        p = step_P(cluster)[i]
        for further in range(tokens_P(cluster)[p]):
            count_token(cluster, p, rows_P(cluster)[p] + further, offset_P(cluster)[p] + further, at)
            at += 1
    cluster.need_messages = cluster.need_batches = 0
    for x in range(cluster.micro_batches * cluster.layers):
        for slot in range(cluster.slots):
            cluster.need_batches += count_XP(cluster)[x, slot] > 0
        for home in range(cluster.devices):
            awaited_XD(cluster)[x, home] = 0
        for home in range(cluster.devices):
            await_copies(cluster, x, home)
    for m in range(cluster.micro_batches):
        for home in range(cluster.devices):
            if tokens_MD(cluster)[m, home] > 0:
                cluster.need_batches += cluster.dense * (cluster.layers + 1) + cluster.shared * cluster.layers


@compiled
def count_token(cluster: Cluster, p: int, row: int, token: int, at: int) -> None:
    """Count a token, the step's `at`-th: of a pass, in a row of the trace."""
    home = home_T(cluster)[row]
    m = of_home_D(cluster)[home] % cluster.micro_batches
    of_home_D(cluster)[home] += 1
    tokens_MD(cluster)[m, home] += 1
    if last_MD(cluster)[m, home] != p:
        last_MD(cluster)[m, home] = p
        size_MD(cluster)[m, home] += 1
        crc_MD(cluster)[m, home] = crc_step(crc_MD(cluster)[m, home], p, crc_table(cluster))
    experts, crc, counts, table = experts_TLK(cluster), crc_XP(cluster), count_XP(cluster), crc_table(cluster)
    if cluster.shared > 0:
        shared_crc_MD(cluster)[m, home] = crc_step(shared_crc_MD(cluster)[m, home], token, table)
    for layer in range(cluster.layers):
        x = m * cluster.layers + layer
        for rank in range(cluster.k):
            expert = experts[row, layer, rank]
            if expert >= 0:
                slot = slot_of(cluster, layer, expert, home)
                counts[x, slot] += 1
                crc[x, slot] = crc_step(crc[x, slot], token, table)
                count_copy(cluster, x, home, slot // cluster.per_device, at * cluster.layers + layer)
                if not cluster.dense:
                    routed_TLK(cluster)[at, layer, rank] = slot


@inlined
def count_copy(cluster: Cluster, x: int, home: int, device: int, stamp: int) -> None:
    """Count a copy of a token (of this stamp) for a device, and for its node, unless it has one."""
    if cluster.per_selection or marked_D(cluster)[device] != stamp:
        marked_D(cluster)[device] = stamp
        copies_XDD(cluster)[x, home, device] += 1
    if cluster.relays:
        node = device // cluster.in_node
        if marked_N(cluster)[node] != stamp:
            marked_N(cluster)[node] = stamp
            node_copies_XDN(cluster)[x, home, node] += 1


@compiled
def await_copies(cluster: Cluster, x: int, home: int) -> None:
    """Note who waits for tokens of a home, and for how many results the home waits; count the messages."""
    results = 0
    for node in range(cluster.nodes):
        parts, sent = 0, 0  # devices of the node that run tokens of the home; those that need a message of their own
        through = cluster.relays and node != home // cluster.in_node
        for device in range(node * cluster.in_node, (node + 1) * cluster.in_node):
            if copies_XDD(cluster)[x, home, device] > 0:
                awaited_XD(cluster)[x, device] += 1
                parts += 1
                sent += device % cluster.in_node != home % cluster.in_node if through else device != home
        parts_XDN(cluster)[x, home, node] = parts
        relayed = through and parts > 0
        results += 1 if relayed else parts
        cluster.need_messages += 2 * (sent + relayed)
    results_XD(cluster)[x, home] = results + (cluster.shared > 0)


@compiled
def note_starts(cluster: Cluster) -> None:
    """Note when the first batch of every pass of the step began."""
    at = 0
    for device in range(cluster.devices):
        of_home_D(cluster)[device] = 0
    for i in range(cluster.step):
        p = step_P(cluster)[i]
        began = NEVER
        for further in range(tokens_P(cluster)[p]):
            row = rows_P(cluster)[p] + further
            home = home_T(cluster)[row]
            m = of_home_D(cluster)[home] % cluster.micro_batches
            of_home_D(cluster)[home] += 1
            began = min(began, began_MD(cluster)[m, home])
            if not cluster.dense:
                began = min(began, first_start(cluster, m, row, at))
            at += 1
        start_P(cluster)[p] = began


@compiled
def first_start(cluster: Cluster, m: int, row: int, at: int) -> int:
    """Return when the first batch of a token began that has no dense block; NEVER where it has none."""
    began = NEVER
    for layer in range(cluster.layers):
        for rank in range(cluster.k):
            if experts_TLK(cluster)[row, layer, rank] >= 0:
                slot = routed_TLK(cluster)[at, layer, rank]
                began = min(began, began_XP(cluster)[m * cluster.layers + layer, slot])
    return began
