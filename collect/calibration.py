"""Cost tables, measured inside the executor's own loop.

A block timed alone, on one hot expert, costs less than the same block in a run: its weights are in the cache and no
queue is served between two calls. So the calibration is a run of the executor in which every batch has exactly n
members: queues hold n, and the selections are laid out so that n consecutive passes (a group) choose the same k
experts, the next n the following k, over all experts of every layer in turn. As many groups are in flight as it takes
to visit all experts once: dense blocks then follow each other and experts follow each other about as they do in a run.
(With a single group in flight a dense block always came behind k experts that had emptied the cache, and cost up to a
third more than in the runs it was to predict.) The images are training images, never those of the predicted runs.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from collect.blocks import ClassifierBlocks
from collect.classifier import Classifier
from collect.executor import execute
from simulate.policies.config import RunConfig
from simulate.policies.workload import build_workload
from traces.cost_table import COST_COLUMNS, CostTable
from traces.errors import InputError

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
    model: Classifier,
    images_NF: torch.Tensor,
    k: int,
    plan: CalibrationPlan,
    header: dict,
    say: Callable[[int], object] = lambda _: None,
) -> CostTable:
    """Return the cost table of a model on the device that holds `images_NF` (uint8 training images).

    In every repetition all sizes are visited in a new order; each visit runs every expert of every layer twice (and the
    dense blocks 2 E/k times) on batches of exactly that size. `say(size)` is called after each visit.
    """
    draws = np.random.default_rng(plan.seed)
    rows = []
    for repetition in range(plan.repetitions):
        for size in draws.permutation(plan.sizes).tolist():
            batches = calibration_run(model, images_NF, k, size, draws)
            full = batches["size"] == size
            if not full.all() or batches["forced"].any():
                raise RuntimeError(
                    f"calibration at n = {size} ran other batches too: the layout of selections is wrong"
                )
            groups = groups_of_a_round(model.config.experts, k)
            warm = slice(groups * (model.config.layers * (k + 1) + 1), None)  # behind the batches of the first round
            service_ns = (batches["end_ns"] - batches["start_ns"])[warm]
            layers, experts = batches["layer"][warm].tolist(), batches["block"][warm].tolist()
            rows += [
                (layer, block, size, repetition, ns)
                for layer, block, ns in zip(layers, experts, service_ns.tolist(), strict=True)
            ]
            say(size)
    columns = {
        name: np.array(values, dtype)
        for (name, dtype), values in zip(COST_COLUMNS.items(), zip(*rows, strict=True), strict=True)
    }
    return CostTable(columns, header)


def calibration_run(
    model: Classifier, images_NF: torch.Tensor, k: int, size: int, draws: np.random.Generator
) -> dict[str, np.ndarray]:
    """Return the batch records of one visit: three rounds over all experts, on batches of exactly `size`."""
    layers, experts = model.config.layers, model.config.experts
    experts_TLK = round_robin_selections(experts, k, layers, size)
    tokens = len(experts_TLK)
    chosen = draws.integers(len(images_NF), size=tokens)
    blocks = ClassifierBlocks(model, images_NF[torch.from_numpy(chosen)], experts_TLK)
    workload = build_workload(experts_TLK, np.arange(tokens), np.zeros(tokens, np.int64), experts)
    config = RunConfig(queue_size=size, arrivals="closed", in_flight=size * groups_of_a_round(experts, k))
    return execute(workload, config, blocks, {}).batches


def round_robin_selections(experts: int, k: int, layers: int, size: int) -> np.ndarray:
    """Return experts_TLK in which passes g*size .. (g+1)*size-1 all choose experts g*k .. g*k+k-1 (mod E).

    Three rounds over all experts: the first warms up what its batches would pay for, two are measured.
    """
    groups = 3 * groups_of_a_round(experts, k)
    chosen_GK = (np.arange(groups)[:, None] * k + np.arange(k)) % experts
    return np.repeat(np.repeat(chosen_GK[:, None, :], layers, axis=1), size, axis=0).astype(np.int16)


def groups_of_a_round(experts: int, k: int) -> int:
    """Return how many groups of k experts it takes to visit all experts."""
    return -(-experts // k)
