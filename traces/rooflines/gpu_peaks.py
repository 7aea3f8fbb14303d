"""Published peak rates of GPUs: dense matrix products (without sparsity) by type, and memory bandwidth.

From the makers' data sheets of the module named; tensor cores where the type has them, accumulation in 32 bits. Sheets
that state rates with sparsity are halved.
"""

from __future__ import annotations

from dataclasses import dataclass

TERA, GIGA = 1e12, 1e9
BYTES = {"float32": 4, "bfloat16": 2, "float16": 2, "float8": 1}


@dataclass(frozen=True)
class GpuPeaks:
    """One GPU: its module, operations per second by type, bytes per second of its memory, and where that is from."""

    module: str
    flops: dict[str, float]
    bytes_per_s: float
    source: str


def peaks(
    module: str, float32: float, half: float, float8: float | None, gigabytes_per_s: float, source: str
) -> GpuPeaks:
    """Return the peaks of a module; rates are in tera-operations per second, `half` that of both 16-bit types."""
    rates = {"float32": float32, "bfloat16": half, "float16": half} | ({"float8": float8} if float8 else {})
    return GpuPeaks(module, {name: rate * TERA for name, rate in rates.items()}, gigabytes_per_s * GIGA, source)


GPUS = {
    "a100": peaks("A100 SXM 80 GB", 19.5, 312, None, 2_039, "NVIDIA A100 data sheet"),
    "h100": peaks("H100 SXM", 67, 989.5, 1_979, 3_350, "NVIDIA H100 data sheet"),
    "h200": peaks("H200 SXM", 67, 989.5, 1_979, 4_800, "NVIDIA H200 data sheet"),
    "l40s": peaks("L40S", 91.6, 362, 733, 864, "NVIDIA L40S data sheet"),
    "mi300x": peaks("Instinct MI300X", 163.4, 1_307.4, 2_614.9, 5_300, "AMD Instinct MI300X data sheet"),
}
