"""What is recorded of a run while it is played, and how that becomes record tables."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from moe_replay.simulate.policies.batch import Batch
from moe_replay.traces.runs.run_records import (
    BATCH_COLUMNS,
    LINKED_BATCH_COLUMNS,
    MESSAGE_COLUMNS,
    TRANSFER_COLUMNS,
    RunRecords,
    members_crc,
    typed_passes,
)

if TYPE_CHECKING:
    from moe_replay.simulate.config.run_config import RunConfig
    from moe_replay.simulate.config.workload import Workload
    from moe_replay.simulate.policies.cluster.ports import Message
    from moe_replay.simulate.policies.memory.expert_memory import ExpertMemory


class Recording:
    """Arrival and end of every pass, and the batches in the order in which they started."""

    def __init__(
        self, workload: Workload, memory: ExpertMemory | None = None, messages: list[Message] | None = None
    ) -> None:
        self.workload, self.memory, self.messages = workload, memory, messages
        self.arrival_ns_P = [-1] * workload.passes
        self.end_ns_P = [-1] * workload.passes
        self.batches: list[Batch] = []

    def arrived(self, passes: list[int], now: int) -> None:
        """Note the arrival of passes."""
        for p in passes:
            self.arrival_ns_P[p] = now

    def finished(self, passes: list[int], now: int) -> None:
        """Note the end of passes."""
        for p in passes:
            self.end_ns_P[p] = now

    def records(self, header: dict) -> RunRecords:
        """Return the record tables of a finished run.

        Raises RuntimeError if a pass never finished: a run that loses work is wrong, whatever its numbers say.
        """
        lost = self.end_ns_P.count(-1)
        if lost:
            raise RuntimeError(f"{lost} of {len(self.end_ns_P)} passes never finished")
        sizes = [len(batch.members) for batch in self.batches]
        members = np.fromiter(chain.from_iterable(batch.members for batch in self.batches), np.int64, sum(sizes))
        batches = self._batch_columns(sizes, members)
        if self.messages is not None:
            return RunRecords(
                self._pass_columns(batches, members), batches, header, messages=self._message_columns()
            )  # fmt: skip
        if self.memory is None:
            return RunRecords(self._pass_columns(batches, members), batches, header)
        header = {**header, "memory": self.memory.summary}
        return RunRecords(self._pass_columns(batches, members), batches, header, self._transfer_columns())

    def _transfer_columns(self) -> dict[str, np.ndarray]:
        """Return the columns of the transfers that ended; what was prefetched last may still be under way."""
        experts = self.workload.experts
        rows = [
            (each.link, each.key // experts, each.key % experts, each.slot, each.victim,
             each.prefetch, each.asked_ns, each.start_ns, each.end_ns)
            for each in self.memory.transfers if each.end_ns >= 0
        ]  # fmt: skip
        columns = zip(*rows, strict=True) if rows else [[] for _ in TRANSFER_COLUMNS]
        return {
            name: np.array(values, dtype)
            for (name, dtype), values in zip(TRANSFER_COLUMNS.items(), columns, strict=True)
        }

    def _message_columns(self) -> dict[str, np.ndarray]:
        """Return the columns of the messages, in the order in which they were made."""
        return {
            name: np.array([getattr(message, name) for message in self.messages], dtype)
            for name, dtype in MESSAGE_COLUMNS.items()
        }

    def _batch_columns(self, sizes: list[int], members: np.ndarray) -> dict[str, np.ndarray]:
        """Return the columns of the batches; `members` are those of all batches, one batch after another."""
        columns = {name: [getattr(batch, name) for batch in self.batches] for name in Batch.__slots__}
        ends = np.cumsum(sizes, dtype=np.int64).tolist()
        columns["size"] = sizes
        columns["members_crc"] = [members_crc(members[end - size : end]) for size, end in zip(sizes, ends, strict=True)]
        kept = BATCH_COLUMNS if self.messages is None else LINKED_BATCH_COLUMNS
        return {name: np.array(columns[name], dtype) for name, dtype in kept.items()}

    def _pass_columns(self, batches: dict[str, np.ndarray], members: np.ndarray) -> dict[str, np.ndarray]:
        times = {
            "arrival_ns": self.arrival_ns_P, "start_ns": self._first_start_ns(batches, members),
            "end_ns": self.end_ns_P,
        }  # fmt: skip
        return typed_passes(self.workload.of_passes | times)

    def _first_start_ns(self, batches: dict[str, np.ndarray], members: np.ndarray) -> np.ndarray:
        """Return when the first batch of every pass began; its arrival where it had none."""
        are_tokens = np.repeat(batches["block"] > 0, batches["size"])
        passes = members.copy()
        passes[are_tokens] = self.workload.pass_N[members[are_tokens]]
        start_ns_P = np.array(self.arrival_ns_P)
        # Batches are in order of their start: written backwards, the first one is written last and stays.
        start_ns_P[passes[::-1]] = np.repeat(batches["start_ns"], batches["size"])[::-1]
        return start_ns_P


def run_header(
    source: str, config: RunConfig, device: str, trace_digest: str, costs_digest: str | None, provenance: dict
) -> dict:
    """Return the header of a run's records; `source` is `executed` or `simulated`, `device` the machine in words.

    With more than one device and no links it says that communication was not modelled. `own_rules` are digests of the
    sources of a user's own rules, where there are any.
    """
    header = {
        "source": source, "config": config.as_dict(), "device": device, "trace_digest": trace_digest,
        "costs_digest": costs_digest, "provenance": provenance,
    }  # fmt: skip
    if config.own_rules:
        header["own_rules"] = config.own_rules
    if config.devices == 1 or config.cluster is not None:
        return header
    return {**header, "communication": "communication not modelled"}
