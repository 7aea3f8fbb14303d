"""SmartMoE's static pools: which data, tensor, pipeline and expert parallelism, before any expert is placed.

A *pool* is all placements that share a shape (data, tensor, pipeline, expert) and its slots, so that one can follow
another by exchanging weights alone. Pools are compared before training by loads that the gate bounds: with a capacity
factor c no expert gets more than c k S / E of S tokens, without one no more than S. A layer takes 3 comp C + 4 send B
(FasterMoE's model): C selections on the heaviest device, B of them from other devices; comp = 4 H F / FLOP/s / tensor,
send = 2 H / bytes/s, with H the width and F the hidden units.

There the published description ends. It does not say what tensor and data parallelism cost, without which a copy of
all experts everywhere would always be best. Two ring all-reduces of 2 (n - 1) / n of their bytes stand in, and are a
column of their own: gradients of experts over the ranks that hold copies of them, once a step, and, for every layer and
micro-batch, four times a rank's tokens over the devices that share an expert (as Megatron does). Attention,
activations and optimiser states are not modelled; where the latter count, `expert_bytes` may include them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from moe_replay.simulate.placing.cluster_shape import shape_for
from moe_replay.simulate.placing.load_profile import LoadProfile
from moe_replay.simulate.placing.planner_names import planned
from moe_replay.traces.errors import InputError
from moe_replay.traces.placements.even_split import even_loads

MOST_DEVICES = 4096  # whose shapes are listed


@dataclass(frozen=True)
class PoolWorld:
    """What all pools share: the model, its tokens, and the machine.

    `tokens` of a micro-batch over all data-parallel ranks; `micro_batches` of a step. `capacity` is the gate's factor,
    None without one. `memory_bytes` is what experts may take on a device, None for any.
    """

    devices: int
    experts: int
    layers: int
    k: int
    tokens: float
    width: int
    hidden: int
    expert_bytes: int
    micro_batches: int = 1
    capacity: float | None = None
    memory_bytes: float | None = None
    flops: float = 112e12
    bytes_per_s: float = 8e9

    def __post_init__(self) -> None:
        if not 1 <= self.devices <= MOST_DEVICES:
            raise InputError(f"devices is {self.devices}, allowed: 1..{MOST_DEVICES}")


@dataclass(frozen=True)
class PoolShape:
    """A shape: devices = data * tensor * pipeline, and experts of a layer over `expert` of the data-parallel ranks."""

    data: int
    tensor: int
    pipeline: int
    expert: int


def divisors(number: int) -> list[int]:
    """Return the divisors of a number, ascending."""
    return [each for each in range(1, number + 1) if number % each == 0]


def shapes(world: PoolWorld) -> Iterator[PoolShape]:
    """Yield every shape: stages hold equally many layers, experts are on equally many ranks that divide the data's."""
    for pipeline in divisors(world.devices):
        if world.layers % pipeline:
            continue
        for tensor in divisors(world.devices // pipeline):
            if world.hidden % tensor:
                continue
            data = world.devices // pipeline // tensor
            for expert in divisors(data):
                if world.experts % expert == 0:
                    yield PoolShape(data, tensor, pipeline, expert)


def pool_row(world: PoolWorld, shape: PoolShape, heaviest: dict[str, float]) -> dict:
    """Return the row of a pool; `heaviest` are measured shares of a layer's selections on its heaviest device."""
    held = world.experts // shape.expert
    slots = held * world.layers // shape.pipeline
    taken = slots * world.expert_bytes / shape.tensor
    tokens = world.tokens * shape.expert / shape.data  # of the ranks that share one copy of the experts
    selections = world.k * tokens
    most = tokens if world.capacity is None else min(tokens, world.capacity * selections / world.experts)
    computed = {"balanced": selections / shape.expert, "bounded": min(selections, held * most)}
    computed |= {name: share * selections for name, share in heaviest.items()}
    return {
        "data": shape.data, "tensor": shape.tensor, "pipeline": shape.pipeline, "expert_ranks": shape.expert,
        "slots_per_layer": held, "slots_per_device": slots, "log10_placements": log10_placements(world, shape),
        "expert_memory_bytes": taken, "fits": int(world.memory_bytes is None or taken <= world.memory_bytes),
        "exchange_ms": exchange_ms(world, shape, taken),
        **{f"{name}_ms": step_ms(world, shape, load) for name, load in computed.items()},
    }  # fmt: skip


def step_ms(world: PoolWorld, shape: PoolShape, heaviest: float) -> float:
    """Return the time of a step's mixture-of-experts layers, pipeline filling included."""
    compute_s = 4 * world.width * world.hidden / world.flops / shape.tensor
    send_s = 2 * world.width / world.bytes_per_s
    layer_s = 3 * compute_s * heaviest + 4 * send_s * heaviest * (1 - 1 / shape.expert)
    return 1e3 * layer_s * world.layers / shape.pipeline * (world.micro_batches + shape.pipeline - 1)


def exchange_ms(world: PoolWorld, shape: PoolShape, taken: float) -> float:
    """Return the time of a step's all-reduces: gradients of `taken` bytes of experts, tokens of tensor parallelism."""
    copies = shape.data // shape.expert
    passed = 4 * world.layers / shape.pipeline * world.micro_batches * world.tokens / shape.data * 2 * world.width
    gradients_s, tokens_s = (
        2 * (many - 1) / many * size / world.bytes_per_s for many, size in ((copies, taken), (shape.tensor, passed))
    )
    return 1e3 * (gradients_s + tokens_s)


def log10_placements(world: PoolWorld, shape: PoolShape) -> float:
    """Return how many placements of a layer the pool holds, as a power of ten; slots of a device are not told apart."""
    held = world.experts // shape.expert
    return (math.lgamma(world.experts + 1) - shape.expert * math.lgamma(held + 1)) / math.log(10)


def pools(world: PoolWorld, load_SLE: np.ndarray | None = None) -> list[dict]:
    """Return a row per pool, those that fit first, then by bounded and exchange time; InputError where there is none.

    `load_SLE` are recorded loads: they add the times with experts in order and with heaviest first, planned from all.
    """
    rows = [pool_row(world, shape, measured(load_SLE, shape.expert)) for shape in shapes(world)]
    if not rows:
        raise InputError(f"{world.devices} devices: no shape is possible, allowed: such as divide layers and experts")
    return sorted(rows, key=lambda row: (-row["fits"], row["bounded_ms"] + row["exchange_ms"], row["balanced_ms"]))


def measured(load_SLE: np.ndarray | None, devices: int) -> dict[str, float]:
    """Return the mean share of the heaviest of so many devices, by placement; nothing without loads."""
    if load_SLE is None:
        return {}
    known, shape = LoadProfile(load_SLE), shape_for(load_SLE.shape[2], devices)
    total_SL = load_SLE.sum(2)
    return {
        name: float((even_loads(load_SLE, planned(name, known, shape), devices).max(2) / total_SL)[total_SL > 0].mean())
        for name in ("contiguous", "lpt")
    }  # fmt: skip
