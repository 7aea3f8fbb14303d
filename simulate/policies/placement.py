"""Placements: which device holds which block. Functions from sizes to a map (layer, block) -> device, or a file."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from moe_replay.simulate.policies.rule_names import Rules
from moe_replay.traces.errors import InputError
from moe_replay.traces.placements.even_split import EMPTY
from moe_replay.traces.placements.expert_placement import ExpertPlacement, load_placement

SUFFIXES = (".json", ".parquet")  # what tells a placement's file from a name


def contiguous(layers: int, experts: int, devices: int) -> np.ndarray:
    """Return device_LB (L+1, 1+E): neighbours stay together.

    Expert e of every layer is on device e * devices // experts. The dense blocks, of which there are L+1, are
    shared out in the same manner over the layers, so that no device carries all of them.
    """
    return blocks_on(np.arange(experts) * devices // experts, layers, devices)


def blocks_on(device_LE: np.ndarray, layers: int, devices: int) -> np.ndarray:
    """Return device_LB of the experts' devices; the dense blocks are shared out over the layers."""
    device_LB = np.empty((layers + 1, device_LE.shape[-1] + 1), np.int64)
    device_LB[:, 0] = np.arange(layers + 1) * devices // (layers + 1)
    device_LB[:layers, 1:] = device_LE
    device_LB[layers, 1:] = device_LB[layers - 1, 1:]  # no expert is there: layer L is a last dense block
    return device_LB


PLACEMENTS: Rules[Callable[[int, int, int], np.ndarray]] = Rules(
    "placement", "placement", None, {"contiguous": contiguous}, arguments=("layers", "experts", "devices")
)


@dataclass(frozen=True)
class FilePlacement:
    """The placement of a file, as a rule: it is of one number of layers, experts and devices."""

    path: str
    placement: ExpertPlacement

    def checked(self, layers: int, experts: int, devices: int) -> ExpertPlacement:
        """Return the placement; InputError for another number of layers, experts or devices."""
        held = self.placement
        for what, asked, has in (
            ("MoE layers", layers, len(held.layer_ids)), ("experts", experts, held.experts),
            ("devices", devices, held.devices),
        ):  # fmt: skip
            if asked != has:
                raise InputError(f"{self.path}: a placement of {has} {what}, allowed {asked} as in the run")
        return held

    def __call__(self, layers: int, experts: int, devices: int) -> np.ndarray:
        """Return device_LB; InputError as `checked`, and for replicas, which only linked devices can share out."""
        held = self.checked(layers, experts, devices)
        if replicas := int((held.replicas_LE - 1).sum()):
            raise InputError(
                f"{self.path}: {replicas} replicas, allowed none: runs without --links have one device for each expert "
                f"(`simulate place` scores placements with replicas)"
            )
        device_LE = np.empty((layers, experts), np.int64)
        slot_L1, slot_P1 = np.nonzero(held.expert_LP != EMPTY)
        device_LE[slot_L1, held.expert_LP[slot_L1, slot_P1]] = held.device_P[slot_P1]
        return blocks_on(device_LE, layers, devices)


def placement_name(text: str) -> str:
    """Return the name of a placement: a name as it is, or the one under which a placement's file is registered.

    That name tells the file's name and its content. InputError for a file that is none.
    """
    if Path(text).suffix not in SUFFIXES:
        return text
    held = load_placement(text)
    name = re.sub(r"\W", "_", f"file_{Path(text).name.split('.')[0][:50]}_{held.digest[:8]}", flags=re.ASCII)
    if name not in PLACEMENTS:
        PLACEMENTS.register(name, FilePlacement(text, held))
        PLACEMENTS.digests[name] = held.digest
    return name


def check_layers(name: str, layer_ids: tuple[int, ...]) -> None:
    """Refuse the placement of a file that is of other layers of the model than those recorded."""
    rule = PLACEMENTS.get(name)
    if isinstance(rule, FilePlacement) and rule.placement.layer_ids != layer_ids:
        held, recorded = list(rule.placement.layer_ids), list(layer_ids)
        raise InputError(f"{rule.path}: a placement of layers {held!s:.40}, allowed {recorded!s:.40} as recorded")


def place(name: str, layers: int, experts: int, devices: int) -> np.ndarray:
    """Return device_LB of the named placement.

    InputError for an unknown name, more devices than experts, or a user's own placement that is no such map.
    """
    PLACEMENTS.check(name)
    if devices > experts:
        raise InputError(f"devices is {devices}, allowed: at most one for each of the {experts} experts")
    device_LB, shape = np.asarray(PLACEMENTS[name](layers, experts, devices)), (layers + 1, experts + 1)
    if device_LB.shape != shape or device_LB.dtype.kind not in "iu":
        raise InputError(
            f"placement {name!r} gives {device_LB.dtype} of shape {device_LB.shape}, allowed: integers of shape {shape}"
        )
    if device_LB.min() < 0 or device_LB.max() >= devices:
        worst = device_LB.min() if device_LB.min() < 0 else device_LB.max()
        raise InputError(f"placement {name!r} gives device {worst}, allowed 0..{devices - 1}")
    if len(np.unique(device_LB[:layers, 1:])) < devices:
        raise InputError(f"placement {name!r} leaves a device without experts; allowed: some on each of {devices}")
    return device_LB.astype(np.int64)
