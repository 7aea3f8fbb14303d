"""What every command of `python -m collect` shares: the application, and the options that mean the same everywhere."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import typer

from moe_replay.collect.datasets import DATASETS, load_images
from moe_replay.collect.datasets.images import Images
from moe_replay.collect.devices import DEVICES, device_name, pick_device
from moe_replay.collect.recording.score_rounding import FULL_PRECISION
from moe_replay.traces.command_line import command
from moe_replay.traces.command_line.units import COUNT
from moe_replay.traces.errors import InputError
from moe_replay.traces.runs.cost_table import CostTable
from moe_replay.traces.selections import Trace

app = command.new_app(
    "Collectors: train real MoE models, record their expert choices, execute queue rules, measure costs."
)

Data = Annotated[str, typer.Option("--data", help=f"Data set: {', '.join(DATASETS)}.")]
DataDir = Annotated[Path | None, typer.Option(help="Folder with the data; else MOE_REPLAY_DATA, else the hub.")]
Device = Annotated[str, typer.Option(help=f"{', '.join(DEVICES)}.")]
Threads = Annotated[int, COUNT.option(low=1, high=1024, help="torch threads on a CPU; measurements want 1.")]
Checkpoint = Annotated[Path, typer.Option(help="A finished training's checkpoint.")]
TrainImages = Annotated[int | None, COUNT.option(low=1, help="Use only the first so many training images.")]
Force = command.Force
TestImages = Annotated[int | None, COUNT.option(low=1, help="Use only the first so many test images.")]
ScoreBits = Annotated[
    int, COUNT.option(low=1, high=FULL_PRECISION, help="Bits kept of the significands of scores and norms.")
]
Epochs = Annotated[int, COUNT.option(low=1, help="Passes over the training images.")]
Jobs = Annotated[int, COUNT.option(low=1, help="Trainings side by side on a CPU, one thread each.")]


@dataclass(frozen=True)
class ImageOptions:
    """Which images a command takes."""

    data: Data = "cifar10"
    data_dir: DataDir = None
    train_images: TrainImages = None
    test_images: TestImages = None

    def read(self) -> Images:
        """Return the data set, cut to its first images where asked."""
        return load_images(self.data, self.data_dir).first(self.train_images, self.test_images)


@dataclass(frozen=True)
class TorchOptions:
    """Where torch computes, and with how many threads."""

    device: Device = "auto"
    threads: Threads = 1

    def pick(self) -> torch.device:
        """Set the number of threads and return the device; InputError where there is none of that name."""
        torch.set_num_threads(self.threads)
        return pick_device(self.device)


def check_belonging(
    trace: Path, recorded: Trace, costs: Path, table: CostTable, images: Images, device: torch.device
) -> None:
    """Refuse a trace of other images than these, and a cost table of another device than this one."""
    if recorded.header.data["digest"] != images.digest:
        raise InputError(f"{trace}: was recorded on other images than --data {images.name}")
    if table.header["device"] != device_name(device):
        raise InputError(f"{costs}: was measured on {table.header['device']}, this is {device_name(device)}")
