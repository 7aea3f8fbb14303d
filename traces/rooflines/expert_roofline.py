"""The roofline of an expert: no batch can be faster than its operations at peak rate, or its bytes at full bandwidth.

An expert is a gated feed-forward block of three matrices, width x hidden. A batch of n tokens reads the weights once,
reads n inputs and writes n outputs; what lies between stays on the chip, and a launch takes no time. Real kernels are
slower: on an H200 the shipped measurements of one expert alone are 1.3 to 10 times the roofline, most for small experts
and few tokens, and inside the executor's loop, which launches kernel by kernel, 3 to 124 times.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from moe_replay.traces.errors import InputError, unknown_name
from moe_replay.traces.rooflines.gpu_peaks import BYTES, GPUS, TERA
from moe_replay.traces.runs.cost_table import ANY_LAYER, COST_COLUMNS, CostTable

MATRICES = 3  # gate, up, down


@dataclass(frozen=True)
class ExpertShape:
    """An expert's width (of the model), hidden size and type, and the router: `experts` of which it chooses k."""

    width: int
    hidden: int
    dtype: str
    experts: int
    k: int

    @property
    def expert_bytes(self) -> int:
        """Bytes of the weights."""
        return MATRICES * self.width * self.hidden * BYTES[self.dtype]


def roofline_table(shape: ExpertShape, gpu: str, most_tokens: int, reached: float = 1.0) -> CostTable:
    """Return the cost table of batches of 1 to `most_tokens` tokens of an expert and of a router.

    `reached` is the share of both peaks that kernels are taken to reach. The header calls it an estimate. InputError
    for an unknown GPU, or a type that it has no published rate for.
    """
    if gpu not in GPUS:
        raise unknown_name("GPU", gpu, tuple(GPUS))
    found = GPUS[gpu]
    if shape.dtype not in found.flops:
        raise InputError(f"{gpu} has no published rate of {shape.dtype}; allowed: {', '.join(found.flops)}")
    flops, rate = found.flops[shape.dtype] * reached, found.bytes_per_s * reached
    weights = MATRICES * shape.width * shape.hidden
    peak = (BYTES[shape.dtype], flops, rate, most_tokens)
    expert = curve(weights, 2 * shape.width, *peak)
    router = curve(shape.width * shape.experts, shape.width + shape.experts, *peak)
    rows = [(0, 1, n, 0, ns) for n, ns in expert] + [(*ANY_LAYER, n, 0, ns) for n, ns in router]
    columns = {
        name: np.array(values, dtype)
        for (name, dtype), values in zip(COST_COLUMNS.items(), zip(*rows, strict=True), strict=True)
    }
    return CostTable(columns, header_of(shape, gpu, reached))


def header_of(shape: ExpertShape, gpu: str, reached: float) -> dict:
    """Return what a table says of itself: first of all that nothing was measured."""
    found = GPUS[gpu]
    share = f", of which kernels are taken to reach {reached:.0%}" if reached < 1 else ""
    rates = f"{found.flops[shape.dtype] / TERA:g} TFLOP/s, {found.bytes_per_s / 1e9:,g} GB/s{share}"
    return {
        "device": f"{gpu}-roofline",
        "measured": f"nothing: a roofline estimate from peak rates of {found.module} ({rates}; {found.source})",
        "estimate": "roofline",
        "dense": "the router alone; no attention, norm or choice",
        "expert_bytes": shape.expert_bytes,
        "model": {
            "name": f"experts of {shape.width} x {shape.hidden}", "experts": shape.experts, "k": shape.k,
            "width": shape.width, "hidden": shape.hidden, "dtype": shape.dtype, "layers": 1,
        },
    }  # fmt: skip


def curve(
    weights: int, values_per_token: int, value_bytes: int, flops: float, bytes_per_s: float, most: int
) -> list[tuple[int, int]]:
    """Return (tokens, ns) at every corner of a roofline: between two of them it is straight, so no other is needed.

    `weights` are multiplied with every token; `values_per_token` are read and written beside them.
    """
    per_token_s = 2 * weights / flops
    fixed_s, moved_s = weights * value_bytes / bytes_per_s, values_per_token * value_bytes / bytes_per_s
    knee = fixed_s / (per_token_s - moved_s) if per_token_s > moved_s else most
    tokens = sorted({1, most, *(n for n in (int(knee), int(knee) + 1) if 1 <= n <= most)})
    return [(n, max(1, round(1e9 * max(n * per_token_s, fixed_s + n * moved_s)))) for n in tokens]
