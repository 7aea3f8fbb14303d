"""The layer shapes of published MoE models, by name. Sizes are of the models' configuration files."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from moe_replay.traces.errors import InputError, unknown_name

MULTIPLE = 8  # scaled widths are multiples of it: matrix units take no others well


@dataclass(frozen=True)
class LayerShape:
    """One MoE layer: `experts` gated perceptrons [width -> hidden -> width], of which every token takes `k`.

    `scale` divides both widths of the published layer; 1 is the layer itself.
    """

    name: str
    width: int
    hidden: int
    experts: int
    k: int
    scale: int = 1

    def expert_bytes(self, dtype: torch.dtype) -> int:
        """Return the bytes of one expert's three matrices."""
        return 3 * self.width * self.hidden * dtype.itemsize

    def scaled(self, by: int) -> LayerShape:
        """Return the shape with both widths divided by `by`, as `mixtral-8x7b-by-16`; InputError below 1."""
        if by < 1:
            raise InputError(f"scale is {by}, allowed: integers >= 1")
        if by == 1:
            return self
        width, hidden = (max(MULTIPLE, round(size / by / MULTIPLE) * MULTIPLE) for size in (self.width, self.hidden))
        return replace(self, name=f"{self.name}-by-{by}", width=width, hidden=hidden, scale=by)


SHAPES = {
    shape.name: shape
    for shape in (
        LayerShape("mixtral-8x7b", 4096, 14336, 8, 2),
        LayerShape("qwen3-30b-a3b", 2048, 768, 128, 8),
        LayerShape("deepseek-v2-lite", 2048, 1408, 64, 6),
        LayerShape("gpt-oss-20b", 2880, 2880, 32, 4),
        LayerShape("olmoe", 2048, 1024, 64, 8),
    )
}


def shape_of(name: str, scale: int = 1) -> LayerShape:
    """Return a published shape, its widths divided by `scale`; InputError for a name that is none."""
    if name not in SHAPES:
        raise unknown_name("layer shape", name, SHAPES)
    return SHAPES[name].scaled(scale)
