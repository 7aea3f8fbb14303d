"""What is recorded of a run while it is played, and how that becomes record tables."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np

from simulate.policies.scheduler import Batch
from traces.run_records import BATCH_COLUMNS, PASS_COLUMNS, RunRecords, members_crc

if TYPE_CHECKING:
    from simulate.policies.config import RunConfig
    from simulate.policies.workload import Workload


class Recording:
    """Arrival and end of every pass, and the batches in the order in which they started."""

    def __init__(self, workload: Workload) -> None:
        self.workload = workload
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
        return RunRecords(self._pass_columns(), self._batch_columns(), header)

    def _pass_columns(self) -> dict[str, np.ndarray]:
        workload = self.workload
        columns = {
            "pass_id": np.arange(workload.passes), "sequence": workload.sequence_P, "step": workload.step_P,
            "tokens": workload.tokens_P, "arrival_ns": self.arrival_ns_P, "start_ns": self._first_start_ns_P(),
            "end_ns": self.end_ns_P,
        }  # fmt: skip
        return {name: np.asarray(columns[name], dtype) for name, dtype in PASS_COLUMNS.items()}

    def _batch_columns(self) -> dict[str, np.ndarray]:
        columns = {name: [getattr(batch, name) for batch in self.batches] for name in Batch.__slots__}
        columns["size"] = [len(members) for members in columns["members"]]
        columns["members_crc"] = [members_crc(members) for members in columns["members"]]
        columns["hit"] = [-1] * len(self.batches)
        return {name: np.array(columns[name], dtype) for name, dtype in BATCH_COLUMNS.items()}

    def _first_start_ns_P(self) -> np.ndarray:
        """Return when the first batch of every pass began; its arrival where it had none."""
        start_ns_P = np.array(self.arrival_ns_P)
        pass_N = self.workload.pass_N
        for batch in reversed(self.batches):  # batches stand in order of their start: the first one is written last
            start_ns_P[pass_N[batch.members] if batch.block else batch.members] = batch.start_ns
        return start_ns_P


def run_header(
    source: str, config: RunConfig, device: str, trace_digest: str, costs_digest: str | None, provenance: dict
) -> dict:
    """Return the header of a run's records; `source` is `executed` or `simulated`, `device` the machine in words.

    With more than one device it says that communication was not modelled.
    """
    header = {
        "source": source, "config": asdict(config), "device": device, "trace_digest": trace_digest,
        "costs_digest": costs_digest, "provenance": provenance,
    }  # fmt: skip
    return {**header, "communication": "communication not modelled"} if config.devices > 1 else header
