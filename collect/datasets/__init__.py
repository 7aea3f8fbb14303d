"""Image data sets for real runs, and the table of their names."""

from collections.abc import Callable
from pathlib import Path

from moe_replay.collect.datasets.cifar10 import load_cifar10
from moe_replay.collect.datasets.cifar100 import load_cifar100
from moe_replay.collect.datasets.digits import load_digits_images
from moe_replay.collect.datasets.fashion_mnist import load_fashion_mnist
from moe_replay.collect.datasets.images import Images
from moe_replay.traces.errors import InputError, unknown_name

DATASETS: dict[str, Callable[[Path | None], Images]] = {
    "cifar10": load_cifar10,
    "cifar100": load_cifar100,
    "fashion-mnist": load_fashion_mnist,
    "digits": load_digits_images,
}


def load_images(name: str, data_dir: Path | None = None) -> Images:
    """Return a data set by name, looked for in `data_dir` first; InputError says what is missing and how to get it."""
    if name not in DATASETS:
        raise unknown_name("data set", name, DATASETS)
    if data_dir is not None and not data_dir.is_dir():
        raise InputError(f"--data-dir {data_dir}: no such folder")
    return DATASETS[name](data_dir)
