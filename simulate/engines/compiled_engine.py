"""Runs the compiled loop: gives it room and costs when it asks, and makes record tables of what it leaves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from moe_replay.simulate.compiled import entries
from moe_replay.simulate.compiled.compiled_rules import KEPT_COSTS
from moe_replay.simulate.compiled.jit import Entry
from moe_replay.simulate.compiled.memory.access_order import Order
from moe_replay.simulate.compiled.memory.memory_build import COUNTS, Logs, new_memory, random_bits
from moe_replay.simulate.compiled.pointers import Pointed
from moe_replay.simulate.compiled.run_build import new_world
from moe_replay.simulate.compiled.run_layout import BATCH, BROKEN, DONE, NEED_BATCHES, NEED_COST, NEED_ROOM, NEVER
from moe_replay.simulate.config.costs import Cost, checked_ns
from moe_replay.simulate.config.run_config import RunConfig
from moe_replay.simulate.config.workload import Workload
from moe_replay.simulate.policies.horizon import too_long
from moe_replay.simulate.policies.memory.memory_setup import Known
from moe_replay.traces.runs.run_records import BATCH_COLUMNS, TRANSFER_COLUMNS, RunRecords, typed_passes

MOST_BATCHES = 1 << 20  # rows of one part of the log of batches, about 50 MB


class CompiledRun:
    """One run of a workload under a configuration.

    Arguments as of `simulate.engines.simpy_engine.Engine`; `order` are the accesses and groups to come, `logs` says
    which of them this run records. Raises InputError as the reference does.
    """

    def __init__(
        self, workload: Workload, config: RunConfig, cost: Cost, known: Known | None = None,
        transfer_ns: int | None = None, order: Order | None = None, logs: Logs = (),
    ) -> None:  # fmt: skip
        self.workload, self.config, self.cost = workload, config, cost
        self.world = self._new_world()
        self.memory, self.sharing = None, 0
        if config.memory is not None:
            transfer_ns = config.memory.transfer_ns if transfer_ns is None else transfer_ns
            self.memory, self.sharing = new_memory(workload, config, known or Known(), order, transfer_ns, logs)
        # Parts of the log of batches: its length is not known before the run is over.
        self.batches: list[np.ndarray] = []

    def _new_world(self) -> Pointed:
        queues = np.arange((self.workload.layers + 1) * (self.workload.experts + 1))
        return new_world(self.workload, self.config, curves(self.cost, *self.place_of(queues)))

    def place_of(self, queue: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return (layer, block) of queues by their numbers."""
        return np.divmod(queue, self.workload.experts + 1)

    def run(self) -> None:
        """Run until every pass has finished; RuntimeError if one never does, or an expert runs that is not there.

        InputError where the clock would pass 64 bits.
        """
        # Compiled code cannot allocate for Python to keep, nor call a cost function: it returns and says what it needs.
        give = {NEED_BATCHES: self._keep_batches, NEED_COST: self._find_cost, NEED_ROOM: self._make_room}
        play, parts = self._entry()
        # Where the loop was is in the record, so that every call goes on there.
        while (asked := play(*parts)) != DONE:
            if asked == BROKEN:  # a fault of a policy, not of the input: the reference stops at the same place
                raise RuntimeError(f"expert {self.memory.broken} cannot run: its weights are not in a slot")
            give[asked]()
        # The last part is kept before it is searched, so that a late batch is named as the reference names it.
        self._keep_batches()
        self._refuse_late()
        # A pass without an end would otherwise come out as one that took no time.
        lost = int((self.world["passes_P"]["end_ns"] < 0).sum())
        if lost:
            raise RuntimeError(f"{lost} of {self.workload.passes} passes never finished")

    def _refuse_late(self) -> None:
        """Raise InputError where the loop ended because what is pending would end beyond the clock."""
        late = [row for rows in self.batches for row in rows[rows["end_ns"] == NEVER]]
        late.sort(key=lambda row: row["device"])  # the reference names that of the lowest device, too
        places = [map(int, self.place_of(row["queue"])) for row in late]
        batches = [
            (*place, int(row["tokens"]), int(row["start_ns"])) for place, row in zip(places, late, strict=True)
        ]  # fmt: skip
        # Of the transfers on their way the first of each link is the oldest; all that are left would end too late.
        starts = []
        if self.memory is not None:
            moving = self.memory["links_D"]["first_moving"]
            starts = [int(self.memory["transfers_A"]["start_ns"][number]) for number in moving if number >= 0]
        if batches or starts or self.any_message or self.world.timed:
            raise too_long(batches, starts, self.config.timeout_ns, self.any_message)

    @property
    def any_message(self) -> bool:
        """Whether a message between devices is on its way."""
        return False

    def _entry(self) -> tuple[Entry, list[Pointed]]:
        """Return the form of the loop that plays this run, and the records that it takes."""
        # Without expert memory the loop is compiled without it, and takes one record only.
        if self.memory is None:
            return entries.play_resident, [self.world]
        # Masked gating has no demands: its loop is compiled without them, and the other without masks.
        return entries.play_masked if self.config.memory.is_masked else entries.play_with_memory, [
            self.world,
            self.memory,
        ]

    def _keep_batches(self) -> None:
        world, rows = self.world, self.world["batches_A"]
        self.batches.append(rows[: world.batches])  # the loop gets other rows, these stay as they are
        world.record["batches"] = world.record["launched"] = 0
        # Short runs need few rows, long ones many: parts grow, so that the loop is left seldom.
        world.put(batches_A=np.empty(min(4 * len(rows), MOST_BATCHES), BATCH))

    def _find_cost(self) -> None:
        """Ask for the cost of a batch, and widen the table where it does not hold as many tokens."""
        world, known = self.world, self.world["cost_CN"]
        queue, tokens = int(world.cost_queue), int(world.cost_tokens)
        layer, block = map(int, self.place_of(queue))
        # What 64 bits do not hold is NEVER to the loop: the batch then never ends, and the run is refused.
        service_ns = min(checked_ns(self.cost(layer, block, tokens), layer, block, tokens), NEVER)
        # A user's own cost, or one drawn anew for every batch, may answer otherwise next time: it is asked each time.
        if type(self.cost) not in KEPT_COSTS:
            world.record["given_ns"] = service_ns
            return
        if tokens >= known.shape[1]:
            # Doubled, so that a run whose batches grow asks for room a few times only.
            wider = np.full((len(known), max(2 * known.shape[1], tokens + 1)), -1, np.int64)
            wider[:, : known.shape[1]] = known
            world.put(cost_CN=wider)
        world["cost_CN"][world["queues_Q"]["curve"][queue], tokens] = service_ns

    def _make_room(self) -> None:
        """Lengthen what has become too short for another round."""
        memory, room = self.memory, int(self.memory.room)
        if memory.transfers + room > len(memory["transfers_A"]):
            memory.put(transfers_A=lengthened(memory["transfers_A"], room))
        # The same stream from its beginning: words that were drawn stay what they were.
        if memory.drawn + room > len(memory["draws"]):
            memory.put(draws=random_bits(self.config, 2 * len(memory["draws"])))
        if memory.logs:  # only in the run that an optimum or an oracle learns the order of accesses from
            least = int(self.world.queues)  # more than a group has members
            for name, used in (("log_A", "accesses"), ("log_group_G", "groups"), ("log_member_M", "group_members")):
                if getattr(memory, used) + least > len(memory[name]):
                    memory.put(**{name: lengthened(memory[name], least)})

    def records(self, header: dict) -> RunRecords:
        """Return the record tables of the finished run."""
        batches = self._batch_columns(BATCH_COLUMNS)
        if self.memory is None:
            return RunRecords(self._pass_columns(), batches, header)
        return RunRecords(
            self._pass_columns(), batches, {**header, "memory": self.summary},
            transfer_columns(self.memory, self.workload.experts),
        )  # fmt: skip

    def _batch_columns(self, kinds: dict[str, type]) -> dict[str, np.ndarray]:
        """Return these columns of the batch table, whose rows came in parts."""
        made = {name: np.zeros(sum(map(len, self.batches)), dtype) for name, dtype in kinds.items()}
        first = 0
        for rows in self.batches:
            layer, block = self.place_of(rows["queue"])
            renamed = {"layer": layer, "block": block, "members_crc": rows["crc"]}
            for name, column in made.items():
                if name in renamed or name in rows.dtype.names:
                    column[first : first + len(rows)] = renamed[name] if name in renamed else rows[name]
            first += len(rows)
        return made

    def _pass_columns(self) -> dict[str, np.ndarray]:
        passes = self.world["passes_P"]
        # A pass without members in any stage has no batch; it starts when it arrives, as in the reference.
        never_started = passes["start_ns"] == NEVER
        times = {
            "arrival_ns": passes["arrival_ns"], "end_ns": passes["end_ns"],
            "start_ns": np.where(never_started, passes["arrival_ns"], passes["start_ns"]),
        }  # fmt: skip
        return typed_passes(self.workload.of_passes | times)

    @property
    def summary(self) -> dict:
        """The counts of all caches together, and what else the header of the records says of the memory."""
        memory = self.memory
        found = {name: int(memory["caches_C"][name].sum()) for name in COUNTS} | {"experts": self.sharing}
        if self.config.memory.is_masked:
            # Where every pass is empty no row was routed: nothing is lost then.
            found["lost_mass"] = float(memory.lost_mass) / max(1, int(memory.routed_rows))
        return found


def lengthened(array: np.ndarray, least: int) -> np.ndarray:
    """Return a longer array with the same beginning."""
    longer = np.zeros((2 * len(array) + least, *array.shape[1:]), array.dtype)
    longer[: len(array)] = array
    return longer


def curves(cost: Cost, layer_Q: np.ndarray, block_Q: np.ndarray) -> np.ndarray:
    """Return the number of every queue's cost curve: those that a cost names, one for all where nothing is kept."""
    # Costs that are not kept have no table, so that all queues may share one curve.
    if type(cost) not in KEPT_COSTS:
        return np.zeros(len(layer_Q), np.int64)
    places = zip(layer_Q.tolist(), block_Q.tolist(), strict=True)
    return np.unique([cost.curve(layer, block) for layer, block in places], return_inverse=True)[1].ravel()


def transfer_columns(memory: Pointed, experts: int) -> dict[str, np.ndarray]:
    """Return the columns of the transfers that ended."""
    rows = memory["transfers_A"][: memory.transfers]
    # A run may be over while weights that nobody waits for are on their way; they are no part of the records.
    rows = rows[rows["end_ns"] >= 0]
    layer, expert = np.divmod(rows["key"], experts)
    renamed = {"layer": layer, "expert": expert}
    return {
        name: np.ascontiguousarray(renamed[name] if name in renamed else rows[name], dtype)
        for name, dtype in TRANSFER_COLUMNS.items()
    }


def order_of(workload: Workload, config: RunConfig, cost: Cost, transfer_ns: int | None) -> Order:
    """Return the accesses of a run with LRU and no prefetches, and its groups if the configuration asks for them.

    See `simulate.engines.simpy_engine.order_of`.
    """
    # Only an oracle asks for groups; an optimum needs the accesses.
    logs = ("accesses", "groups") if config.memory.needs_groups else ("accesses",)
    made = CompiledRun(workload, replace(config, memory=config.memory.plain), cost, None, transfer_ns, logs=logs)
    made.run()
    return Order.logged(made.memory)


def simulate(
    workload: Workload, config: RunConfig, cost: Cost, header: dict, known: Known | None = None,
    transfer_ns: int | None = None,
) -> RunRecords:  # fmt: skip
    """Return the records of a workload served under a configuration; arguments as in `simpy_engine.simulate`."""
    order = None
    if config.memory is not None and config.memory.needs_order:
        given = known.order if known is not None else None
        order = Order.of(given) if given is not None else order_of(workload, config, cost, transfer_ns)
    made = CompiledRun(workload, config, cost, known, transfer_ns, order)
    made.run()
    return made.records(header)
