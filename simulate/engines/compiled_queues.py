"""Runs of queues over linked devices by the compiled loop."""

from __future__ import annotations

import numpy as np

from moe_replay.simulate.compiled import entries
from moe_replay.simulate.compiled.cluster.cluster_layout import EVENT, MESSAGE
from moe_replay.simulate.compiled.cluster.queues_build import new_parts
from moe_replay.simulate.compiled.jit import Entry
from moe_replay.simulate.compiled.pointers import Pointed
from moe_replay.simulate.compiled.run_build import new_world
from moe_replay.simulate.config.costs import Cost
from moe_replay.simulate.config.run_config import RunConfig
from moe_replay.simulate.config.workload import Workload
from moe_replay.simulate.engines.compiled_engine import CompiledRun, curves
from moe_replay.simulate.policies.cluster.slot_table import expert_slots
from moe_replay.traces.runs.run_records import LINKED_BATCH_COLUMNS, MESSAGE_COLUMNS, RunRecords


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
        """Lengthen what has become too short for the messages of a round and what happens to them."""
        cluster, made = self.cluster, int(self.cluster.need_messages)
        # Messages under way are in chains by number, so that records stay where they are.
        messages = int(cluster.messages) + made
        events = 2 * len(cluster["ports"]) + messages - int(cluster.delivered)
        for name, kind, least in (
            ("messages_A", MESSAGE, messages), ("carried_A", np.int32, messages), ("events_A", EVENT, events),
            ("due_A", EVENT, events),
        ):  # fmt: skip
            if least > len(cluster[name]):
                longer = np.zeros(max(2 * len(cluster[name]), least), kind)
                longer[: len(cluster[name])] = cluster[name]
                cluster.put(**{name: longer})

    def records(self, header: dict) -> RunRecords:
        """Return the record tables of the finished run."""
        sent = self.cluster["messages_A"][: self.cluster.messages]
        messages = {name: np.ascontiguousarray(sent[name], kind) for name, kind in MESSAGE_COLUMNS.items()}
        return RunRecords(
            self._pass_columns(), self._batch_columns(LINKED_BATCH_COLUMNS), header, messages=messages
        )  # fmt: skip


def simulate(
    workload: Workload, config: RunConfig, cost: Cost, header: dict, known: None = None, transfer_ns: int | None = None
) -> RunRecords:
    """Return the records of a workload in queues over linked devices; arguments as in `simpy_engine.simulate`."""
    made = LinkedQueuesRun(workload, config, cost)
    made.run()
    return made.records(header)
