"""The functions of compiled code that Python runs: they take arrays of one record each and return a number.

Importing this declares every function of the engine, and compiles none.
"""

from __future__ import annotations

import numpy as np

from moe_replay.simulate.compiled.caches.cache import admit
from moe_replay.simulate.compiled.cluster.cluster_layout import CLUSTER
from moe_replay.simulate.compiled.cluster.cluster_lockstep import play_step
from moe_replay.simulate.compiled.cluster.linked_instant import play_queues
from moe_replay.simulate.compiled.instant import go_on
from moe_replay.simulate.compiled.jit import entry
from moe_replay.simulate.compiled.memory.cache_replay import REPLAY, replay_all
from moe_replay.simulate.compiled.memory.memory_layout import MEMORY, filling_F, key_at
from moe_replay.simulate.compiled.run_layout import RUN


@entry(RUN)
def play_resident(world: np.ndarray) -> int:
    """Play a run until it is over or needs something; return which."""
    return go_on(world[0], None, None)


@entry(RUN, MEMORY)
def play_with_memory(world: np.ndarray, memory: np.ndarray) -> int:
    """Play a run with expert memory, likewise."""
    return go_on(world[0], memory[0], None)


@entry(RUN, MEMORY)
def play_masked(world: np.ndarray, memory: np.ndarray) -> int:
    """Play a run with expert memory and masked gating, likewise."""
    return go_on(world[0], memory[0], 1)


@entry(CLUSTER)
def play_cluster_step(clusters: np.ndarray) -> int:
    """Play one step over linked devices until it has ended or needs something; return which."""
    return play_step(clusters[0])


@entry(RUN, CLUSTER)
def play_linked_queues(world: np.ndarray, clusters: np.ndarray) -> int:
    """Play a run of queues over linked devices until it is over or needs something; return which."""
    return play_queues(world[0], clusters[0])


@entry(MEMORY)
def fill(memories: np.ndarray) -> int:
    """Give experts the slots that they hold before the run, in the order of `filling_F`; return how many."""
    memory = memories[0]
    for at in range(len(filling_F(memory))):
        key = filling_F(memory)[at]
        admit(memory, key, True)
        key_at(memory, key).in_flight = 0
        key_at(memory, key).unused = 0
    return len(filling_F(memory))


@entry(REPLAY, MEMORY)
def replay_accesses(replays: np.ndarray, memories: np.ndarray) -> int:
    """Replay accesses through empty caches; return the expert that found no slot, -1 if each did."""
    replay_all(replays[0], memories[0])
    return memories[0].broken
