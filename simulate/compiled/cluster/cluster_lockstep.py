"""One step over linked devices, compiled: `simulate.policies.cluster.cluster_lockstep`, and the rounds of its instants.

`play_step` returns whenever it needs room for records or the cost of a batch, and goes on there when called again.
"""

from __future__ import annotations

from moe_replay.simulate.compiled.cluster.cluster_accessors import (
    awaited_XD,
    batches_A,
    began_MD,
    began_XP,
    copies_XDD,
    cost_CN,
    count_XP,
    crc_MD,
    crc_XP,
    curve_LB,
    due_at,
    event_at,
    events_A,
    linked_batch_at,
    message_at,
    messages_A,
    port_at,
    ports,
    results_XD,
    shared_crc_MD,
    size_MD,
    tokens_MD,
    work_DW,
    worker_at,
)
from moe_replay.simulate.compiled.cluster.cluster_layout import (
    BEGINNING,
    COMPLETED,
    COUNTING,
    DELIVERED,
    DENSE,
    HEAD,
    SHARED,
    SLOTS,
    STEP_ENDED,
    STEP_NEEDS_COST,
    STEP_NEEDS_ROOM,
    STEP_TOO_LATE,
    TAKING,
    Cluster,
)
from moe_replay.simulate.compiled.cluster.exchange import combine, dispatch, relay_on
from moe_replay.simulate.compiled.cluster.ports import enter_port, head_arrives, kind_of, leave_port, note, take_due
from moe_replay.simulate.compiled.cluster.step_routes import count_step, note_starts
from moe_replay.simulate.compiled.jit import compiled, inlined
from moe_replay.simulate.compiled.run_layout import NEVER
from moe_replay.simulate.compiled.structures.clock import later
from moe_replay.simulate.policies.cluster.ports import COMBINE, DISPATCH


@compiled
def play_step(cluster: Cluster) -> int:
    """Play instants until the step has ended or something is needed; return which."""
    if cluster.where == COUNTING:
        count_step(cluster)
        cluster.where = BEGINNING
    if cluster.where == BEGINNING:
        if not has_room(cluster):
            return STEP_NEEDS_ROOM
        begin(cluster)
        cluster.where = TAKING
    while True:
        if not start_batches(cluster):
            return STEP_NEEDS_COST
        if cluster.unfinished == 0:
            note_starts(cluster)
            return STEP_ENDED
        when = event_at(cluster, 0).when
        if when == NEVER:
            return STEP_TOO_LATE
        cluster.round = cluster.round + 1 if when == cluster.now else 1
        cluster.now = when
        play_round(cluster)


@compiled
def has_room(cluster: Cluster) -> bool:
    """Say whether the records of the step, and its events, find room.

    At most one event is due for each device, port in and port out, and one for each message whose head is on its way.
    """
    events = cluster.devices + 2 * len(ports(cluster)) + cluster.need_messages
    return (
        cluster.messages + cluster.need_messages <= len(messages_A(cluster))
        and cluster.batches + cluster.need_batches <= len(batches_A(cluster))
        and events <= len(events_A(cluster))
    )


@compiled
def begin(cluster: Cluster) -> None:
    """Let the step's tokens enter the first layer, micro-batch by micro-batch, devices ascending."""
    cluster.events = cluster.numbered = cluster.unfinished = 0
    for number in range(len(ports(cluster))):
        port = port_at(cluster, number)
        port.busy_out, port.busy_in, port.first_out, port.first_in = 0, 0, -1, -1
    for device in range(cluster.devices):
        worker = worker_at(cluster, device)
        worker.listed, worker.done, worker.item, worker.busy = 0, 0, -1, 0
    for m in range(cluster.micro_batches):
        for home in range(cluster.devices):
            cluster.unfinished += tokens_MD(cluster)[m, home] > 0
    for m in range(cluster.micro_batches):
        for home in range(cluster.devices):
            if tokens_MD(cluster)[m, home] > 0:
                go_on(cluster, m, home, 0, False)


@compiled
def go_on(cluster: Cluster, m: int, home: int, layer: int, behind_dense: bool) -> None:
    """Let a home's tokens enter a layer, or go on behind its dense block, as far as they get at once."""
    while True:
        if cluster.dense and not behind_dense:
            enqueue(cluster, home, m, layer, DENSE)
            return
        if layer == cluster.layers:
            cluster.unfinished -= 1
            return
        x = m * cluster.layers + layer
        dispatch(cluster, x, home)
        if cluster.shared > 0:
            enqueue(cluster, home, m, layer, SHARED)
        if copies_XDD(cluster)[x, home, home] > 0:
            reach(cluster, m, layer, home)
            return
        if results_XD(cluster)[x, home] > 0:
            return
        layer, behind_dense = layer + 1, False


@inlined
def enqueue(cluster: Cluster, device: int, m: int, layer: int, kind: int) -> None:
    """Put an item at the end of a device's work."""
    worker = worker_at(cluster, device)
    work_DW(cluster)[device, worker.listed].item = (m * (cluster.layers + 1) + layer) * 4 + kind
    work_DW(cluster)[device, worker.listed].ready_ns = cluster.now
    worker.listed += 1
    cluster.may_start = 1


@compiled
def reach(cluster: Cluster, m: int, layer: int, device: int) -> None:
    """The tokens of a further home are there; with the last of them a device's active slots are enqueued together."""
    x = m * cluster.layers + layer
    awaited_XD(cluster)[x, device] -= 1
    if awaited_XD(cluster)[x, device] == 0:
        enqueue(cluster, device, m, layer, SLOTS)


@compiled
def back(cluster: Cluster, m: int, layer: int, home: int) -> None:
    """Further results of a home are back; with the last of them it enters the next layer."""
    x = m * cluster.layers + layer
    results_XD(cluster)[x, home] -= 1
    if results_XD(cluster)[x, home] == 0:
        go_on(cluster, m, home, layer + 1, False)


@compiled
def play_round(cluster: Cluster) -> None:
    """Handle what is due: completed batches, delivered messages, heads at ports in, free ports out."""
    due = take_due(cluster)
    for at in range(due):
        kind, what = kind_of(due_at(cluster, at).number), due_at(cluster, at).what
        if kind == COMPLETED:
            release(cluster, what)
        elif kind == DELIVERED:
            deliver(cluster, what)
        elif kind == HEAD:
            head_arrives(cluster, what)
        else:
            port_at(cluster, message_at(cluster, what).port_out).busy_out = 0
            leave_port(cluster, message_at(cluster, what).port_out)


@compiled
def release(cluster: Cluster, device: int) -> None:
    """Free the device of a completed batch, and do what follows the batch."""
    worker = worker_at(cluster, device)
    worker.busy, cluster.may_start = 0, 1
    place, kind = worker.item >> 2, worker.item & 3
    m, layer = place // (cluster.layers + 1), place % (cluster.layers + 1)
    if kind == DENSE:
        worker.item = -1
        go_on(cluster, m, device, layer, True)
        return
    x = m * cluster.layers + layer
    worker.slot = next_slot(cluster, kind, x, device, worker.slot + 1)
    if worker.slot >= 0:
        return
    worker.item = -1
    if kind == SLOTS:
        combine(cluster, x, device)
    if kind == SHARED or copies_XDD(cluster)[x, device, device] > 0:
        back(cluster, m, layer, device)


@inlined
def next_slot(cluster: Cluster, kind: int, x: int, device: int, first: int) -> int:
    """Return a device's first slot from `first` on that has members, -1 if none has; shared experts follow slots."""
    if kind == SHARED:
        return first if first < cluster.slots + cluster.shared else -1
    for slot in range(first, (device + 1) * cluster.per_device):
        if count_XP(cluster)[x, slot] > 0:
            return slot
    return -1


@compiled
def deliver(cluster: Cluster, delivered: int) -> None:
    """Handle a delivered message."""
    message = message_at(cluster, delivered)
    port_at(cluster, message.port_in).busy_in = 0
    enter_port(cluster, message.port_in)
    m, layer, kind = message.micro_batch, message.layer, message.kind
    home, destination, x = message.home, message.destination, m * cluster.layers + layer
    relay_on(cluster, x, delivered)
    if kind == DISPATCH and copies_XDD(cluster)[x, home, destination] > 0:
        reach(cluster, m, layer, destination)
    if kind == COMBINE and destination == home:
        back(cluster, m, layer, home)


@compiled
def start_batches(cluster: Cluster) -> bool:
    """Let every free device, ascending, take the first of its work; return False where a cost has to be asked for.

    It is called again then: devices that have taken are busy. Most rounds free no device and bring none work.
    """
    if not cluster.may_start:
        return True
    for device in range(cluster.devices):
        worker = worker_at(cluster, device)
        if worker.busy or (worker.item < 0 and worker.done == worker.listed):
            continue
        if worker.item < 0:
            worker.item = work_DW(cluster)[device, worker.done].item
            worker.ready_ns = work_DW(cluster)[device, worker.done].ready_ns
            worker.done += 1
            place, kind = worker.item >> 2, worker.item & 3
            if kind != DENSE:
                x = place - place // (cluster.layers + 1)  # a micro-batch has one place more of dense blocks
                first = cluster.slots if kind == SHARED else device * cluster.per_device
                worker.slot = next_slot(cluster, kind, x, device, first)
        if not start(cluster, device):
            return False
    cluster.may_start = 0
    return True


@compiled
def start(cluster: Cluster, device: int) -> bool:
    """Start the next batch of a device; return False where its cost is not known."""
    worker = worker_at(cluster, device)
    place, kind = worker.item >> 2, worker.item & 3
    m, layer = place // (cluster.layers + 1), place % (cluster.layers + 1)
    x, slot = m * cluster.layers + layer, worker.slot
    tokens = count_XP(cluster)[x, slot] if kind == SLOTS else tokens_MD(cluster)[m, device]
    block = 0 if kind == DENSE else slot + 1
    service_ns = known_cost(cluster, layer, block, tokens)
    if service_ns < 0:
        return False
    batch = linked_batch_at(cluster, cluster.batches)
    cluster.batches += 1
    batch.device, batch.layer, batch.block, batch.micro_batch, batch.tokens = device, layer, block, m, tokens
    batch.size, crc = tokens, shared_crc_MD(cluster)[m, device]
    if kind == DENSE:
        batch.size, crc = size_MD(cluster)[m, device], crc_MD(cluster)[m, device]
    elif kind == SLOTS:
        crc = crc_XP(cluster)[x, slot]
    batch.crc = (crc ^ 0xFFFFFFFF) & 0xFFFF
    batch.ready_ns, batch.start_ns, batch.end_ns = worker.ready_ns, cluster.now, later(cluster.now, service_ns)
    if kind == SLOTS:
        began_XP(cluster)[x, slot] = cluster.now
    elif layer == 0:
        began_MD(cluster)[m, device] = min(began_MD(cluster)[m, device], cluster.now)
    worker.busy = 1
    note(cluster, batch.end_ns, COMPLETED, device, device)
    return True


@compiled
def known_cost(cluster: Cluster, layer: int, block: int, tokens: int) -> int:
    """Return the service time of a batch, or ask for it and return -1."""
    service_ns = cluster.given_ns
    cluster.given_ns = -1
    curve = curve_LB(cluster)[layer, min(block, 1)]
    if service_ns < 0 and tokens < cost_CN(cluster).shape[1]:
        service_ns = cost_CN(cluster)[curve, tokens]
    if service_ns < 0:
        cluster.cost_layer, cluster.cost_block, cluster.cost_tokens = layer, block, tokens
    return service_ns
