"""Cost tables, measured inside the executor's own loop.

A block timed alone, on one hot expert, costs less than the same block in a run: its weights are in the cache and no
queue is served between two calls. So the calibration is a run of the executor in which every batch has exactly n
members: queues hold n, and the selections are laid out so that n consecutive passes (a group) choose the same k
experts, the next n the following k, over all experts of every layer in turn. As many groups are in flight as it takes
to visit all experts once: dense blocks then follow each other and experts follow each other about as they do in a run.
(With a single group in flight a dense block always came behind k experts that had emptied the cache, and cost up to a
third more than in the runs it was to predict.) The inputs are never those of the predicted runs. With expert memory the
calibration runs have it too, with a victim drawn at random: experts then run from slots that copies change beside them,
on a device that has just waited for them, and what a copy takes is measured in passing. (Blocks cost up to twice as
much there as where all experts are resident, so a table serves one of the two.) Masked gating does not wait: its
runs are calibrated with a slot for every expert.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch

from moe_replay.collect.execution.blocks import Blocks
from moe_replay.collect.execution.executor import execute, pace_of
from moe_replay.simulate.config.memory_config import MemoryConfig
from moe_replay.simulate.config.run_config import RunConfig
from moe_replay.simulate.config.workload import Workload
from moe_replay.simulate.policies.memory.memory_setup import Known
from moe_replay.traces.command_line.memory_room import GIB, check_room
from moe_replay.traces.errors import InputError
from moe_replay.traces.runs.cost_table import COST_COLUMNS, TRANSFER, CostTable
from moe_replay.traces.runs.run_records import RunRecords

NewBlocks = Callable[[np.ndarray, np.random.Generator], tuple[Workload, Blocks]]  # of experts_TLK; it has `model`

SIZES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)


@dataclass(frozen=True)
class CalibrationPlan:
    """Batch sizes, repetitions of every (block, size), and the seed that shuffles the sizes in each repetition."""

    sizes: tuple[int, ...] = SIZES
    repetitions: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.sizes or min(self.sizes) < 1:
            raise InputError(f"sizes are {self.sizes}, allowed: batch sizes >= 1")


def measure_costs(
    new_blocks: NewBlocks, k: int, plan: CalibrationPlan, header: dict, memory: MemoryConfig | None = None,
    say: Callable[[int], object] = lambda _: None,
) -> CostTable:  # fmt: skip
    """Return the cost table of the model whose blocks `new_blocks` builds, on the device on which they lie.

    In every repetition all sizes are visited in a new order; each visit runs every expert of every layer twice (and the
    dense blocks 2 E/k times) on batches of exactly that size. `memory`: the slots and the link of the runs to predict.
    `say(size)` is called after each visit.
    """
    draws = np.random.default_rng(plan.seed)
    rows = []
    for repetition in range(plan.repetitions):
        for size in draws.permutation(plan.sizes).tolist():
            records, layers, experts = calibration_run(new_blocks, k, size, draws, memory)
            batches = records.batches
            full = batches["size"] == size
            if not full.all() or batches["forced"].any():
                raise RuntimeError(
                    f"calibration at n = {size} ran other batches too: the layout of selections is wrong"
                )
            first = groups_of_a_round(experts, k) * (layers * (k + 1) + 1)  # behind the batches of the first round
            rows += [(layer, block, size, repetition, ns) for layer, block, ns in served(batches, first)]
            if memory is not None:
                rows += transfer_rows(records, repetition, int(batches["start_ns"][first]))
            say(size)
    columns = {
        name: np.array(values, dtype)
        for (name, dtype), values in zip(COST_COLUMNS.items(), zip(*rows, strict=True), strict=True)
    }
    if (columns["block"] == TRANSFER[1]).any():
        header = {**header, "link": memory.link_fields}
    return CostTable(columns, header if memory is None else {**header, "miss": memory.miss})


def served(batches: dict[str, np.ndarray], first: int) -> list[tuple[int, int, int]]:
    """Return (layer, block, service_ns) of the batches from the `first` on."""
    service_ns = (batches["end_ns"] - batches["start_ns"])[first:]
    columns = batches["layer"][first:].tolist(), batches["block"][first:].tolist(), service_ns.tolist()
    return list(zip(*columns, strict=True))


def transfer_rows(records: RunRecords, repetition: int, since_ns: int) -> list[tuple[int, int, int, int, int]]:
    """Return rows of a cost table for what the link carried since a moment."""
    start_ns, end_ns = records.transfers["start_ns"], records.transfers["end_ns"]
    took_ns = (end_ns - start_ns)[start_ns >= since_ns]
    return [(*TRANSFER, 1, repetition, ns) for ns in took_ns.tolist()]


def calibration_run(
    new_blocks: NewBlocks, k: int, size: int, draws: np.random.Generator, memory: MemoryConfig | None
) -> tuple[RunRecords, int, int]:
    """Return (records, L, E) of one visit: three rounds over all experts, on batches of exactly `size`."""
    config = new_blocks.model.config
    experts_TLK = round_robin_selections(config.experts, k, config.layers, size)
    workload, blocks = new_blocks(experts_TLK, draws)
    if memory is not None and memory.is_masked:
        memory = replace(memory, cache="lru", slots=config.experts, filled=True, prefetch="none", period=None)
        workload = replace(workload, candidates_TLK=experts_TLK, scores_TLK=np.ones(experts_TLK.shape))
    elif memory is not None:
        memory = replace(memory, cache="random", prefetch="none", filled=False)
    run = RunConfig(
        queue_size=size, arrivals="closed", in_flight=size * groups_of_a_round(config.experts, k), memory=memory
    )
    known = Known(popularity=[1.0] * config.layers * config.experts)
    return execute(workload, run, blocks, {}, known, pace_of(run)), config.layers, config.experts


def round_robin_selections(experts: int, k: int, layers: int, size: int) -> np.ndarray:
    """Return experts_TLK in which passes g*size .. (g+1)*size-1 all choose experts g*k .. g*k+k-1 (mod E).

    Three rounds over all experts: the first warms up what its batches would pay for, two are measured.
    """
    groups = 3 * groups_of_a_round(experts, k)
    chosen_GK = (np.arange(groups)[:, None] * k + np.arange(k)) % experts
    return np.repeat(np.repeat(chosen_GK[:, None, :], layers, axis=1), size, axis=0).astype(np.int16)


def check_tokens_fit(config: object, size: int, device: torch.device) -> None:
    """Refuse batches of `size` whose tokens would not fit the device; `config` has `experts`, `k`, `layers`, `width`.

    A token takes a row of the residual stream and of its normed form, weights of all experts, and its selections.
    """
    tokens = 3 * groups_of_a_round(config.experts, config.k) * size
    row_bytes = 8 * config.width + 4 * (config.experts + 1) + 32 * config.layers * config.k
    what = f"--sizes {size}: bytes of {tokens:,} tokens"
    if device.type != "cuda":
        check_room(what, tokens * row_bytes, 1)
    elif tokens * row_bytes > (free := torch.cuda.mem_get_info(device)[0]):
        raise InputError(
            f"{what} are {tokens * row_bytes / GIB:.3g} GiB, the device has {free / GIB:.3g} GiB left; allowed: fewer"
        )


def groups_of_a_round(experts: int, k: int) -> int:
    """Return how many groups of k experts it takes to visit all experts."""
    return -(-experts // k)
