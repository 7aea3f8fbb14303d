"""Executing a configuration for real: the rules of `simulate.policies` decide, real weights do the work.

One device, one batch in flight, one thread. The order of an instant is `Replay.play`, the same code that the simulator
plays; only the time comes from the clock. Of a batch two moments are known: the one at which it was bound (its start,
the end of the batch before it on a busy device) and one clock reading after its numbers are there and its successors
are worked out (its end). What fell due meanwhile is played before the completion, at the moment it was due.
"""

import gc
import time

import numpy as np
import torch

from collect.blocks import ClassifierBlocks, plain_forward
from collect.classifier import Classifier
from simulate.policies.config import RunConfig
from simulate.policies.instant import Replay
from simulate.policies.scheduler import Batch
from simulate.policies.workload import Workload, trace_workload
from traces.errors import InputError
from traces.k_rules import PROBABILITIES
from traces.run_records import RunRecords
from traces.selections import Trace

SLEEP_ABOVE_NS = 2_000_000  # shorter waits spin: a sleeping thread may wake a tenth of a millisecond late
WAKE_EARLY_NS = 1_000_000


class Executor:
    """Plays one run on real blocks. `lateness_ns`: of every wake-up of an idle device, how late the loop noticed."""

    def __init__(self, workload: Workload, config: RunConfig, blocks: ClassifierBlocks) -> None:
        if config.devices != 1:
            raise InputError(f"execute: devices is {config.devices}, allowed 1")
        self.blocks, self.bound, self.lateness_ns = blocks, None, []
        self.replay = Replay(workload, config, self.launch)
        self.first_token_P, self.tokens_P = workload.token_offset_P.tolist(), workload.tokens_P.tolist()

    def launch(self, batch: Batch) -> bool:
        """Note the batch that the rules bound; it runs as soon as the instant is over."""
        self.bound = batch
        return False

    def run(self) -> None:
        """Play the run to its end, with Python's garbage collector off."""
        gc.collect()
        gc.disable()
        try:
            self._play_all()
        finally:
            gc.enable()

    def _play_all(self) -> None:
        replay, origin = self.replay, time.perf_counter_ns()
        replay.play(0)
        while True:
            if self.bound is not None:
                batch, self.bound = self.bound, None
                self.blocks.run(batch.layer, batch.block, self.tokens_of(batch))
                retired = replay.rules.retire(batch)
                batch.end_ns = time.perf_counter_ns() - origin
                self._play_due_before(batch.end_ns)
                replay.play(batch.end_ns, [(batch, retired)])
            elif (due := replay.next_due()) is not None:
                self.lateness_ns.append(wait_until(origin + due))
                replay.play(due)
            else:
                return

    def _play_due_before(self, now: int) -> None:
        """Play what fell due by itself while a batch ran: the device is still taken, so members only queue."""
        while (due := self.replay.next_due()) is not None and due < now:
            self.replay.play(due)

    def tokens_of(self, batch: Batch) -> list[int]:
        """Return a batch's tokens: its members, or all tokens of its passes in a dense block."""
        if batch.block:
            return batch.members
        first_token_P, tokens_P = self.first_token_P, self.tokens_P
        return [token for p in batch.members for token in range(first_token_P[p], first_token_P[p] + tokens_P[p])]


def wait_until(moment_ns: int) -> int:
    """Wait for a reading of `time.perf_counter_ns` and return how many ns late it was noticed."""
    left_ns = moment_ns - time.perf_counter_ns()
    if left_ns > SLEEP_ABOVE_NS:
        time.sleep((left_ns - WAKE_EARLY_NS) / 1e9)
    while (late_ns := time.perf_counter_ns() - moment_ns) < 0:
        pass
    return late_ns


def execute(workload: Workload, config: RunConfig, blocks: ClassifierBlocks, header: dict) -> RunRecords:
    """Execute a configuration and return its records, the header extended by lateness and disagreements.

    `header` comes from `simulate.policies.recording.run_header`. Raises InputError for more than one device.
    """
    executor = Executor(workload, config, blocks)
    blocks.warm_up()
    executor.run()
    late_ns = np.array(executor.lateness_ns or [0])
    return executor.replay.recording.records({
        **header,
        "lateness_ns": {"mean": int(late_ns.mean()), "max": int(late_ns.max()), "wake_ups": len(executor.lateness_ns)},
        "gate_disagreements": blocks.disagreements,
    })  # fmt: skip


class TraceOnWeights:
    """A trace together with the model and the inputs it was recorded from: any configuration of it can be executed.

    `images_SF`: uint8 on the device, the input of sequence s in row s. Raises InputError where the trace has a
    sequence without an image.
    """

    def __init__(self, model: Classifier, trace: Trace, images_SF: torch.Tensor) -> None:
        if int(trace.sequences_S[-1]) >= len(images_SF):
            raise InputError(
                f"the trace has sequence {trace.sequences_S[-1]}, allowed 0..{len(images_SF) - 1} (images)"
            )
        self.model, self.trace, self.renormalised = model, trace, trace.header.gate_rule != PROBABILITIES
        self.images_TF = images_SF[torch.from_numpy(trace.sequence_T.astype(np.int64)).to(images_SF.device)]
        self.plain: dict[int, torch.Tensor] = {}  # by k: class logits of the plain forward pass, per row of the trace

    def execute(self, config: RunConfig, header: dict) -> RunRecords:
        """Execute a configuration, hold its outputs to those of the plain forward pass, and return its records."""
        workload = trace_workload(self.trace, config)
        rows_N = torch.from_numpy(workload.row_N).to(self.images_TF.device)
        k = workload.experts_TLK.shape[2]
        if k not in self.plain:
            self.plain[k] = plain_forward(self.model, self.images_TF, workload.experts_TLK, self.renormalised)
        chosen_TLK = workload.experts_TLK[workload.row_N]
        blocks = ClassifierBlocks(self.model, self.images_TF[rows_N], chosen_TLK, self.renormalised)
        records = execute(workload, config, blocks, header)
        records.header["largest_output_difference"] = check_outputs(blocks.logits_TC, self.plain[k][rows_N])
        return records


def check_outputs(executed_TC: torch.Tensor, expected_TC: torch.Tensor, tolerance: float = 1e-3) -> float:
    """Return the largest absolute difference between executed class logits and those of the plain forward pass.

    Raises RuntimeError where a token has no output, or differs by more than `tolerance` times the largest logit: then
    a token was lost or sent to a wrong expert, and no time that was measured means anything.
    """
    missing = int(executed_TC.isnan().any(1).sum())
    difference = float((executed_TC - expected_TC).abs().max())
    if missing or difference > tolerance * float(expected_TC.abs().max()):
        raise RuntimeError(f"executed outputs differ from the plain forward pass: {missing} missing, by {difference}")
    return difference
