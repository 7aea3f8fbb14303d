"""The schedulers behind their names, which configurations know."""

from moe_replay.simulate.config.run_config import SCHEDULERS
from moe_replay.simulate.policies.lockstep import Lockstep
from moe_replay.simulate.policies.queueing import QueueScheduler
from moe_replay.simulate.policies.scheduler import Scheduler

SCHEDULERS.fill(Scheduler, {"queues": QueueScheduler, "lockstep": Lockstep}, methods=("join_ready",))
