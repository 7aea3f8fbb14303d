"""Runs over linked devices by the compiled step; which passes are in a step is decided here, by the same objects."""

from __future__ import annotations

from collections import deque

import numpy as np

from moe_replay.simulate.compiled import entries
from moe_replay.simulate.compiled.cluster.cluster_build import arrays_of, new_cluster
from moe_replay.simulate.compiled.cluster.cluster_layout import (
    COUNTING,
    EVENT,
    LINKED_BATCH,
    MESSAGE,
    STEP_ENDED,
    STEP_NEEDS_COST,
    STEP_NEEDS_ROOM,
)
from moe_replay.simulate.compiled.compiled_rules import KEPT_COSTS
from moe_replay.simulate.compiled.run_layout import NEVER
from moe_replay.simulate.config.costs import Cost, checked_ns
from moe_replay.simulate.config.run_config import RunConfig
from moe_replay.simulate.config.workload import Workload
from moe_replay.simulate.engines.lengthening_table import LengtheningTable
from moe_replay.simulate.policies.arrivals import new_arrivals
from moe_replay.simulate.policies.horizon import too_long
from moe_replay.traces.runs.run_records import LINKED_BATCH_COLUMNS, MESSAGE_COLUMNS, RunRecords, typed_passes

MOST_RECORDS = 1 << 18  # rows of the loop's own lists, 21 and 13 MB: those of a step may need more
RENAMED = {"members_crc": "crc"}
FIXED = {"forced": False, "hit": -1}  # nothing is forced in lockstep, and no cache is simulated


class ClusterRun:
    """One run of a workload over linked devices; arguments as of `simulate.engines.simpy_engine.Engine`.

    `slots_LP`: as in `new_cluster`.
    """

    def __init__(self, workload: Workload, config: RunConfig, cost: Cost, slots_LP: np.ndarray | None = None) -> None:
        self.workload, self.cost = workload, cost
        self.kept = type(cost) in KEPT_COSTS
        self.cluster = new_cluster(workload, config, self._curves(), slots_LP)
        self.arrivals = new_arrivals(workload, config)
        self.max_step = config.max_step or workload.passes
        works_P = workload.selections_PL.any(axis=1) | config.dense | (config.cluster.shared_experts > 0)
        self.works_P = works_P.tolist()
        self.queued: deque[int] = deque()
        self.step: list[int] = []
        self.ends = (-1, -1)  # (ns, round) of the step that is under way
        self.arrival_ns_P, self.end_ns_P = np.full(workload.passes, -1), np.full(workload.passes, -1)
        self.batches = LengtheningTable(LINKED_BATCH_COLUMNS, RENAMED, FIXED)
        self.messages = LengtheningTable(MESSAGE_COLUMNS)

    def _curves(self) -> np.ndarray:
        """Return the numbers of the cost curves of dense blocks and experts [L + 1, 2]; zeros if no answer is kept."""
        layers = self.workload.layers + 1
        if not self.kept:
            return np.zeros((layers, 2), np.int64)
        pairs = [[self.cost.curve(layer, block) for block in (0, 1)] for layer in range(layers)]
        return np.unique(pairs, return_inverse=True)[1].reshape(layers, 2)

    def run(self) -> None:
        """Run until every pass has finished; RuntimeError if one never does.

        InputError where the clock would pass 64 bits.
        """
        while (now := self._next_due()) is not None:
            self._play(now)
        self._keep_records()
        if lost := int((self.end_ns_P < 0).sum()):
            raise RuntimeError(f"{lost} of {self.workload.passes} passes never finished")

    def _next_due(self) -> int | None:
        due = [self.ends[0]] if self.step else []
        if self.arrivals.next_ns is not None:
            due.append(self.arrivals.next_ns)
        return min(due, default=None)

    def _play(self, now: int) -> None:
        """Play the rounds of an instant: steps that end, passes that arrive, the next step.

        A step ends in one round of its instant, which matters where durations are zero: passes without any selection
        finish and let others arrive round by round meanwhile.
        """
        arriving, number = self.arrivals.due(now), 0
        while True:
            number += 1
            finished: list[int] = []
            if self.step and self.ends == (now, number):
                finished, self.step = self.step, []
            for p in arriving:
                self.arrival_ns_P[p] = now
                if self.works_P[p]:
                    self.queued.append(p)
                else:
                    finished.append(p)
            if not self.step and self.queued:
                self.step = [self.queued.popleft() for _ in range(min(self.max_step, len(self.queued)))]
                self.ends = self._end_of_step(now, number)
            self.end_ns_P[finished] = now
            arriving = self.arrivals.after(finished) if finished else []
            if not arriving and not (self.step and self.ends[0] == now):
                return

    def _end_of_step(self, now: int, number: int) -> tuple[int, int]:
        """Play the step that begins now, in a round of this number; return when it ends, and in which round."""
        cluster = self.cluster
        tokens = int(self.workload.tokens_P[self.step].sum())
        cluster.put(step_P=np.array(self.step, np.int64))
        if not cluster.dense and len(cluster["routed_TLK"]) < tokens:
            cluster.put(routed_TLK=np.zeros((tokens, *cluster["routed_TLK"].shape[1:]), np.int32))
        cluster.record["where"], cluster.record["step"] = COUNTING, len(self.step)
        cluster.record["now"], cluster.record["round"] = now, number
        give = {STEP_NEEDS_ROOM: self._make_room, STEP_NEEDS_COST: self._find_cost}
        while (asked := entries.play_cluster_step(cluster)) != STEP_ENDED:
            if asked not in give:
                self._refuse_late()
            give[asked]()
        return int(cluster.now), int(cluster.round)

    def _make_room(self) -> None:
        """Keep the records so far, and give the loop room for those of a step."""
        cluster = self.cluster
        self._keep_records()
        for name, kind, needed in (
            ("messages_A", MESSAGE, int(cluster.need_messages)), ("batches_A", LINKED_BATCH, int(cluster.need_batches))
        ):  # fmt: skip
            if len(cluster[name]) < max(needed, MOST_RECORDS):
                cluster.put(**{name: np.zeros(max(needed, min(4 * len(cluster[name]), MOST_RECORDS)), kind)})
        # At most one event for each device, port in and port out, and one for each message whose head is on its way.
        events = int(cluster.devices) + 2 * len(cluster["ports"]) + int(cluster.need_messages)
        if len(cluster["events_A"]) < events:
            cluster.put(events_A=np.zeros(2 * events, EVENT), due_A=np.zeros(2 * events, EVENT))

    def _keep_records(self) -> None:
        """Copy the loop's records into the tables, whose columns are half as wide, and let it fill its lists anew."""
        cluster = self.cluster
        self.messages.keep(cluster["messages_A"][: cluster.messages])
        self.batches.keep(cluster["batches_A"][: cluster.batches])
        cluster.record["messages"] = cluster.record["batches"] = 0

    def _find_cost(self) -> None:
        """Ask for the cost of a batch, and widen the table where it does not hold as many tokens."""
        cluster, known = self.cluster, self.cluster["cost_CN"]
        layer, block, tokens = int(cluster.cost_layer), int(cluster.cost_block), int(cluster.cost_tokens)
        service_ns = min(checked_ns(self.cost(layer, block, tokens), layer, block, tokens), NEVER)
        if not self.kept:
            cluster.record["given_ns"] = service_ns
            return
        if tokens >= known.shape[1]:
            wider = np.full((len(known), max(2 * known.shape[1], tokens + 1)), -1, np.int64)
            wider[:, : known.shape[1]] = known
            cluster.put(cost_CN=wider)
        cluster["cost_CN"][cluster["curve_LB"][layer, min(block, 1)], tokens] = service_ns

    def _refuse_late(self) -> None:
        """Raise InputError: what is pending would end beyond the clock."""
        rows = self.cluster["batches_A"][: self.cluster.batches]
        late = np.sort(rows[rows["end_ns"] == NEVER], order="device")
        batches = [tuple(int(row[name]) for name in ("layer", "block", "tokens", "start_ns")) for row in late]
        raise too_long(batches, [], None, messages=True)

    def step_ns(self, workload: Workload) -> int:
        """Return how long a step of all passes of another workload takes on idle devices; nothing of it is recorded."""
        self.workload, self.step = workload, list(range(workload.passes))
        self.cluster.put(**arrays_of(workload))
        end_ns, _ = self._end_of_step(0, 1)
        self.step = []
        self.cluster.record["messages"] = self.cluster.record["batches"] = 0
        return end_ns

    def records(self, header: dict) -> RunRecords:
        """Return the record tables of the finished run."""
        start_ns_P = self.cluster["start_P"]
        times = {
            "arrival_ns": self.arrival_ns_P, "end_ns": self.end_ns_P,
            "start_ns": np.where(np.array(self.works_P), start_ns_P, self.arrival_ns_P),
        }  # fmt: skip
        columns = typed_passes(self.workload.of_passes | times)
        return RunRecords(columns, self.batches.columns, header, messages=self.messages.columns)


def simulate(
    workload: Workload, config: RunConfig, cost: Cost, header: dict, known: None = None, transfer_ns: int | None = None
) -> RunRecords:
    """Return the records of a workload served over linked devices; arguments as in `simpy_engine.simulate`."""
    made = ClusterRun(workload, config, cost)
    made.run()
    return made.records(header)
