"""SmartMoE's published speed-ups over FastMoE: Zhai et al., USENIX ATC '23, figures 8 to 10, from its artifact's logs.

They are ratios of whole iterations of training on the authors' clusters. SmartMoE also chooses how to combine data,
tensor and expert parallelism before it places experts, so they are no measurement of placement alone.
"""

from __future__ import annotations

FIGURES = {
    "8, GPT on cluster inky": {
        (16, 1.2): 1.4830, (16, 2.4): 1.5582, (16, 4.8): 1.6179, (16, None): 2.1900,
        (32, 1.2): 1.0595, (32, 2.4): 1.3516, (32, 4.8): 1.6581, (32, None): 2.6701,
    },
    "8, GPT on cluster pinky": {(32, 1.2): 0.6455, (32, None): 1.4623, (64, 1.2): 1.0357, (64, None): 1.4841},
    "9, Swin": {
        (16, 4.8): 1553 / 1460, (16, None): 2093 / 1868, (32, 4.8): 1296 / 1131, (32, None): 1301 / 1162,
    },
    "10, GPT beside Alpa": {(16, 1.2): 1.4830, (16, None): 2.1900, (32, 1.2): 1.0595, (32, None): 2.6701},
}  # fmt: skip


def published_rows() -> list[dict]:
    """Return a row for every published bar, in the order of the figures."""
    return [
        {
            "published_figure": figure, "published_gpus": gpus, "published_capacity": capacity,
            "published_speed_up": speed_up,
        }
        for figure, bars in FIGURES.items() for (gpus, capacity), speed_up in bars.items()
    ]  # fmt: skip
