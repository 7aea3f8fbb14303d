"""Executing a configuration for real: the rules of `simulate.policies` decide, real weights do the work.

One device, one batch in flight, one thread. The order of an instant is `Replay.play`, the same code that the simulator
plays; only the time comes from the clock. Of a batch two moments are known: the one at which it was bound (its start,
the end of the batch before it on a busy device) and one clock reading after its numbers are there and its successors
are worked out (its end). What fell due meanwhile is played before the completion, at the moment it was due; so is an
expert that a link brought meanwhile (`collect.execution.slow_tier`), at the moment its copy was whole.
"""

import gc
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from moe_replay.collect.execution.blocks import Blocks
from moe_replay.collect.execution.expert_slots import ExpertSlots
from moe_replay.collect.execution.own_share import WorkMeter
from moe_replay.collect.execution.slow_tier import Copied, Pace
from moe_replay.simulate.config.memory_config import MASKED
from moe_replay.simulate.config.run_config import RunConfig
from moe_replay.simulate.config.workload import Workload, trace_workload
from moe_replay.simulate.policies.batch import Batch
from moe_replay.simulate.policies.instant import Completed, Replay
from moe_replay.simulate.policies.memory.host_link import Transfer
from moe_replay.simulate.policies.memory.memory_setup import Known
from moe_replay.traces.errors import InputError
from moe_replay.traces.k_rules import PROBABILITIES
from moe_replay.traces.runs.run_records import RunRecords
from moe_replay.traces.selections import Trace

SLEEP_ABOVE_NS = 2_000_000  # shorter waits spin: a sleeping thread may wake a tenth of a millisecond late
WAKE_EARLY_NS = 1_000_000
EXECUTABLE = "load", "block", *MASKED  # ways to handle a miss
SWITCH_SECONDS = 1e-4  # after which the copying thread gets Python's lock, when it asks


class Executor:
    """Plays one run on real blocks. `lateness_ns`: of every wake-up of an idle device, how late the loop noticed.

    With expert memory, `slots` holds what is on the device; copies on a CPU take at least what `pace` says.
    """

    def __init__(
        self, workload: Workload, config: RunConfig, blocks: Blocks, known: Known | None = None,
        pace: Pace | None = None,
    ) -> None:  # fmt: skip
        check_executable(config)
        self.blocks, self.bound, self.lateness_ns, self.origin, self.last_ns = blocks, None, [], 0, -1
        self.replay = Replay(workload, config, self.launch, self.send, known)
        self.first_token_P, self.tokens_P = workload.token_offset_P.tolist(), workload.tokens_P.tolist()
        self.memory, self.submitted = self.replay.memory, 0
        tokens, layers, k = len(workload.row_N), *workload.experts_TLK.shape[1:]
        self.meter = WorkMeter(blocks.device, tokens * (layers * (k + 1) + 1))
        self.slots = None
        if self.memory is not None:
            self.slots = ExpertSlots(list(blocks.model.experts), self.memory, blocks.device, pace)
            blocks.masked = config.memory.is_masked

    def launch(self, batch: Batch) -> bool:
        """Note the batch that the rules bound; it runs as soon as the instant is over."""
        self.bound = batch
        return False

    def send(self, transfer: Transfer) -> bool:
        """Nothing to do: a copy was asked for with its transfer, and begins when those before it are done."""
        return False

    @torch.inference_mode()
    def run(self) -> None:
        """Play the run to its end, with Python's garbage collector off."""
        with undisturbed():
            if self.slots is None:
                self._play_all()
            else:
                self.blocks.source = self.slots.run
                with self.slots.copier:
                    self._play_all()

    def _play_all(self) -> None:
        self.origin = time.perf_counter_ns()
        self._play(0)
        while True:
            if self.bound is not None:
                batch, self.bound = self.bound, None
                tokens, routed = self.tokens_of(batch), self.routed(batch)
                self.meter.begin()
                self.blocks.launch(batch.layer, batch.block, tokens, routed)
                self.meter.launched()
                retired = self.replay.rules.retire(batch)  # while a GPU works
                self.blocks.wait()
                self.meter.done()
                batch.end_ns = time.perf_counter_ns() - self.origin
                self._play_due_before(batch.end_ns)
                self._play(batch.end_ns, [(batch, retired)])
            elif not self._play_next():
                return

    def _play(self, now: int, completed: list[Completed] = (), here: list[Transfer] = ()) -> None:
        """Play an instant, and ask for the copies of the transfers that it asked for."""
        self.replay.play(now, completed, here)
        self.last_ns = now
        if self.memory is not None:
            for transfer in self.memory.transfers[self.submitted :]:
                self.slots.begin(transfer)
            self.submitted = len(self.memory.transfers)

    def _play_due_before(self, now: int) -> None:
        """Play what fell due by itself while a batch ran: the device is still taken, so members only queue."""
        while True:
            due, copied = self.replay.next_due(), self._copied_before(now)
            if copied is not None and (due is None or self._moment(copied) < due):
                self._arrive(self.slots.copier.done.popleft())
            elif due is not None and due < now:
                self._play(due)
            else:
                return

    def _copied_before(self, now: int) -> Copied | None:
        copied = self.slots.copier.first() if self.slots is not None else None
        return copied if copied is not None and self._moment(copied) < now else None

    def _moment(self, copied: Copied) -> int:
        """Return when a copy was whole; where that is noticed too late, right after the instant played last."""
        return max(copied.end_ns - self.origin, self.last_ns + 1)

    def _arrive(self, copied: Copied) -> None:
        self.slots.arrived(copied.transfer)
        self._play(self._moment(copied), here=[copied.transfer])

    def _play_next(self) -> bool:
        """Wait, on an idle device, for what comes next and play it; return False where nothing comes any more."""
        while self.memory is not None and self.memory.pending:
            due = self.replay.next_due()
            copied = self.slots.copier.first()
            if copied is not None and (due is None or self._moment(copied) <= due):
                self._arrive(self.slots.copier.done.popleft())
                return True
            if due is not None and (late_ns := time.perf_counter_ns() - self.origin - due) >= 0:
                self.lateness_ns.append(late_ns)
                self._play(due)
                return True
            time.sleep(0)  # the copying thread gets Python's lock
        due = self.replay.next_due()
        if due is None:
            return False
        self.lateness_ns.append(wait_until(self.origin + due))
        self._play(due)
        return True

    def tokens_of(self, batch: Batch) -> list[int]:
        """Return a batch's tokens: its members, or all tokens of its passes in a dense block."""
        if batch.block:
            return batch.members
        first_token_P, tokens_P = self.first_token_P, self.tokens_P
        return [token for p in batch.members for token in range(first_token_P[p], first_token_P[p] + tokens_P[p])]

    def routed(self, batch: Batch) -> list[list[int]]:
        """Return the experts that each token of an expert's batch runs under masked gating; empty without."""
        if not self.blocks.masked or not batch.block:
            return []
        rules = self.replay.rules
        passes = [(token, rules.pass_N[token]) for token in batch.members]
        return [
            [queue % rules.width - 1 for queue in rules.routed[p][token - self.first_token_P[p]]]
            for token, p in passes
        ]  # fmt: skip


@contextmanager
def undisturbed() -> Iterator[None]:
    """Keep Python's garbage collector off, and let a second thread have Python's lock soon when it asks."""
    gc.collect()
    gc.disable()
    interval = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_SECONDS)
    try:
        yield
    finally:
        sys.setswitchinterval(interval)
        gc.enable()


def check_executable(config: RunConfig) -> None:
    """Raise InputError for what cannot be executed: several devices, and memories that are no memory of a machine."""
    if config.devices != 1:
        raise InputError(f"execute: devices is {config.devices}, allowed 1")
    memory = config.memory
    if memory is None:
        return
    if memory.needs_order:
        raise InputError(f"execute: {memory.name} needs to know the future; allowed: policies that do without")
    if memory.miss not in EXECUTABLE:
        raise InputError(f"execute: miss is {memory.miss!r}, allowed {', '.join(EXECUTABLE)} (on the device)")
    if memory.link != "fifo":
        raise InputError(f"execute: link is {memory.link!r}, allowed 'fifo' (others are worlds of simulation)")


def wait_until(moment_ns: int) -> int:
    """Wait for a reading of `time.perf_counter_ns` and return how many ns late it was noticed."""
    left_ns = moment_ns - time.perf_counter_ns()
    if left_ns > SLEEP_ABOVE_NS:
        time.sleep((left_ns - WAKE_EARLY_NS) / 1e9)
    while (late_ns := time.perf_counter_ns() - moment_ns) < 0:
        pass
    return late_ns


def execute(
    workload: Workload, config: RunConfig, blocks: Blocks, header: dict, known: Known | None = None,
    pace: Pace | None = None,
) -> RunRecords:  # fmt: skip
    """Execute a configuration and return its records, the header extended by lateness, disagreements and own share.

    `header` comes from `simulate.policies.run_log.run_header`. Raises InputError for what cannot be executed.
    """
    executor = Executor(workload, config, blocks, known, pace)
    blocks.warm_up()
    executor.run()
    late_ns = np.array(executor.lateness_ns or [0])
    if executor.slots is not None:
        header = {**header, "device_bytes": executor.slots.device_bytes, "expert_bytes": executor.slots.expert_bytes}
    records = executor.replay.recording.records({
        **header,
        "lateness_ns": {"mean": int(late_ns.mean()), "max": int(late_ns.max()), "wake_ups": len(executor.lateness_ns)},
        "gate_disagreements": blocks.disagreements,
    })  # fmt: skip
    records.header["own_share"] = executor.meter.summary(records.batches)
    return records


class TraceOnWeights:
    """A trace together with the model it was recorded from: any configuration of it can be executed.

    A subclass knows the inputs. `known` is what cache policies may know beforehand. `tolerance`: how far executed
    outputs may be from those of the plain forward pass, as a share of the largest.
    """

    tolerance = 1e-3

    def __init__(self, model: torch.nn.Module, trace: Trace) -> None:
        self.model, self.trace, self.renormalised = model, trace, trace.header.gate_rule != PROBABILITIES

    def new_blocks(self, workload: Workload, config: RunConfig) -> Blocks:
        """Return the blocks of one run."""
        raise NotImplementedError

    def expected(self, workload: Workload, experts_TLK: np.ndarray) -> torch.Tensor:
        """Return the outputs [T, C] of the plain forward pass of a run's tokens under given selections."""
        raise NotImplementedError

    def quality(self, workload: Workload, logits_TC: torch.Tensor) -> dict[str, float]:
        """Return how good executed outputs are, by name."""
        raise NotImplementedError

    def execute(self, config: RunConfig, header: dict, known: Known | None = None) -> RunRecords:
        """Execute a configuration, hold its outputs to those of the plain forward pass, and return its records."""
        workload = trace_workload(self.trace, config)
        blocks = self.new_blocks(workload, config)
        records = execute(workload, config, blocks, header, known, pace_of(config))
        ran_TLK = blocks.ran_TLK if blocks.masked else workload.experts_TLK[workload.row_N]
        difference = check_outputs(blocks.logits_TC, self.expected(workload, ran_TLK), self.tolerance)
        records.header["largest_output_difference"] = difference
        records.header["quality"] = self.quality(workload, blocks.logits_TC)
        return records


def pace_of(config: RunConfig) -> Pace | None:
    """Return the pace of a configuration's link."""
    memory = config.memory
    return None if memory is None else Pace(memory.link_latency_ns, memory.link_bytes_per_s)


def check_outputs(
    executed_TC: torch.Tensor, expected_TC: torch.Tensor, tolerance: float = TraceOnWeights.tolerance
) -> float:
    """Return the largest absolute difference between executed logits and those of the plain forward pass.

    Raises RuntimeError where a token has no output, or differs by more than `tolerance` times the largest logit: then
    a token was lost or sent to a wrong expert, and no time that was measured means anything.
    """
    missing = int(executed_TC.isnan().any(1).sum())
    difference = float((executed_TC - expected_TC).abs().max())
    if missing or difference > tolerance * float(expected_TC.abs().max()):
        raise RuntimeError(f"executed outputs differ from the plain forward pass: {missing} missing, by {difference}")
    return difference
