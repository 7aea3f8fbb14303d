"""A placement balanced by load: the experts with most load are replicated, and devices get about equal loads.

Greedy, as DeepSeek's EPLB does it within one group of devices: a replica at a time goes to the expert with the largest
load per replica; then the heaviest come first, each on the least loaded device that has room and does not hold it.
Swaps that relieve the fullest device follow. Loads that are equal count by the expert's number, so the same loads give
the same placement.
"""

from dataclasses import dataclass, field

import numpy as np

from moe_replay.traces.errors import InputError
from moe_replay.traces.placements.even_split import even_loads
from moe_replay.traces.placements.expert_placement import ExpertPlacement

MOST_PLACED = 2**18
TOLERANCE = 1e-9  # of the mean load; smaller gains are the noise of sums in another order


def balanced_placement(
    model: str, layer_ids: tuple[int, ...], load_LE: np.ndarray, devices: int, slots: int | None = None
) -> ExpertPlacement:
    """Return a placement of `slots` (None: one for each expert) on devices that hold equally many.

    Every layer is placed by its own loads. A replica takes an equal part of its expert's load. InputError where so
    many slots cannot be filled without an expert twice on a device.
    """
    experts = load_LE.shape[1]
    slots = experts if slots is None else slots
    if max(devices, slots) > MOST_PLACED:
        raise InputError(f"{slots} slots on {devices} devices, allowed up to {MOST_PLACED:,} of each")
    if slots < experts or slots % devices or slots > experts * devices:
        raise InputError(
            f"{slots} slots on {devices} devices: allowed equally many on each, at least one for each of the {experts} "
            f"experts and at most {experts} on a device, since two replicas there balance nothing"
        )
    expert_LP = np.stack([packed(load_E, replicas(load_E, devices, slots), devices, slots) for load_E in load_LE])
    return ExpertPlacement(model=model, experts=experts, devices=devices, layer_ids=layer_ids, expert_LP=expert_LP)


def replicas(load_E: np.ndarray, devices: int, slots: int) -> np.ndarray:
    """Return how many slots each expert gets: 1..devices; of two experts the one with more load never has fewer."""
    count_E = np.ones(len(load_E), np.int64)
    for _ in range(slots - len(load_E)):
        share_E = np.where(count_E < devices, load_E / count_E, -1.0)
        count_E[np.lexsort((count_E, -share_E))[0]] += 1
    return count_E


def device_loads(load_LE: np.ndarray, placement: ExpertPlacement) -> np.ndarray:
    """Return each device's load in each layer [L, devices], every expert's load in equal parts on its replicas."""
    return even_loads(load_LE[None], placement.expert_LP, placement.devices)[0]


def balance_text(load_LE: np.ndarray, placement: ExpertPlacement) -> str:
    """Return slots, devices, replicas, and how full the fullest device is, beside experts in the order of numbers."""
    experts, slots = load_LE.shape[1], placement.expert_LP.shape[1]
    replicas_L = (placement.replicas_LE - 1).sum(1)
    in_order_E = np.arange(experts) * placement.devices // experts
    in_order_LD = np.stack([np.bincount(in_order_E, load_E, placement.devices) for load_E in load_LE])
    known_L = load_LE.any(1)
    if not known_L.any():
        return f"{slots} slots on {placement.devices} devices; no loads to balance"
    placed, in_order = (
        (load_LD.max(1) / load_LD.mean(1))
        for load_LD in (device_loads(load_LE, placement)[known_L], in_order_LD[known_L])
    )
    return (
        f"{slots} slots on {placement.devices} devices, {replicas_L.max()} of them replicas; the fullest device has "
        f"{placed.mean():.2f} times the mean load (worst layer {placed.max():.2f}), with experts in order and no "
        f"replicas {in_order.mean():.2f} ({in_order.max():.2f})"
    )


def packed(load_E: np.ndarray, count_E: np.ndarray, devices: int, slots: int) -> np.ndarray:
    """Return the expert of each slot, int16; on each device ascending.

    Without replicas the order of the experts' numbers is a second start, so that the result is never worse than it.
    """
    share_E, experts = load_E / count_E, len(load_E)
    shelves = [Shelf(share_E, devices, slots // devices)]
    for expert in np.lexsort((np.arange(experts), -share_E)).tolist():
        for _ in range(count_E[expert]):
            shelves[0].add(expert)
    if slots == experts:
        in_order = np.arange(experts).reshape(devices, -1).tolist()
        shelves.append(Shelf(share_E, devices, slots // devices, in_order))
    for shelf in shelves:
        shelf.even_out()
    best = min(shelves, key=lambda shelf: shelf.load_D.max())
    return np.concatenate([np.sort(np.array(held, np.int16)) for held in best.held])


@dataclass
class Shelf:
    """Devices with room for `room` experts each; `share_E` is the load that one replica of each expert brings."""

    share_E: np.ndarray
    devices: int
    room: int
    held: list[list[int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.held = self.held or [[] for _ in range(self.devices)]

    @property
    def load_D(self) -> np.ndarray:
        """The load of every device."""
        return np.array([self.share_E[held].sum() for held in self.held])

    def add(self, expert: int) -> None:
        """Put one replica on the least loaded device that has room and does not hold the expert."""
        free = [device for device, held in enumerate(self.held) if len(held) < self.room]
        fitting = [device for device in free if expert not in self.held[device]]
        load_D = self.load_D
        if not fitting:
            fitting = [self.make_room(expert, free[0], load_D)]
        self.held[min(fitting, key=lambda device: load_D[device])].append(expert)

    def make_room(self, expert: int, holder: int, load_D: np.ndarray) -> int:
        """Move something from a full device without the expert to a `holder` of it that has room; return that device.

        There is something to move: a full device without the expert holds more others than a holder with room does.
        What leaves the two devices the lowest larger load moves.
        """
        moves = [
            (max(load_D[holder] + self.share_E[other], load_D[device] - self.share_E[other]), device, other)
            for device, held in enumerate(self.held) if expert not in held
            for other in held if other not in self.held[holder]
        ]  # fmt: skip
        _, device, other = min(moves)
        self.held[device].remove(other)
        self.held[holder].append(other)
        return device

    def even_out(self) -> None:
        """Swap two experts while that relieves the fullest device and leaves its partner below what it had."""
        least_gain = TOLERANCE * self.share_E.mean()
        while True:
            load_D = self.load_D
            fullest = int(load_D.argmax())
            swaps = [
                (max(load_D[fullest] - gain, load_D[device] + gain), one, device, other)
                for device, held in enumerate(self.held) if device != fullest
                for one in self.held[fullest] if one not in held
                for other in held
                if other not in self.held[fullest] and (gain := self.share_E[one] - self.share_E[other]) > least_gain
            ]  # fmt: skip
            if not swaps or min(swaps)[0] > load_D[fullest] - least_gain:
                return
            _, one, device, other = min(swaps)
            for at, leaves, comes in ((fullest, one, other), (device, other, one)):
                self.held[at].remove(leaves)
                self.held[at].append(comes)
