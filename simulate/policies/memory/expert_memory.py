"""Expert memory of a run with time: what a device may run now, what it must fetch first, and what the links carry.

Schedulers ask; drivers move the weights and say when they are there. The rules of a single cache are in
`policies.caches.cache`, their place in the order of an instant in `policies.instant_order`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from moe_replay.simulate.config.memory_config import MemoryConfig
from moe_replay.simulate.policies.caches.cache import Access, Cache, Counts
from moe_replay.simulate.policies.caches.cache_names import new_caches
from moe_replay.simulate.policies.memory.filling import fill, sharing
from moe_replay.simulate.policies.memory.host_link import Link, Transfer
from moe_replay.simulate.policies.memory.knowledge import AccessOrder, Future, Group, Knowledge
from moe_replay.simulate.policies.prefetchers.prefetcher_names import new_prefetcher

if TYPE_CHECKING:
    from moe_replay.simulate.policies.batch import Batch


class ExpertMemory:
    """The caches and links of all devices.

    A queue whose expert is absent or on its way is set aside (`parked`) and comes to the ready list with its weights:
    to the head, or, in lockstep (`ordered`), to the end, so that there order depends on no time. Other queues run
    meanwhile, unless misses block. Where misses ask at their turn, a lockstep stage runs in ascending order, each waits
    for its own weights. `knowledge` is what policies may know, `order` the accesses to come.
    Raises InputError for more slots than a device has experts, or a policy that needs what is not known.
    """

    masked: ClassVar[bool] = False  # True: what runs is decided when a pass enters a layer, not when its batch starts

    def __init__(
        self, config: MemoryConfig, device_LB: np.ndarray, knowledge: Knowledge, ordered: bool,
        order: AccessOrder | None = None,
    ) -> None:  # fmt: skip
        self.config, self.knowledge, self.ordered = config, knowledge, ordered
        self.width, self.experts = knowledge.experts + 1, knowledge.experts
        self.devices = int(device_LB.max()) + 1
        self.device_K = device_LB[: knowledge.layers, 1:].ravel().tolist()  # by key
        self.sharing = sharing(config, self.device_K, self.experts)
        self.caches_DC = [self._new_caches(device, order) for device in range(self.devices)]
        self.links = [Link(config.link == "wide") for _ in range(self.devices)]
        told = replace(knowledge, groups=order.groups if order else None, look_ahead=config.look_ahead)
        self.prefetcher = new_prefetcher(config.prefetch, told)
        self.prefetches = config.prefetch != "none"
        self.hands_out = config.hands_out
        self.asking_DC = [[deque() for _ in caches] for caches in self.caches_DC]  # demands that wait for a slot
        self.passing_DC = [[-1] * len(caches) for caches in self.caches_DC]  # the declined expert in the extra slot
        self.met: dict[int, Access] = {}  # by queue: what its next batch met, until it is bound
        self.parked: set[int] = set()
        self.rests: set[int] = set()  # ready queues whose expert runs another batch: they are accessed behind it
        self.entered: list[Group] = []  # groups whose experts were selected since the last prefetches
        self.transfers: list[Transfer] = []  # all that were asked for, in order
        self.order = AccessOrder([[[] for _ in caches] for caches in self.caches_DC], [])
        if config.filled:
            fill(self.caches_DC, self.device_K, self._worth())

    def _new_caches(self, device: int, order: AccessOrder | None) -> list[Cache]:
        futures = [Future(keys) for keys in order.keys_DC[device]] if order else None
        known = replace(self.knowledge, held={key for key, at in enumerate(self.device_K) if at == device})
        slots_C = self.config.slots_of(1 if self.config.scope == "global" else known.layers)
        return new_caches(self.config.cache, slots_C, self.config.scope, known, futures)

    def _worth(self) -> Sequence[float] | None:
        return self.knowledge.importance if self.config.cache == "importance" else self.knowledge.popularity

    # Where a queue's expert is: resident, on its way, or absent.

    def key_of(self, queue: int) -> int:
        """Return the key of an expert's queue."""
        layer, block = divmod(queue, self.width)
        return layer * self.experts + block - 1

    def queue_of(self, key: int) -> int:
        """Return the queue of an expert."""
        layer, expert = divmod(key, self.experts)
        return layer * self.width + 1 + expert

    def place_of(self, key: int) -> tuple[int, int]:
        """Return (device, index of its cache there) of an expert."""
        return self.device_K[key], key // self.experts % len(self.caches_DC[0])

    def is_here(self, key: int) -> bool:
        """Say whether an expert can run now: in its slot, or in the extra one."""
        device, index = self.place_of(key)
        cache = self.caches_DC[device][index]
        return cache.is_resident(key) or (self.passing_DC[device][index] == key and key not in cache.in_flight)

    # What a scheduler asks.

    def begin_stage(self, queues: list[int], now: int) -> None:
        """Lockstep: the experts of a stage, ascending, are known; what is to be loaded is accessed at once."""
        keys = [self.key_of(queue) for queue in queues]
        for device, index in dict.fromkeys(map(self.place_of, keys)):
            self.caches_DC[device][index].protect([key for key in keys if self.place_of(key) == (device, index)])
        if self.config.miss == "load" and not self.hands_out:
            for queue in queues:
                self.meet(queue, now)

    def enter(self, group: Group) -> None:
        """Note a group that has been selected: prefetchers look at it when its own demands are on their way."""
        self.entered.append(group)

    def hand_out(self, queue: int, now: int) -> Access:
        """Access the expert of a queue that becomes ready; it is set aside where its expert has to come first."""
        device, index = self.place_of(key := self.key_of(queue))
        if key in self.caches_DC[device][index].running:  # demands that wait for that slot were there before
            self.rests.add(queue)
            return Access.HIT
        met = self.meet(queue, now)
        if met is Access.DELAYED or (met is Access.MISS and self.config.miss != "host"):
            self.parked.add(queue)
        return met

    def take(self, ready: deque[int], now: int) -> int | None:
        """Return the queue that a free device runs next, taken off its ready list; None if it has to wait."""
        while ready:
            queue = ready[0]
            if queue % self.width == 0:
                return ready.popleft()
            if queue not in self.met:
                self.meet(queue, now)
            if self.is_here(self.key_of(queue)):
                return ready.popleft()
            if self.ordered or self.config.miss == "block":
                return None
            self.parked.add(ready.popleft())
        return None

    def meet(self, queue: int, now: int) -> Access:
        """Access the expert of a queue; a miss that is loaded asks for a slot."""
        key = self.key_of(queue)
        device, index = self.place_of(key)
        cache = self.caches_DC[device][index]
        self.order.keys_DC[device][index].append(key)
        met = self.met[queue] = cache.access(key, now)
        if self.hands_out:
            cache.promised.add(key)
        if met is Access.HIT:
            return met
        if key not in cache.protected:
            cache.protect([*cache.protected, key])
        if met is Access.MISS and self.config.miss != "host":
            self.asking_DC[device][index].append(key)
            self.grant(device, index, now)
        return met

    def bound(self, batch: Batch) -> None:
        """Note that a batch of an expert has been bound: on its device its expert is pinned."""
        key = batch.layer * self.experts + batch.block - 1
        batch.hit = int(self.met.pop(batch.layer * self.width + batch.block) is Access.HIT)
        device, index = self.place_of(key)
        cache = self.caches_DC[device][index]
        if batch.device == device:
            cache.start(key)
        else:
            cache.leave_turn(key)

    def released(self, batch: Batch, now: int) -> None:
        """Note that a batch of an expert is complete; demands that waited for a slot may have it."""
        key = batch.layer * self.experts + batch.block - 1
        device, index = self.place_of(key)
        if batch.device == device:
            self.caches_DC[device][index].finish(key)
            if self.passing_DC[device][index] == key:
                self.passing_DC[device][index] = -1
            self.grant(device, index, now)
            if (queue := self.queue_of(key)) in self.rests:
                self.rests.remove(queue)
                self.meet(queue, now)

    # Slots and transfers.

    def grant(self, device: int, index: int, now: int) -> None:
        """Give slots to the demands that wait for one, first come first served, as far as there are any."""
        asking = self.asking_DC[device][index]
        while asking and self._admit(asking[0], device, index, now):
            asking.popleft()

    def _admit(self, key: int, device: int, index: int, now: int) -> bool:
        cache = self.caches_DC[device][index]
        if key in cache.slot_of:  # a prefetch has brought it since
            return True
        if not cache.wants(key, now):
            return self._pass_through(key, device, index, now)
        admission = cache.admit(key, now)
        if admission is None:
            return False
        if (victim := admission.left) >= 0 and self.queue_of(victim) in self.met:  # a prefetched expert, not yet run
            self._ask_again(victim, self.asking_DC[device][index])
        self.ask(Transfer(device, key, admission.slot, victim, False, now))
        return True

    def _ask_again(self, victim: int, asking: deque[int]) -> None:
        """Let an expert that lost its slot before it ran wait for another: where order is fixed, at its place in it."""
        later = next((i for i, key in enumerate(asking) if key > victim), len(asking)) if self.ordered else len(asking)
        asking.insert(later, victim)

    def _pass_through(self, key: int, device: int, index: int, now: int) -> bool:
        """Give the extra slot to an expert that the policy declines, if nobody is in it."""
        if self.passing_DC[device][index] >= 0:
            return False
        self.passing_DC[device][index] = key
        cache = self.caches_DC[device][index]
        cache.let_through(key)
        cache.in_flight.add(key)
        self.ask(Transfer(device, key, cache.slots, -1, False, now))
        return True

    def ask(self, transfer: Transfer) -> None:
        """Put a transfer at the end of its link's queue."""
        self.transfers.append(transfer)
        self.links[transfer.link].waiting.append(transfer)

    def ask_ahead(self, now: int) -> None:
        """Let the prefetcher see the groups that were selected, and ask for what it proposes."""
        for group in self.entered:
            self.order.groups.append(group)
            self.prefetcher.observe(group)
            proposed = self.prefetcher.ahead(group)
            ahead = [key for key in proposed if not self._is_coming(key)]
            if self.ordered:
                self._protect_ahead(proposed)
            for key in ahead:
                self.load_ahead(key, now)
        self.entered.clear()

    def _is_coming(self, key: int) -> bool:
        device, index = self.place_of(key)
        cache = self.caches_DC[device][index]
        return key in cache.slot_of or key in cache.in_flight or key in self.asking_DC[device][index]

    def _protect_ahead(self, proposed: list[int]) -> None:
        """Keep what one proposal names, there already or not, from being replaced by the rest of it."""
        for device, index in dict.fromkeys(map(self.place_of, proposed)):
            cache = self.caches_DC[device][index]
            mine = [key for key in proposed if self.place_of(key) == (device, index) and key not in cache.protected]
            cache.protect([*cache.protected, *mine])

    def load_ahead(self, key: int, now: int) -> bool:
        """Begin to bring an expert before it is demanded; False if it finds no slot."""
        device, index = self.place_of(key)
        cache = self.caches_DC[device][index]
        admission = cache.admit(key, now, prefetch=True)
        if admission is None:
            return False
        transfer = Transfer(device, key, admission.slot, admission.left, True, now)
        if self.config.link == "free-prefetch":
            transfer.start_ns = transfer.end_ns = now
            self.transfers.append(transfer)
            cache.arrive(key)
            self.grant(device, index, now)
        else:
            self.ask(transfer)
        return True

    def begin_transfers(self, now: int) -> list[Transfer]:
        """Return the transfers that begin now, links ascending."""
        return [transfer for link in self.links if link.waiting for transfer in link.begin(now)]

    def arrived(self, transfer: Transfer, ready_D: list[deque[int]], now: int) -> None:
        """Note that a transfer is there; a queue that waited for it goes to its device's ready list."""
        self.links[transfer.link].end()
        device, index = self.place_of(transfer.key)
        cache = self.caches_DC[device][index]
        cache.arrive(transfer.key)
        queue = self.queue_of(transfer.key)
        if queue in self.parked:
            self.parked.remove(queue)
            (ready_D[device].append if self.ordered else ready_D[device].appendleft)(queue)
        self.grant(device, index, now)

    def finished(self, passes: int) -> None:
        """Note that passes have finished."""

    @property
    def pending(self) -> bool:
        """Whether a transfer is under way."""
        return any(link.busy for link in self.links)

    @property
    def counts(self) -> Counts:
        """The counts of all caches together."""
        return sum((cache.counts for caches in self.caches_DC for cache in caches), Counts())

    @property
    def summary(self) -> dict:
        """The counts of all caches together, and how many experts share one at most, for the header of the records."""
        return {**vars(self.counts), "experts": self.sharing}
