"""CIFAR-10 in the Parquet layout of the Hugging Face data set `uoft-cs/cifar10`."""

from pathlib import Path

from moe_replay.collect.datasets.cifar_parquet import Layout, load_cifar
from moe_replay.collect.datasets.images import Images

LAYOUT = Layout("cifar10", "CIFAR-10", "uoft-cs/cifar10", "plain_text", "label", 10)


def load_cifar10(data_dir: Path | None = None) -> Images:
    """Return all 60,000 images from a folder, or through the Hugging Face hub where there is a network."""
    return load_cifar(LAYOUT, data_dir)
