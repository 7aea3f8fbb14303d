"""What a quick run finds: packages, torch, the device, its driver, and the room on the disk."""

from __future__ import annotations

import importlib.util
import platform
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from moe_replay.collect.quick.steps import Step

if TYPE_CHECKING:
    import torch

LATER = ("pandas", "scipy", "simpy", "numba", "llvmlite", "matplotlib", "joblib")  # of simulation, tables, figures


def lacking(packages: Iterable[str]) -> list[str]:
    """Return those of these packages that this Python lacks."""
    return [name for name in packages if importlib.util.find_spec(name) is None]


def said_of_packages(steps: list[Step]) -> list[str]:
    """Return a line per step that cannot run here, and one where the stages after collecting cannot."""
    lines = [
        f"step {step.number} ({step.name}) is left out: this Python lacks {', '.join(missing)}"
        for step in steps
        if (missing := lacking(step.packages))
    ]
    if later := lacking(LATER):
        lines.append(f"no step needs {', '.join(later)}, which this Python lacks; simulation, tables and figures do")
    return lines


def about_machine(device: torch.device, name: str) -> dict:
    """Return what the journal of a quick run says: device, driver, versions."""
    import torch  # late: the clock over the steps needs none

    found = {"device": name, "python": platform.python_version(), "torch": torch.__version__}
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        found |= {
            "driver": driver(), "cuda": torch.version.cuda, "device_bytes": properties.total_memory,
            "multiprocessors": properties.multi_processor_count,
        }  # fmt: skip
    return found


def driver() -> str:
    """Return the version of NVIDIA's driver; `unknown` where nothing tells it."""
    asked = ("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")
    try:
        said = subprocess.run(asked, capture_output=True, text=True, timeout=20, check=True).stdout.split()
    except (OSError, subprocess.SubprocessError):
        said = []
    return said[0] if said else "unknown"


def free_bytes(folder: Path) -> int:
    """Return the room on the disk that a folder, there or not, lies on or would lie on."""
    return shutil.disk_usage(next(each for each in (folder, *folder.absolute().parents) if each.exists())).free
