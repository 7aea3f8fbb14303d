"""Lockstep over linked devices: a step goes layer by layer, and a device waits for nothing but what is meant for it."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from moe_replay.simulate.policies.batch import Batch
from moe_replay.simulate.policies.cluster.exchange import Exchange
from moe_replay.simulate.policies.cluster.linked_scheduler import LinkedScheduler
from moe_replay.simulate.policies.cluster.ports import COMBINE, DISPATCH, Message, Ports
from moe_replay.simulate.policies.cluster.replica_split import ReplicaSplit
from moe_replay.simulate.policies.cluster.slot_table import expert_slots
from moe_replay.simulate.policies.cluster.step_routes import StepRoutes
from moe_replay.simulate.policies.scheduler import members_of_stages

if TYPE_CHECKING:
    from moe_replay.simulate.config.run_config import RunConfig
    from moe_replay.simulate.config.workload import Workload

Work = tuple[int, int, int, int]  # (micro-batch, layer, block, when it was ready)


class ClusterLockstep(LinkedScheduler):
    """A step of at most `max_step` waiting passes at a time; its tokens are at home on devices that exchange messages.

    A device carries out its work first come, first served: the dense block of its own tokens, then the slots that its
    own and others' tokens select, when all messages for them are there. See DESIGN, "Devices and links".
    """

    in_order = True

    def __init__(self, workload: Workload, config: RunConfig, slots_LP: np.ndarray | None = None) -> None:
        # The base class numbers queues by layer and block, one for each; here every device has dense blocks.
        cluster, self.workload, self.memory = config.cluster, workload, None
        self.devices, self.dense, self.layers = config.devices, config.dense, workload.layers
        if slots_LP is None:  # else they are given, where placements change from step to step
            slots_LP = expert_slots(config.placement, workload.layers, workload.experts, config.devices, cluster)
        self.split = ReplicaSplit(slots_LP, config.devices, cluster)
        self.ports, self.cluster = Ports(config.devices, cluster), cluster
        self.max_step = config.max_step or workload.passes
        stages_P = members_of_stages(workload, config.dense)
        self.works_P = [cluster.shared_experts > 0 or any(members) for members in stages_P]
        self.first_shared = 1 + slots_LP.shape[1]  # the block of the first shared expert, behind those of slots
        self.queued: deque[int] = deque()
        self.step: list[int] = []
        self.running = self.present = 0
        self.work_D: list[deque[Work]] = [deque() for _ in range(config.devices)]
        self.free_D = [True] * config.devices
        self.emptied: list[int] = []
        self.messages: list[Message] = []
        self.begin_routes(StepRoutes((), self.split, 1, True))

    def begin_routes(self, routes: StepRoutes) -> None:
        """Let a step have these routes, of which nothing has happened."""
        self.routes = routes
        self.exchange = Exchange(routes, self.devices, self.cluster)
        self.left: Counter[tuple[int, int, int]] = Counter()  # slots to run by (micro-batch, layer, device)
        self.sharing: Counter[tuple[int, int, int]] = Counter()  # shared experts to run, likewise
        self.unfinished = len(routes.parts)

    def admit(self, passes: list[int], now: int) -> list[int]:
        """Let arriving passes wait for the next step."""
        working = [p for p in passes if self.works_P[p]]
        self.queued.extend(working)
        self.present += len(working)
        return [p for p in passes if not self.works_P[p]]

    def join_ready(self, now: int) -> None:
        """Take the waiting passes as the next step if none is under way."""
        if not self.step and self.queued:
            self.step = [self.queued.popleft() for _ in range(min(self.max_step, len(self.queued)))]
            rows, once = self._rows(), self.cluster.unit == "device"
            self.begin_routes(StepRoutes(rows, self.split, self.cluster.micro_batches, once))
            for micro_batch, home in sorted(self.routes.parts):
                self._enter(micro_batch, home, 0, now)

    def _rows(self) -> Iterator[tuple[int, int, int, list[list[int]]]]:
        """Yield (token, pass, home, experts of every layer) of the step's rows."""
        work = self.workload
        for p in self.step:
            first, token = int(work.first_row_P[p]), int(work.token_offset_P[p])
            for i in range(int(work.tokens_P[p])):
                experts = [[e for e in row if e >= 0] for row in work.experts_TLK[first + i].tolist()]
                yield token + i, p, int(work.home_T[first + i]), experts

    def _enter(self, micro_batch: int, home: int, layer: int, now: int) -> None:
        """A home's tokens enter a layer: its dense block, or where there is none what follows that."""
        if self.dense:
            self.work_D[home].append((micro_batch, layer, 0, now))
        else:
            self._go_on(micro_batch, home, layer, now)

    def _go_on(self, micro_batch: int, home: int, layer: int, now: int) -> None:
        """Behind the dense block of a layer: dispatch, then what stays local is there; or the end."""
        if layer == self.layers:
            self.unfinished -= 1
            return
        place = micro_batch, layer
        for message in self.exchange.dispatch(place, home):
            self.send(message, now)
        # In front of what is local: results of shared experts have no way to go.
        self.sharing[micro_batch, layer, home] = self.cluster.shared_experts
        shared = range(self.first_shared, self.first_shared + self.cluster.shared_experts)
        self.work_D[home].extend((micro_batch, layer, block, now) for block in shared)
        if self.exchange.keeps_local(place, home):
            self._reach(micro_batch, layer, home, now)
        elif not self.exchange.expects_results(place, home):
            self._enter(micro_batch, home, layer + 1, now)

    def _reach(self, micro_batch: int, layer: int, device: int, now: int) -> None:
        """Tokens for a device are there; with the last of them its active slots can run."""
        if self.exchange.all_there((micro_batch, layer), device):
            self.run_active(micro_batch, layer, device, now)

    def run_active(self, micro_batch: int, layer: int, device: int, now: int) -> None:
        """Enqueue a device's active slots together, ascending."""
        active = self.active(micro_batch, layer, device)
        self.left[micro_batch, layer, device] = len(active)
        self.work_D[device].extend((micro_batch, layer, 1 + slot, now) for slot in active)

    def active(self, micro_batch: int, layer: int, device: int) -> list[int]:
        """Return the slots of a device that have members, ascending."""
        first = device * self.split.slots_per_device
        members = self.routes.of(micro_batch, layer).members
        return [slot for slot in range(first, first + self.split.slots_per_device) if slot in members]

    def release(self, batch: Batch, now: int) -> None:
        """Free the device of a completed batch, and do what follows the batch."""
        self.free_D[batch.device] = True
        self.running -= 1
        micro_batch, layer, device = batch.micro_batch, batch.layer, batch.device
        if batch.block == 0:
            self._go_on(micro_batch, device, layer, now)
            return
        if batch.block >= self.first_shared:
            self.sharing[micro_batch, layer, device] -= 1
            if self.sharing[micro_batch, layer, device] == 0:
                self._return(micro_batch, layer, device, now)
            return
        self.left[micro_batch, layer, device] -= 1
        if self.left[micro_batch, layer, device] == 0:
            for message in self.exchange.combine((micro_batch, layer), device):
                self.send(message, now)
            if self.exchange.keeps_local((micro_batch, layer), device):
                self._return(micro_batch, layer, device, now)

    def _return(self, micro_batch: int, layer: int, home: int, now: int) -> None:
        """Results of a home are back; with the last of them it enters the next layer."""
        if self.exchange.all_back((micro_batch, layer), home):
            self._enter(micro_batch, home, layer + 1, now)

    def deliver(self, now: int) -> list[int]:
        """Let happen at the ports what is due, and handle what they deliver; return the passes of a step that ends."""
        for message in self.ports.due(now):
            place = message.micro_batch, message.layer
            for further in self.exchange.relayed(message):
                self.send(further, now)
            if message.kind == DISPATCH and self.exchange.is_for(place, message.home, message.destination):
                self._reach(*place, message.destination, now)
            if message.kind == COMBINE and message.destination == message.home:
                self._return(*place, message.home, now)
        if self.unfinished or not self.step:
            return []
        finished, self.step = self.step, []
        self.present -= len(finished)
        return finished

    def start_batches(self, now: int) -> list[Batch]:
        """Let every free device, ascending, take the first of its work."""
        started = []
        for device, work in enumerate(self.work_D):
            if work and self.free_D[device]:
                self.free_D[device] = False
                self.running += 1
                started.append(self._batch(device, *work.popleft(), now))
        return started

    def _batch(self, device: int, micro_batch: int, layer: int, block: int, ready_ns: int, now: int) -> Batch:
        part = self.routes.parts.get((micro_batch, device))  # a device that is home to nobody has none
        if block == 0:
            members, tokens = part.passes, len(part.tokens)
        else:
            is_shared = block >= self.first_shared
            members = part.tokens if is_shared else self.routes.of(micro_batch, layer).members[block - 1]
            tokens = len(members)
        return Batch(device, layer, block, members, tokens, ready_ns, now, micro_batch=micro_batch)
