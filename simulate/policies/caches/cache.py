"""The base class of all cache policies: slots, transfers in flight, protected members, and every count.

A policy keeps its own order in `miss`, `insert`, `touch` and `remove` and names a `victim`. It counts nothing, and it
cannot evict: what runs, is in flight or is protected is not among its candidates.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar, NamedTuple

from moe_replay.simulate.policies.memory.knowledge import Knowledge


class Access(IntEnum):
    """What an access met. Only a MISS needs a transfer; a DELAYED hit waits for one that is under way."""

    MISS = 0
    HIT = 1
    DELAYED = 2


class Admission(NamedTuple):
    """A slot that an expert has taken, and the expert that left it (None if the slot was free)."""

    slot: int
    victim: int | None

    @property
    def left(self) -> int:
        """The victim, -1 where there is none."""
        return -1 if self.victim is None else self.victim


@dataclass
class Counts:
    """What happened to one cache: accesses = hits + delayed hits + misses.

    A miss that is loaded crosses the link: into a slot (`loads`), or past the slots where the policy declines the
    expert (`declined`).
    """

    accesses: int = 0
    hits: int = 0
    delayed_hits: int = 0
    misses: int = 0
    loads: int = 0
    declined: int = 0
    prefetches: int = 0
    prefetches_used: int = 0
    prefetches_dropped: int = 0
    evictions: int = 0

    @property
    def transfers(self) -> int:
        """How many experts crossed the link: loads, what the policy declined, and prefetches."""
        return self.loads + self.declined + self.prefetches

    def __add__(self, other: Counts) -> Counts:
        return Counts(*(mine + its for mine, its in zip(vars(self).values(), vars(other).values(), strict=True)))


class Cache:
    """Expert slots and who holds them. `keys` are the experts that the cache serves.

    An expert holds a slot (`slot_of`) from its admission on; until its transfer has arrived it is in flight as well.
    `promised` are those that were demanded and wait for their turn to run.
    `protected` are the members of the announced group that have not run yet, in the order in which they run;
    `announced` is that group as a whole, None where groups are not announced (flat mode).
    """

    needs: ClassVar[tuple[str, ...]] = ()  # fields of Knowledge without which the policy cannot decide
    bypasses: ClassVar[bool] = False  # True: it declines experts, which then pass through one slot beside its own

    def __init__(self, slots: int, keys: range, knowledge: Knowledge) -> None:
        self.slots, self.keys, self.knowledge = slots, keys, knowledge
        self.counts = Counts()
        self.slot_of: dict[int, int] = {}
        self.free = list(reversed(range(slots)))
        self.in_flight: set[int] = set()
        self.running: set[int] = set()
        self.promised: set[int] = set()
        self.passing: set[int] = set()  # declined, and let through until they have run
        self.protected: list[int] = []
        self.announced: frozenset[int] | None = None
        self.not_yet_used: set[int] = set()  # prefetched, and not accessed since

    # What a policy decides.

    def wants(self, expert: int, now: int) -> bool:
        """Say whether the policy would give this expert, which holds no slot, one at all."""
        return True

    def miss(self, expert: int, now: int) -> None:
        """Note the access of an expert that holds no slot."""

    def insert(self, expert: int, now: int) -> None:
        """Note that an expert, which held no slot, has been given one: for a demand, or ahead of its use."""

    def touch(self, expert: int, now: int) -> None:
        """Note the access of an expert that holds a slot."""

    def remove(self, expert: int) -> None:
        """Forget an expert that leaves its slot."""

    def victim(self, now: int, kept: Collection[int]) -> int:
        """Return an expert that holds a slot and is not in `kept`; there is one. It will be evicted."""
        raise NotImplementedError

    # What drives a cache.

    @property
    def fixed(self) -> set[int]:
        """The experts that never leave as things are: they run, are on their way, or wait for their turn to run."""
        return self.in_flight | self.running | self.promised

    @property
    def kept(self) -> set[int]:
        """The experts of which no policy may name one as its victim."""
        return self.fixed.union(self.protected)

    def is_resident(self, expert: int) -> bool:
        """Say whether the weights of an expert are here and whole."""
        return expert in self.slot_of and expert not in self.in_flight

    def protect(self, members: Iterable[int]) -> None:
        """Announce the group that runs next, in the order in which its members run. It replaces the group before."""
        self.protected = list(members)
        self.announced = frozenset(self.protected)

    def start(self, expert: int) -> None:
        """Let an expert run: it is not evicted until `finish`. It is resident, or was let through."""
        if not self.is_resident(expert) and expert not in self.passing:
            raise RuntimeError(f"expert {expert} cannot run: its weights are not in a slot")
        self.leave_turn(expert)
        self.running.add(expert)

    def finish(self, expert: int) -> None:
        """Note that an expert has run here."""
        self.running.discard(expert)
        self.passing.discard(expert)

    def leave_turn(self, expert: int) -> None:
        """Keep an expert for its turn no longer: it runs, here or elsewhere."""
        self.promised.discard(expert)
        if expert in self.protected:
            self.protected.remove(expert)

    def access(self, expert: int, now: int) -> Access:
        """Count one demand for an expert. A miss gives it no slot: that is `admit`'s, now or when there is room."""
        counts = self.counts
        counts.accesses += 1
        if expert not in self.slot_of:
            counts.misses += 1
            self.miss(expert, now)
            return Access.MISS
        if expert in self.not_yet_used:
            self.not_yet_used.remove(expert)
            counts.prefetches_used += 1
        self.touch(expert, now)
        if expert in self.in_flight:
            counts.delayed_hits += 1
            return Access.DELAYED
        counts.hits += 1
        return Access.HIT

    def admit(self, expert: int, now: int, prefetch: bool = False) -> Admission | None:
        """Give an expert a slot and begin its transfer; its victim has left when this returns.

        None if the policy does not want it or nobody may leave: a prefetch is then dropped, a demand waits and asks
        again after an `arrive` or a `finish`. A prefetch never takes the slot of a protected member; a demand takes
        one only if nothing else may leave, that of the member that runs last, and only if it runs after `expert`.
        """
        if expert in self.slot_of:
            raise RuntimeError(f"expert {expert} holds a slot already")
        if not self.wants(expert, now) or (not self.free and (leaving := self._choose(expert, now, prefetch)) is None):
            self.counts.prefetches_dropped += prefetch
            return None
        victim = None if self.free else leaving
        if victim is not None:
            self._evict(victim)
        slot = self.slot_of[expert] = self.free.pop()
        self.in_flight.add(expert)
        if prefetch:
            self.counts.prefetches += 1
            self.not_yet_used.add(expert)
        else:
            self.counts.loads += 1
        self.insert(expert, now)
        return Admission(slot, victim)

    def arrive(self, expert: int) -> None:
        """Note that the transfer of an expert is complete."""
        self.in_flight.remove(expert)

    def load(self, expert: int, now: int, prefetch: bool = False) -> bool:
        """Admit an expert whose transfer takes no time; return whether it has a slot."""
        if self.admit(expert, now, prefetch) is None:
            return False
        self.arrive(expert)
        return True

    def let_through(self, expert: int) -> None:
        """Let an expert that the policy declines cross the link, run in the extra slot and be gone."""
        self.passing.add(expert)
        self.counts.declined += 1

    def demand(self, expert: int, now: int) -> None:
        """Access an expert whose transfer takes no time: it has a slot then, or was let through.

        RuntimeError if the policy wants it and nobody may leave.
        """
        if self.access(expert, now) or self.load(expert, now):
            return
        if self.wants(expert, now):
            raise RuntimeError(f"expert {expert} finds no slot among {self.slots}")
        self.let_through(expert)

    def _choose(self, expert: int, now: int, prefetch: bool) -> int | None:
        fixed, kept = self.fixed, self.kept
        if any(held not in kept for held in self.slot_of):
            victim = self.victim(now, kept)
            if victim not in self.slot_of or victim in kept:
                raise RuntimeError(f"{type(self).__name__} names {victim}, which may not leave")
            return victim
        if prefetch:
            return None
        order = self.protected
        later = order[order.index(expert) + 1 :] if expert in order else order
        return next((last for last in reversed(later) if last in self.slot_of and last not in fixed), None)

    def _evict(self, victim: int) -> None:
        self.remove(victim)
        self.free.append(self.slot_of.pop(victim))
        self.not_yet_used.discard(victim)
        self.counts.evictions += 1
