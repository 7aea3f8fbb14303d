"""Which expert is in which slot of which device, replicas included: what planners make and engines read."""

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from moe_replay.traces.command_line.files import write_json
from moe_replay.traces.command_line.provenance import SCHEMA_VERSION
from moe_replay.traces.errors import InputError
from moe_replay.traces.placements.even_split import EMPTY, replicas_LE

KEYS = ("schema", "kind", "model", "experts", "devices", "layer_ids", "expert_LP", "provenance")
KIND = "placement"


@dataclass(frozen=True, eq=False, kw_only=True)
class ExpertPlacement:
    """`expert_LP` int16: the expert in each of P physical slots of every layer, -1 in an empty slot.

    Slots are numbered device by device, devices node by node: slot p is on device p // (P / devices), device d in node
    d // (devices / nodes). Every expert is in at least one slot of every layer; what is in several is replicated, on
    different devices. `layer_ids` are the model's own numbers of the L layers. Raises InputError naming layer, slot
    and value.
    """

    model: str
    experts: int
    devices: int
    layer_ids: tuple[int, ...]
    expert_LP: np.ndarray
    nodes: int = 1

    def __post_init__(self) -> None:
        if self.expert_LP.ndim != 2 or len(self.expert_LP) != len(self.layer_ids):
            raise InputError(
                f"expert_LP has shape {self.expert_LP.shape}, allowed {len(self.layer_ids)} layers x slots"
            )
        slots = self.expert_LP.shape[1]
        if self.devices < 1 or slots % self.devices or slots == 0:
            raise InputError(f"{slots} slots on {self.devices} devices, allowed: equally many on each")
        if self.nodes < 1 or self.devices % self.nodes:
            raise InputError(f"{self.devices} devices in {self.nodes} nodes, allowed: equally many in each")
        if list(self.layer_ids) != sorted({*self.layer_ids}) or self.layer_ids[0] < 0:
            raise InputError(f"layer_ids are {list(self.layer_ids)}, allowed ascending whole numbers >= 0")
        outside = np.argwhere((self.expert_LP < EMPTY) | (self.expert_LP >= self.experts))
        if len(outside):
            layer, slot = outside[0]
            raise InputError(
                f"layer {self.layer_ids[layer]}, slot {slot} holds expert {self.expert_LP[layer, slot]}, "
                f"allowed 0..{self.experts - 1}, or -1 for an empty slot ({len(outside)} such slots)"
            )
        for layer, expert_P in zip(self.layer_ids, self.expert_LP, strict=True):
            absent = np.setdiff1d(np.arange(self.experts), expert_P)
            if len(absent):
                raise InputError(f"layer {layer}: expert {absent[0]} is in no slot ({len(absent)} such experts)")
        self.check_replicas()

    def check_replicas(self) -> None:
        """Refuse two replicas of an expert on one device: they take a slot and balance nothing."""
        held_LDX = np.sort(self.expert_LP.reshape(len(self.layer_ids), self.devices, -1), axis=2)
        twice = np.argwhere((held_LDX[:, :, 1:] == held_LDX[:, :, :-1]) & (held_LDX[:, :, 1:] != EMPTY))
        if len(twice):
            layer, device, at = twice[0]
            raise InputError(
                f"layer {self.layer_ids[layer]}, device {device} holds expert {held_LDX[layer, device, at]} twice, "
                f"allowed: replicas on different devices ({len(twice)} such replicas)"
            )

    @property
    def device_P(self) -> np.ndarray:
        """The device of every slot."""
        slots = self.expert_LP.shape[1]
        return np.arange(slots) // (slots // self.devices)

    @property
    def replicas_LE(self) -> np.ndarray:
        """How many slots every expert has."""
        return replicas_LE(self.expert_LP, self.experts)

    @property
    def said(self) -> str:
        """The placement in a few words."""
        slots, nodes = self.expert_LP.shape[1], f" in {self.nodes} nodes" if self.nodes > 1 else ""
        empty = f", {self.empty_slots} of all slots empty" if self.empty_slots else ""
        replicas = int((self.replicas_LE - 1).sum(1).max())
        return (
            f"placement of {self.experts} experts in {len(self.layer_ids)} layers: {slots} slots on {self.devices} "
            f"devices{nodes}, {replicas} of them replicas{empty}"
        )

    @property
    def empty_slots(self) -> int:
        """How many slots of all layers hold nothing."""
        return int((self.expert_LP == EMPTY).sum())

    @cached_property
    def digest(self) -> str:
        """A digest of what is where; the model's name and who made it do not count."""
        content = [self.experts, self.devices, self.nodes, list(self.layer_ids), self.expert_LP.tolist()]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:32]

    @property
    def slot_LEX(self) -> np.ndarray:
        """The slots of every expert, ascending, -1 behind the last: EPLB's log2phy."""
        replicas_LE = self.replicas_LE
        slot_LEX = np.full((*replicas_LE.shape, replicas_LE.max()), -1, np.int64)
        for layer, expert_P in enumerate(self.expert_LP):
            for expert in range(self.experts):
                own = np.flatnonzero(expert_P == expert)
                slot_LEX[layer, expert, : len(own)] = own
        return slot_LEX


def save_placement(placement: ExpertPlacement, path: Path | str, provenance: dict) -> None:
    """Write a placement as JSON, whole or not at all; `provenance` says how it was made."""
    write_json(path, {
        "schema": SCHEMA_VERSION, "kind": KIND, "model": placement.model, "experts": placement.experts,
        "devices": placement.devices, "nodes": placement.nodes, "layer_ids": list(placement.layer_ids),
        "expert_LP": placement.expert_LP.tolist(), "provenance": provenance,
    })  # fmt: skip


def holds_placement(path: Path | str) -> bool:
    """Return whether a file says that it is a placement; what cannot be read says nothing."""
    try:
        return Path(path).suffix == ".json" and json.loads(Path(path).read_text()).get("kind") == KIND
    except (OSError, ValueError, AttributeError, RecursionError):
        return False


def load_placement(path: Path | str) -> ExpertPlacement:
    """Return the placement in a file; InputError for a missing or damaged one."""
    try:
        content = json.loads(Path(path).read_text())
    except OSError:
        raise InputError(f"{path}: no such file") from None
    except ValueError as error:
        raise InputError(f"{path}: not JSON ({error!s:.60})") from None
    if not isinstance(content, dict) or content.get("kind") != KIND:
        raise InputError(f"{path}: no placement, allowed a file with kind {KIND!r}")
    for key in KEYS:
        if key not in content:
            raise InputError(f"{path}: key {key!r} is missing; needed: {', '.join(KEYS)}")
    nodes = content.get("nodes", 1)  # files of former versions do not have it
    sizes = [content["experts"], content["devices"], nodes, *(content["layer_ids"] or [None])]
    if content["schema"] != SCHEMA_VERSION or not all(type(each) is int for each in sizes):
        raise InputError(f"{path}: schema, experts, devices, nodes or layer_ids hold something else than whole numbers")
    try:
        expert_LP = np.array(content["expert_LP"])
        if expert_LP.dtype.kind != "i" or (expert_LP != expert_LP.astype(np.int16)).any():
            raise ValueError
        expert_LP = expert_LP.astype(np.int16)
    except (ValueError, TypeError, OverflowError):
        raise InputError(f"{path}: expert_LP is no table of expert numbers") from None
    try:
        return ExpertPlacement(
            model=str(content["model"]), experts=content["experts"], devices=content["devices"],
            layer_ids=tuple(content["layer_ids"]), expert_LP=expert_LP, nodes=nodes,
        )  # fmt: skip
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
