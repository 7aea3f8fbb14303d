"""Arrival processes: which passes arrive by themselves, and which are released when others finish.

Under every process the passes of one sequence run one after another. A released pass arrives at the instant of its
release, in a further round of that instant.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from moe_replay.simulate.config.run_config import ARRIVALS, RunConfig
from moe_replay.traces.command_line.number_limits import LAST_NS
from moe_replay.traces.errors import InputError
from moe_replay.traces.request_arrivals import at_speed

if TYPE_CHECKING:
    from moe_replay.simulate.config.workload import Workload


class Arrivals:
    """Arrivals at given times of sequences: `start_ns_G` ascending. The next pass of a sequence follows the last.

    `arrival_ns_A` and `planned_A` are the arrivals that are due by themselves, int64; `next_ns` is the time of the next
    one of them, None when there is none left. `follower_P` is the next pass of the same sequence, -1 after its last.
    """

    def __init__(self, workload: Workload, start_ns_G: np.ndarray) -> None:
        self._plan(start_ns_G, workload.first_pass_G[: len(start_ns_G)])
        # The passes of a sequence are neighbours in a workload, so that the next one has the next number.
        last_of_group = np.append(workload.first_pass_G[1:], workload.passes) - 1
        self.follower_P = np.arange(1, workload.passes + 1)
        self.follower_P[last_of_group] = -1

    def _plan(self, arrival_ns_A: np.ndarray, planned_A: np.ndarray) -> None:
        # Refused here, because a user's own process may hand in anything, and time must not run backwards.
        ns = np.asarray(arrival_ns_A)
        if ns.dtype.kind not in "iu" or len(ns) != len(planned_A) or (np.diff(ns, prepend=0) < 0).any():
            raise InputError(
                f"arrival times are {len(ns)} of {ns.dtype}, allowed: whole ns >= 0, ascending, one for each of at most"
                f" {len(planned_A)} that arrive by themselves"
            )
        self.arrival_ns_A, self.planned_A, self.position = arrival_ns_A, planned_A, 0
        self.next_ns = int(arrival_ns_A[0]) if len(arrival_ns_A) else None

    # As lists, which are faster to read one by one; the compiled engine takes the arrays.

    @cached_property
    def times_ns(self) -> list[int]:
        """The times of `arrival_ns_A`."""
        return self.arrival_ns_A.tolist()

    @cached_property
    def planned(self) -> list[int]:
        """The passes of `planned_A`."""
        return self.planned_A.tolist()

    @cached_property
    def following_P(self) -> list[int]:
        """The passes of `follower_P`."""
        return self.follower_P.tolist()

    def due(self, now: int) -> list[int]:
        """Return the passes that arrive by themselves up to `now` and were not returned before, in order."""
        start, end, times_ns = self.position, self.position, self.times_ns
        while end < len(times_ns) and times_ns[end] <= now:
            end += 1
        self.position = end
        self.next_ns = times_ns[end] if end < len(times_ns) else None
        return self.planned[start:end]

    def after(self, finished: list[int]) -> list[int]:
        """Return the passes that the end of these passes releases, in the order of the workload."""
        # In the order of the workload, not of ends: which of two batches of one instant ended first must not matter.
        return sorted(follower for p in finished if (follower := self.released_by(p)) >= 0)

    def released_by(self, finished_pass: int) -> int:
        """Return the pass that one finished pass releases, -1 if none."""
        return self.following_P[finished_pass]


class Closed(Arrivals):
    """A closed loop: `in_flight` sequences at time 0, and one more whenever a sequence is done."""

    def __init__(self, workload: Workload, in_flight: int) -> None:
        first_pass_G = workload.first_pass_G.tolist()
        super().__init__(workload, np.zeros(min(in_flight, len(first_pass_G)), np.int64))
        # An iterator, since whoever ends first lets the next one in, whichever that is.
        self.held_back = iter(first_pass_G[in_flight:])

    def released_by(self, finished_pass: int) -> int:
        """Return the next pass of the same sequence, or after its last the first of the next sequence."""
        follower = self.following_P[finished_pass]
        return follower if follower >= 0 else next(self.held_back, -1)


class Steps(Arrivals):
    """The trace's own steps: step s+1 arrives when step s is done; a cycled trace continues with a new round."""

    def __init__(self, workload: Workload) -> None:
        # A cycled trace repeats its step numbers: round and step together tell one engine step from another.
        key_P = np.stack([workload.round_P, workload.step_P])
        steps, step_of_P = np.unique(key_P, axis=1, return_inverse=True)
        self.step_of_P = step_of_P.ravel().tolist()
        self.passes_of_step: list[list[int]] = [[] for _ in range(steps.shape[1])]
        for p, step in enumerate(self.step_of_P):
            self.passes_of_step[step].append(p)
        # A step is over with its last pass; passes of a step end at different times in queues.
        self.unfinished = [len(passes) for passes in self.passes_of_step]
        first = np.array(self.passes_of_step[0], np.int64)
        self._plan(np.zeros(len(first), np.int64), first)

    def after(self, finished: list[int]) -> list[int]:
        """Return the passes of the next step once the last pass of a step has finished."""
        released = []
        for p in finished:
            step = self.step_of_P[p]
            self.unfinished[step] -= 1
            if not self.unfinished[step] and step + 1 < len(self.passes_of_step):
                released = self.passes_of_step[step + 1]
        return released


def new_arrivals(workload: Workload, config: RunConfig) -> Arrivals:
    """Return the arrivals of a run that begins; InputError where a user's own process gives none."""
    found = ARRIVALS[config.arrivals](workload, config)
    if not isinstance(found, Arrivals):
        raise InputError(f"arrivals {config.arrivals!r} give {type(found).__name__}, allowed: an Arrivals")
    return found


def poisson_times_ns(count: int, rate_per_s: float, rng: np.random.Generator) -> np.ndarray:
    """Return `count` arrival times in whole ns: unit-rate gaps of the generator, scaled by the rate.

    InputError for a rate so low that the clock would pass 64 bits.
    """
    gaps_ns = np.rint(rng.standard_exponential(count) * (1e9 / rate_per_s))
    # Compared as floats: beyond 64 bits a conversion would wrap without a word.
    fits = bool((gaps_ns < LAST_NS).all())
    times_ns = gaps_ns.astype(np.int64).cumsum() if fits else gaps_ns
    if not fits or (np.diff(times_ns, prepend=0) < 0).any():  # a sum beyond 64 bits comes out below the one before
        raise InputError(f"rate_per_s is {rate_per_s!r}: {count:,} arrivals would take more than {LAST_NS:,} ns")
    return times_ns


def all_at_once(workload: Workload, config: RunConfig) -> Arrivals:
    """Every sequence arrives at time 0."""
    return Arrivals(workload, np.zeros(len(workload.first_pass_G), np.int64))


def closed(workload: Workload, config: RunConfig) -> Arrivals:
    """`config.in_flight` sequences are in flight at any time, until none is left to follow."""
    return Closed(workload, config.in_flight)


def poisson(workload: Workload, config: RunConfig) -> Arrivals:
    """Sequences arrive in a Poisson process of `config.rate_per_s`, drawn by the seed's stream `arrivals`."""
    count = len(workload.first_pass_G)
    return Arrivals(workload, poisson_times_ns(count, config.rate_per_s, config.generator("arrivals")))


def steps(workload: Workload, config: RunConfig) -> Arrivals:
    """The steps in which the trace was recorded, one after another."""
    return Steps(workload)


def recorded(workload: Workload, config: RunConfig) -> Arrivals:
    """Every sequence arrives when the trace says, `config.speed` times as fast.

    InputError where the trace says nothing, or times are not in its order.
    """
    arrival_ns_G = workload.arrival_ns_G
    if arrival_ns_G is None:
        raise InputError("arrivals 'recorded': the trace holds no arrival_ns, allowed: a trace that does")
    # Sequences are served in the trace's order: to sort them by arrival would serve another workload.
    early = np.flatnonzero(np.diff(arrival_ns_G) < 0)
    if len(early):
        first = workload.sequence_P[workload.first_pass_G][early[0] + 1]
        raise InputError(f"arrivals 'recorded': sequence {first} arrives before one in front of it in the trace")
    return Arrivals(workload, at_speed(arrival_ns_G, config.speed))


ARRIVALS.fill(
    None,
    {"all": all_at_once, "closed": closed, "poisson": poisson, "recorded": recorded, "steps": steps},
    arguments=("workload", "config"),
)  # fmt: skip
