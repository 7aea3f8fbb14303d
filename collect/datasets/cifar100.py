"""CIFAR-100, its 100 fine classes, in the Parquet layout of the Hugging Face data set `uoft-cs/cifar100`."""

from pathlib import Path

from moe_replay.collect.datasets.cifar_parquet import Layout, load_cifar
from moe_replay.collect.datasets.images import Images

LAYOUT = Layout("cifar100", "CIFAR-100", "uoft-cs/cifar100", "cifar100", "fine_label", 100)


def load_cifar100(data_dir: Path | None = None) -> Images:
    """Return all 60,000 images from a folder, or through the Hugging Face hub where there is a network."""
    return load_cifar(LAYOUT, data_dir)
