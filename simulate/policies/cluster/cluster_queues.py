"""Queues over linked devices: one for each (layer, device, block); selections travel to those of their slots."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np

from moe_replay.simulate.policies.batch import Batch
from moe_replay.simulate.policies.cluster.linked_scheduler import LinkedScheduler
from moe_replay.simulate.policies.cluster.ports import COMBINE, DISPATCH, Message, Ports
from moe_replay.simulate.policies.cluster.replica_split import ReplicaSplit
from moe_replay.simulate.policies.cluster.slot_table import expert_slots
from moe_replay.simulate.policies.queueing import QueueScheduler

if TYPE_CHECKING:
    from moe_replay.simulate.config.run_config import RunConfig
    from moe_replay.simulate.config.workload import Workload

Selection = tuple[int, int]  # (token, the queue of its slot)


class ClusterQueues(LinkedScheduler, QueueScheduler):
    """The rules of `QueueScheduler`, with tokens that have homes and messages between devices.

    The tokens of a pass that are at home on one device are a *part* of it: parts move on by themselves, and the pass
    ends with the last. A home's dense queue holds its parts, as pass numbers; a slot's queue holds selections, which
    join it when they are delivered and wait from then. A queue's number is (layer * devices + device) * width + block,
    where block 0 is dense and 1 + i is the device's i-th slot; behind the slots are shared experts, which every token
    of the home selects.
    """

    def __init__(self, workload: Workload, config: RunConfig) -> None:
        self.cluster, self.devices, self.layers = config.cluster, config.devices, workload.layers
        slots_LP = expert_slots(
            config.placement, workload.layers, workload.experts, config.devices, config.cluster
        )  # fmt: skip
        self.split = ReplicaSplit(slots_LP, config.devices, config.cluster)
        width = 1 + self.split.slots_per_device + config.cluster.shared_experts
        device_X = np.tile(np.arange(config.devices), workload.layers + 1)
        super().__init__(workload, np.repeat(device_X[:, None], width, axis=1), config)
        self.width, self.dense, self.workload = width, config.dense, workload
        self.ports, self.messages = Ports(config.devices, config.cluster), []
        self.carried: dict[Message, list] = {}  # of messages under way: selections, or tokens whose results they bring
        self.parts_P = parts_of(workload)
        self.unfinished_P = [len(parts) for parts in self.parts_P]
        self.left: dict[tuple[int, int], int] = {}  # of a part (pass, home): selections whose results are not back
        self.entered: dict[tuple[bool, int, int], int] = {}  # when a member, (is dense, number, device), joined
        self.ended: list[int] = []  # passes that have finished in this round

    def admit(self, passes: list[int], now: int) -> list[int]:
        """Put arriving passes into the queues of their first stage, homes ascending."""
        self.present += len(passes)
        for p in passes:
            for home in self.parts_P[p]:
                self._enter(p, home, 0, now)
        return self._take_ended()

    def _take_ended(self) -> list[int]:
        ended, self.ended = self.ended, []
        self.present -= len(ended)
        return ended

    def _enter(self, p: int, home: int, layer: int, now: int) -> None:
        """A part enters a layer: its dense block, or where there is none what follows that."""
        if self.dense:
            self._join(p, (layer * self.devices + home) * self.width, now)
        else:
            self._go_on(p, home, layer, now)

    def _join(self, member: int, queue: int, now: int) -> None:
        """Append a member to a queue; it waits from now."""
        is_dense = queue % self.width == 0
        self.queues[queue].append(member)
        self.entered[is_dense, member, self.device_Q[queue]] = now
        self._grown(queue, len(self.queues[queue]), self.dense_size if is_dense else self.size, now)

    def _head_entered(self, queue: int) -> int:
        """Return when the head of a queue joined it."""
        return self.entered[queue % self.width == 0, self.queues[queue][0], self.device_Q[queue]]

    def _go_on(self, p: int, home: int, layer: int, now: int) -> None:
        """Behind the dense block: selections travel, then those join that stay; the part moves on if it has none."""
        if layer == self.layers:
            self.unfinished_P[p] -= 1
            if not self.unfinished_P[p]:
                self.ended.append(p)
            return
        selections_D = self._shared_out(p, home, layer)
        self.left[p, home] = sum(map(len, selections_D.values()))
        for device in self._others(home):
            if selections := selections_D.get(device):
                once = self.cluster.unit == "device"
                copies = len({token for token, _ in selections} if once else selections)
                self._carry(selections, DISPATCH, (home, device), home, copies, layer, now)
        for token, queue in selections_D.get(home, ()):
            self._join(token, queue, now)
        if not self.left[p, home]:
            self._enter(p, home, layer + 1, now)

    def _shared_out(self, p: int, home: int, layer: int) -> dict[int, list[Selection]]:
        """Return the selections of a part in a layer by device, tokens in row order, ranks in order."""
        selections_D = defaultdict(list)
        for token in self.parts_P[p][home]:
            for expert in self.workload.experts_TLK[self.workload.row_N[token], layer].tolist():
                if expert >= 0:
                    slot = self.split.slot(layer, expert, home)
                    device, block = divmod(slot, self.split.slots_per_device)
                    queue = (layer * self.devices + device) * self.width + 1 + block
                    selections_D[device].append((token, queue))
            shared = (layer * self.devices + home + 1) * self.width  # behind the last of the home's queues
            selections_D[home] += [(token, shared - each) for each in range(self.cluster.shared_experts, 0, -1)]
        return selections_D

    def _others(self, one: int) -> list[int]:
        """Return the devices behind one, cyclically, without it."""
        return [(one + further) % self.devices for further in range(1, self.devices)]

    def _carry(
        self, what: list, kind: int, ends: tuple[int, int], home: int, tokens: int, layer: int, now: int
    ) -> None:  # fmt: skip
        """Send selections, or tokens with their results, from one device to another."""
        each = self.cluster.combine_bytes if kind == COMBINE else self.cluster.dispatch_bytes
        message = Message(0, layer, kind, *ends, home, tokens, tokens * each, -1)
        self.carried[message] = what
        self.send(message, now)

    def release(self, batch: Batch, now: int) -> None:
        """Free the device of a completed batch; its passes go on, or its results travel home."""
        super().release(batch, now)
        if not batch.block:
            for p in batch.members:
                self._go_on(p, batch.device, batch.layer, now)
            return
        tokens_D = defaultdict(list)
        for token in batch.members:
            tokens_D[self._home_of(token)].append(token)
        for home in self._others(batch.device):
            if tokens := tokens_D.get(home):
                self._carry(tokens, COMBINE, (batch.device, home), home, len(tokens), batch.layer, now)
        self._come_back(tokens_D.get(batch.device, []), batch.layer, now)

    def _home_of(self, token: int) -> int:
        return int(self.workload.home_T[self.workload.row_N[token]])

    def _come_back(self, tokens: list[int], layer: int, now: int) -> None:
        """Results are at home, each of one selection of a token; a part moves on with its last."""
        for token in tokens:
            part = self.pass_N[token], self._home_of(token)
            self.left[part] -= 1
            if not self.left[part]:
                self._enter(*part, layer + 1, now)

    def deliver(self, now: int) -> list[int]:
        """Let happen at the ports what is due, and handle what they deliver; return the passes that finish."""
        for message in self.ports.due(now):
            carried = self.carried.pop(message)
            if message.kind == COMBINE:
                self._come_back(carried, message.layer, now)
            else:
                for token, queue in carried:
                    self._join(token, queue, now)
        return self._take_ended()

    def new_batch(self, queue: int, members: list[int], now: int) -> Batch:
        """Return the batch of these members of a queue; its block is 1 + its slot in the cluster."""
        place, block = divmod(queue, self.width)
        layer, device = divmod(place, self.devices)
        tokens = len(members) if block else sum(len(self.parts_P[p][device]) for p in members)
        held = self.split.slots_per_device
        # Slots are numbered over the cluster, and shared experts behind all of them.
        number = block + (device if block <= held else self.devices - 1) * held if block else 0
        return Batch(device, layer, number, members, tokens, self.ready_ns_Q[queue], now)


def parts_of(workload: Workload) -> list[dict[int, list[int]]]:
    """Return {home: tokens in row order} of every pass, homes ascending."""
    home_N = workload.home_T[workload.row_N].tolist()
    found = []
    for first, tokens in zip(workload.token_offset_P.tolist(), workload.tokens_P.tolist(), strict=True):
        of_home = defaultdict(list)
        for token in range(first, first + tokens):
            of_home[home_N[token]].append(token)
        found.append(dict(sorted(of_home.items())))
    return found
