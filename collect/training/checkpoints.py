"""Checkpoints: weights, optimiser and a description of what they belong to; loading runs no code from the file."""

import io
import pickle
import struct
from pathlib import Path

import torch
from torch import nn

from moe_replay.traces.command_line.files import replacing
from moe_replay.traces.errors import InputError
from moe_replay.traces.importers.reading.torch_file import reason

# What torch.load was seen to raise on files that are no checkpoints: text and bytes read as pickled instructions.
DAMAGE = (
    RuntimeError, pickle.UnpicklingError, LookupError, TypeError, ValueError, AttributeError, EOFError, OSError,
    struct.error,
)  # fmt: skip


def save_checkpoint(
    path: Path, description: dict, model: nn.Module, optimizer: torch.optim.Optimizer | None, history: list,
    loads: dict | None = None,
) -> None:  # fmt: skip
    """Write a checkpoint, whole or not at all. `optimizer` None: the training is finished and needs no state of it.

    `loads`: the counts of a training that counts how many tokens select each expert.
    """
    content = {
        "description": description, "history": history, "model_state": model.state_dict(),
        "optimizer_state": optimizer.state_dict() if optimizer else None,
    } | ({} if loads is None else {"loads": loads})  # fmt: skip
    made = io.BytesIO()
    torch.save(content, made)  # not to the file: what torch says of a full disk tells nobody what is wrong
    with replacing(path) as temporary:
        temporary.write_bytes(made.getbuffer())


def load_checkpoint(path: Path, description: dict | None = None) -> dict:
    """Return a checkpoint's content, on the CPU.

    InputError where the file is missing or damaged, or where `description` is given and differs: the first
    differing entry is named.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        stored = content["description"]
    except FileNotFoundError:
        raise InputError(f"{path}: no such checkpoint") from None
    except DAMAGE as error:
        raise InputError(f"{path}: not a checkpoint of moe-replay ({reason(error)})") from None
    if description is not None and stored != description:
        raise InputError(f"{path}: is of another training: {first_difference(stored, description)}")
    return content


def first_difference(stored: dict, wanted: dict, place: str = "") -> str:
    """Return `key is X there, Y here` for the first entry in which two nested dictionaries differ."""
    for key in sorted(stored.keys() | wanted.keys()):
        there, here = stored.get(key), wanted.get(key)
        if isinstance(there, dict) and isinstance(here, dict) and there != here:
            return first_difference(there, here, f"{place}{key}.")
        if there != here:
            return f"{place}{key} is {there!r} there, {here!r} here"
    return "no difference"
