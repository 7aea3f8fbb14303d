"""Runs of queues over linked devices by the compiled loop."""

from __future__ import annotations

import numpy as np

from moe_replay.simulate.compiled import entries
from moe_replay.simulate.compiled.cluster.queues_build import new_parts
from moe_replay.simulate.compiled.jit import Entry
from moe_replay.simulate.compiled.pointers import Pointed
from moe_replay.simulate.compiled.run_build import new_world
from moe_replay.simulate.config.costs import Cost
from moe_replay.simulate.config.run_config import RunConfig
from moe_replay.simulate.config.workload import Workload
from moe_replay.simulate.engines.compiled_engine import CompiledRun, curves
from moe_replay.simulate.engines.lengthening_table import LengtheningTable
from moe_replay.simulate.policies.cluster.slot_table import expert_slots
from moe_replay.traces.runs.run_records import LINKED_BATCH_COLUMNS, MESSAGE_COLUMNS, RunRecords

ENDS = ("first_out", "last_out", "first_in", "last_in")  # of the queues of ports, whose members are message numbers


class LinkedQueuesRun(CompiledRun):
    """One run of a workload in queues over linked devices; arguments as of `simulate.engines.simpy_engine.Engine`.

    A queue's number is (layer * devices + device) * width + block, where block 0 is dense and 1 + i the device's i-th
    slot; shared experts are behind the slots.
    """

    def _new_world(self) -> Pointed:
        workload, config = self.workload, self.config
        slots_LP = expert_slots(
            config.placement, workload.layers, workload.experts, config.devices, config.cluster
        )  # fmt: skip
        self.per_device = slots_LP.shape[1] // config.devices
        device_X = np.tile(np.arange(config.devices), workload.layers + 1)
        self.width = 1 + self.per_device + config.cluster.shared_experts
        device_XB = np.repeat(device_X[:, None], self.width, axis=1)
        layer_Q, block_Q = self.place_of(np.arange(device_XB.size))
        world = new_world(workload, config, curves(self.cost, layer_Q, np.minimum(block_Q, 1)), device_XB)
        self.messages = LengtheningTable(MESSAGE_COLUMNS)
        self.cluster = new_parts(workload, config, slots_LP, len(world["nodes_N"]))
        world["passes_P"]["left"] = np.diff(self.cluster["first_part_P"])
        return world

    def place_of(self, queue: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return (layer, block) of queues by their numbers; block 1 + p is slot p of the cluster, then come shared."""
        place, block = np.divmod(queue, self.width)
        layer, device = np.divmod(place, self.config.devices)
        before = np.where(block <= self.per_device, device, self.config.devices - 1) * self.per_device
        return layer, np.where(block > 0, block + before, 0)

    def _entry(self) -> tuple[Entry, list[Pointed]]:
        return entries.play_linked_queues, [self.world, self.cluster]

    @property
    def any_message(self) -> bool:
        """Whether a message between devices is on its way."""
        return bool(self.cluster.events)

    def _make_room(self) -> None:
        """Keep the messages that are there, and lengthen what is too short for those of a round and their events."""
        self._keep_delivered()
        cluster = self.cluster
        messages = int(cluster.messages) + int(cluster.need_messages)
        events = 2 * len(cluster["ports"]) + messages - int(cluster.delivered)
        for name, needed in (
            # Half of it free, so that records are not moved for a few messages only.
            ("messages_A", 2 * messages), ("carried_A", 2 * messages), ("events_A", events), ("due_A", events),
        ):  # fmt: skip
            if needed > len(cluster[name]):
                longer = np.zeros(max(2 * len(cluster[name]), needed), cluster[name].dtype)
                longer[: len(cluster[name])] = cluster[name]
                cluster.put(**{name: longer})

    def _keep_delivered(self) -> None:
        """Move the records in front of the first message under way into the table; the others get lower numbers."""
        cluster, messages, ports = self.cluster, self.cluster["messages_A"], self.cluster["ports"]
        happening = [cluster["events_A"][: cluster.events]["what"], cluster["due_A"][: max(0, cluster.due)]["what"]]
        under_way = [each.min() for each in happening if len(each)]
        for first in (*ports["first_out"], *ports["first_in"]):
            number = first
            while number >= 0:
                under_way.append(number)
                number = messages[number]["next"]
        made = int(cluster.messages)
        done = int(min(under_way, default=made))
        self.messages.keep(messages[:done])
        messages[: made - done] = messages[done:made].copy()
        cluster["carried_A"][: made - done] = cluster["carried_A"][done:made].copy()
        for numbers in (messages[: made - done]["next"], *(ports[end] for end in ENDS), *happening):
            numbers[:] = np.where(numbers >= 0, numbers - done, numbers)  # in place: these are views
        cluster.record["messages"] = made - done
        cluster.record["delivered"] -= done  # all of them were

    def records(self, header: dict) -> RunRecords:
        """Return the record tables of the finished run."""
        self._keep_delivered()
        batches = self._batch_columns(LINKED_BATCH_COLUMNS)
        return RunRecords(self._pass_columns(), batches, header, messages=self.messages.columns)


def simulate(
    workload: Workload, config: RunConfig, cost: Cost, header: dict, known: None = None, transfer_ns: int | None = None
) -> RunRecords:
    """Return the records of a workload in queues over linked devices; arguments as in `simpy_engine.simulate`."""
    made = LinkedQueuesRun(workload, config, cost)
    made.run()
    return made.records(header)
