"""Which device a collector runs on, and the name of the folder that holds its logs."""

import platform
import re
import warnings
from pathlib import Path

import numpy as np
import torch

from moe_replay.traces.command_line.memory_room import GIB, check_room
from moe_replay.traces.errors import InputError

DEVICES = ("auto", "cpu", "cuda")


def pick_device(wanted: str) -> torch.device:
    """Return the device: `auto` takes CUDA where there is one. InputError for another name or an absent GPU."""
    if wanted not in DEVICES:
        raise InputError(f"--device {wanted!r}: allowed: {', '.join(DEVICES)}")
    if wanted == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: this machine has no CUDA device; allowed here: auto, cpu")
    return torch.device("cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu")


def device_name(device: torch.device) -> str:
    """Return a device's name in lower case with dashes: `nvidia-h200`, `cpu-amd-epyc`."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu {processor()}"
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def processor() -> str:
    """Return the processor's model name, without its trademark signs and clock."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.partition(":")[2] for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.processor() or platform.machine()
    return re.sub(r"\((R|TM)\)|CPU|Processor|@.*", "", name)


def synchronise(device: torch.device) -> None:
    """Wait until the device has done what was queued; nothing to wait for on a CPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def check_weights_fit(what: str, weights_bytes: int, device: torch.device) -> None:
    """Refuse weights that a device has no memory for; `what` says which they are."""
    if device.type != "cuda":
        check_room(f"{what}: bytes of weights", weights_bytes, 1)
    elif weights_bytes > (free := torch.cuda.mem_get_info(device)[0]):
        raise InputError(
            f"{what}: its weights take {weights_bytes / GIB:.3g} GiB, the device has {free / GIB:.3g} GiB left;"
            " allowed: fewer layers or experts, or a larger scale"
        )


def on_device(values: np.ndarray, device: torch.device) -> torch.Tensor:
    """Return an array as a tensor on a device, without a copy on the CPU; read-only arrays too: data is only read."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(values).to(device)
