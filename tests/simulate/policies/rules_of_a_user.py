"""Rules of a user's own: copies of shipped ones, which must answer as these do, and others, which must not."""

import numpy as np

from moe_replay.simulate.policies.arrivals import Arrivals, all_at_once
from moe_replay.simulate.policies.caches.belady import Belady, BeladyBypass
from moe_replay.simulate.policies.caches.cache import Cache
from moe_replay.simulate.policies.caches.lru import LRU
from moe_replay.simulate.policies.prefetchers.oracle import Oracle
from moe_replay.simulate.policies.prefetchers.prefetcher import Prefetcher
from moe_replay.simulate.policies.prefetchers.previous_token import PreviousToken
from moe_replay.simulate.policies.queueing import QueueScheduler


class MRU(LRU):
    """Evict the expert used last."""

    def victim(self, now, kept):
        return next(expert for expert in reversed(self.order) if expert not in kept)


class Same(LRU):
    """LRU."""


class SameOptimum(Belady):
    """The optimum."""


class SameDeclining(BeladyBypass):
    """The optimum that may decline."""


class SameOracle(Oracle):
    """The oracle."""


class SameAhead(PreviousToken):
    """What the token before selected."""


class SameQueues(QueueScheduler):
    """Queues."""


class Idle(Cache):
    """Decides nothing."""


class Beyond(Prefetcher):
    """Propose an expert that is not there."""

    def propose(self, group):
        return [99]


def same_time(workload, config):
    return all_at_once(workload, config)


def paced(workload, config):
    return Arrivals(workload, 1000 * (config.in_flight or 1) * np.arange(len(workload.first_pass_G)))


def a_list(workload, config):
    return [0] * len(workload.first_pass_G)


def halves(workload, config):
    return Arrivals(workload, 0.5 * np.arange(len(workload.first_pass_G)))


def backwards(workload, config):
    return Arrivals(workload, -np.arange(len(workload.first_pass_G)))


def too_many(workload, config):
    return Arrivals(workload, np.arange(len(workload.first_pass_G) + 1))


def half_of_them(workload, config):
    return Arrivals(workload, np.arange(len(workload.first_pass_G) // 2))


def reverse(layers, experts, devices):
    device_LB = np.zeros((layers + 1, experts + 1), int)
    device_LB[:, 1:] = np.arange(experts)[::-1] * devices // experts
    return device_LB


def elsewhere(layers, experts, devices):
    return np.full((layers + 1, experts + 1), devices)


def flat(layers, experts, devices):
    return np.zeros(experts, int)


def crowded(layers, experts, devices):
    return np.zeros((layers + 1, experts + 1), int)


NUMBER = 7
