"""The compiled loop of queues over linked devices: `compiled.instant` with messages, in the order of its steps.

`play_queues` returns whenever it needs what only Python has, room for records or the cost of a batch, and goes on where
it stopped when it is called again.
"""

from __future__ import annotations

import numpy as np

from moe_replay.simulate.compiled.batch import launch, occupy
from moe_replay.simulate.compiled.cluster.cluster_accessors import (
    carried_A,
    due_at,
    event_at,
    events_A,
    first_part_P,
    message_at,
    messages_A,
    port_at,
    ports,
)
from moe_replay.simulate.compiled.cluster.cluster_layout import DELIVERED, HEAD, Cluster
from moe_replay.simulate.compiled.cluster.cluster_queues import (
    bind,
    combine,
    come_back,
    go_on,
    join_slots,
    note_start,
    part_of,
    tokens_of,
)
from moe_replay.simulate.compiled.cluster.ports import enter_port, head_arrives, kind_of, leave_port, take_due
from moe_replay.simulate.compiled.instant import choose_next, go_to, is_stalled, leave, next_moment
from moe_replay.simulate.compiled.jit import compiled
from moe_replay.simulate.compiled.queueing import join_queues, rejoin, time_out
from moe_replay.simulate.compiled.run_layout import (
    DONE,
    LAUNCH,
    NEED_BATCHES,
    NEED_COST,
    NEED_ROOM,
    NEXT_INSTANT,
    ROUND,
    World,
    arriving_P,
    batches_A,
    device_at,
    node_at,
    pass_at,
)
from moe_replay.simulate.compiled.structures.chains import free_members, pop_ready
from moe_replay.simulate.policies.cluster.ports import COMBINE


@compiled
def play_queues(world: World, cluster: Cluster) -> int:
    """Play instants until the run is over or something is needed; return which."""
    while True:
        if world.where == NEXT_INSTANT and not begin_instant(world, cluster):
            return DONE
        if world.where == ROUND:
            if cluster.due < 0:
                cluster.due = take_due(cluster)  # before anything of this round can add to the calendar
            if world.batches + world.devices > len(batches_A(world)):
                return NEED_BATCHES
            if not has_room(world, cluster):
                return NEED_ROOM
            play_round(world, cluster)
        if world.where == LAUNCH:
            if not launch(world):
                return NEED_COST
            leave(world, None, None)
        end_round(world, cluster)


@compiled
def begin_instant(world: World, cluster: Cluster) -> bool:
    """Go to the next moment at which something is due; return False if there is none."""
    now = next_moment(world)
    if cluster.events > 0:
        now = min(now, event_at(cluster, 0).when)
    cluster.now = now
    return go_to(world, now)


@compiled
def has_room(world: World, cluster: Cluster) -> bool:
    """Say whether the messages that a round may make, and their events, find room.

    At most one event is due for each port in and port out, and one for each message whose head is on its way.
    """
    others, made = world.devices - 1, 0
    for device in range(world.devices):
        batch = device_at(world, device)
        if batch.done:
            # An expert's results go to as many homes as it has members; a part that goes on may send to all others.
            goes_on = batch.queue % world.width == 0 or not world.dense
            made += batch.size * others if goes_on else min(others, batch.size)
    if not world.dense:  # then whatever comes home, or arrives, goes on at once
        for at in range(cluster.due):
            message = message_at(cluster, due_at(cluster, at).what)
            if kind_of(due_at(cluster, at).number) == DELIVERED and message.kind == COMBINE:
                made += message.tokens * others
        for i in range(world.arriving):
            p = arriving_P(world)[i]
            made += (first_part_P(cluster)[p + 1] - first_part_P(cluster)[p]) * others
    cluster.need_messages = made
    events = 2 * len(ports(cluster)) + cluster.messages - cluster.delivered + made
    return cluster.messages + made <= len(messages_A(cluster)) and events <= len(events_A(cluster))


@compiled
def play_round(world: World, cluster: Cluster) -> None:
    """Play the steps of `policies.instant_order` until batches are bound, whose costs are then asked for."""
    now = world.now
    world.finished = world.emptied = 0
    complete_batches(world, cluster, now)
    receive_messages(world, cluster, now)
    admit_passes(world, cluster, now)
    time_out(world, now)
    join_queues(world, None, None, now)
    start_batches(world, cluster, now)
    world.where = LAUNCH


@compiled
def end_round(world: World, cluster: Cluster) -> None:
    """Choose between a further round, the stall rule and the next instant; what is on its way is no stall."""
    further = cluster.events > 0 and event_at(cluster, 0).when == world.now
    choose_next(world, further, is_stalled(world) and cluster.events == 0)


@compiled
def complete_batches(world: World, cluster: Cluster, now: int) -> None:
    """Free the devices of completed batches, ascending; their passes go on, or results travel home."""
    for device in range(world.devices):
        batch = device_at(world, device)
        if batch.done:
            batch.done, batch.free = 0, 1
            world.running -= 1
            layer = batch.queue // world.width // world.devices
            if batch.queue % world.width:
                combine(world, cluster, device, layer, now)
            else:
                node = batch.head
                for _ in range(batch.size):
                    p = np.int64(node_at(world, node).member)
                    note_start(world, p, batch.start_ns)
                    go_on(world, cluster, part_of(cluster, p, device), layer, True, now)
                    node = node_at(world, node).next
                free_members(world, device)


@compiled
def receive_messages(world: World, cluster: Cluster, now: int) -> None:
    """Let happen at the ports what is due, and handle what they deliver."""
    for at in range(cluster.due):
        kind, what = kind_of(due_at(cluster, at).number), due_at(cluster, at).what
        message = message_at(cluster, what)
        if kind == DELIVERED:
            cluster.delivered += 1
            port_at(cluster, message.port_in).busy_in = 0
            enter_port(cluster, message.port_in)
            first = np.int64(carried_A(cluster)[what])
            if message.kind == COMBINE:
                come_back(world, cluster, first, now)
            else:
                join_slots(world, cluster, first, now)
        elif kind == HEAD:
            head_arrives(cluster, what)
        else:
            port_at(cluster, message.port_out).busy_out = 0
            leave_port(cluster, message.port_out)
    cluster.due = -1


@compiled
def admit_passes(world: World, cluster: Cluster, now: int) -> None:
    """Take the passes in that arrive."""
    for i in range(world.arriving):
        p = arriving_P(world)[i]
        pass_at(world, p).arrival_ns = now
        world.present += 1
        for part in range(first_part_P(cluster)[p], first_part_P(cluster)[p + 1]):
            go_on(world, cluster, part, 0, False, now)
    world.arriving = 0


@compiled
def start_batches(world: World, cluster: Cluster, now: int) -> None:
    """Let every free device, ascending, take its first ready queue."""
    world.launched = world.batches  # those before have their ends
    for device in range(world.devices):
        if device_at(world, device).free and device_at(world, device).first_ready >= 0:
            queue = pop_ready(world, device)
            row = occupy(world, device, queue, now)
            row.size, row.crc, row.forced = bind(world, cluster, device, queue)
            row.tokens = row.size if queue % world.width else tokens_of(world, cluster, device)
            rejoin(world, None, None, queue, now)
            world.batches += 1
