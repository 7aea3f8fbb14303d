"""The arrays that the compiled engine works on: one record per pass, queue and device, and one for the run itself.

Numbers: a pass p and a token n as in `simulate.config.workload`; a queue is layer * (E + 1) + block, as in
`simulate.policies.scheduler`; -1 stands for nobody. Lists are chains of numbers: `next` of each, -1 at the end.
"""

from __future__ import annotations

import numpy as np

from moe_replay.simulate.compiled.pointers import pointers_field

# What a call of the compiled loop returns: finished, or what it needs before it can go on where it stopped.
DONE, NEED_BATCHES, NEED_COST, NEED_TRANSFERS, BROKEN = range(5)
# Where it stopped: before the next instant, a round, the launch of a batch, the exchanges or a group's prefetches.
NEXT_INSTANT, ROUND, LAUNCH, EXCHANGE, PREFETCH = range(5)
QUEUES, LOCKSTEP = range(2)
AT_TIMES, CLOSED, STEPS = range(3)  # arrivals

NEVER = np.iinfo(np.int64).max
STRETCH_BITS = 6
STRETCH = 1 << STRETCH_BITS  # so many queues are looked through together for the one that has waited longest

# Passes, queues and members are looked up all over: a pass, as a queue, fills one line of a processor's cache, which
# numbers of 32 bits do for. `releases` is what the end of a pass lets arrive: a pass, or under `steps` those
# that follow its step, which is given.
PASS = np.dtype([
    ("entered_ns", "i8"), ("start_ns", "i8"), ("arrival_ns", "i8"), ("end_ns", "i8"),
    ("first_row", "i4"), ("offset", "i4"), ("tokens", "i4"), ("stage", "i4"), ("left", "i4"), ("releases", "i4"),
    ("sequence", "i4"),
], align=True)  # fmt: skip
MOST_MEMBERS = np.iinfo(np.int32).max  # `run_build.check_counts` refuses what these numbers do not count

QUEUE = np.dtype([
    ("ready_ns", "i8"), ("due_ns", "i8"),
    ("head", "i4"), ("tail", "i4"), ("length", "i4"), ("device", "i4"), ("next", "i4"), ("timed_at", "i4"),
    ("curve", "i4"), ("key", "i4"), ("listed", "i4"), ("forced", "i4"), ("met", "i4"), ("parked", "i4"),
], align=True)  # fmt: skip

DEVICE = np.dtype([
    ("first_ready", "i8"), ("last_ready", "i8"), ("free", "i8"), ("done", "i8"), ("queue", "i8"), ("head", "i8"),
    ("last", "i8"), ("size", "i8"), ("start_ns", "i8"), ("end_ns", "i8"),
], align=True)  # fmt: skip

NODE = np.dtype([("member", "i4"), ("next", "i4")], align=True)

BATCH = np.dtype([
    ("queue", "i4"), ("size", "i4"), ("tokens", "i4"), ("device", "i2"), ("crc", "u2"), ("forced", "i1"), ("hit", "i1"),
    ("ready_ns", "i8"), ("start_ns", "i8"), ("end_ns", "i8"),
], align=True)  # fmt: skip

# What a run's record points at: element type and number of dimensions. `nodes_N` hold the members of queues and of
# batches, a queue's in FIFO order. `experts_TLK` and `pass_N` are the workload's; with masked gating `routed_NK`
# holds what a token runs at present. `finished_P`, `emptied_P`, `arriving_P` and `joining_Q` are lists of the present
# round, `timed_Q` the heap of queues whose head has a time-out, `entered_Q` when the heads of queues began to wait
# (NEVER: nobody does), `soonest_R` the soonest of these in each stretch of STRETCH queues, which is not known where
# `stale_R` says so, `queued_P` and `step_P` lockstep's waiting passes and its step. `times_A` and `planned_A` are
# the arrivals due by themselves, `held_G` the first passes that a closed loop holds back; `steps_S` counts the
# unfinished passes of every step, which `of_step_P` lists from `start_S` on. `cost_CN` is the service time by curve
# and tokens, -1 where nobody has asked yet; `crc_table` as `run_build.crc_tables` makes it.
I1, I2, I4, I8 = np.dtype("i1"), np.dtype("i2"), np.dtype("i4"), np.dtype("i8")
ARRAYS = {
    "passes_P": (PASS, 1), "queues_Q": (QUEUE, 1), "devices_D": (DEVICE, 1), "nodes_N": (NODE, 1),
    "batches_A": (BATCH, 1), "experts_TLK": (I2, 3), "pass_N": (I4, 1), "routed_NK": (I2, 2), "finished_P": (I8, 1),
    "emptied_P": (I8, 1), "arriving_P": (I8, 1), "joining_Q": (I8, 1), "timed_Q": (I8, 1), "entered_Q": (I8, 1),
    "soonest_R": (I8, 1), "stale_R": (I1, 1), "queued_P": (I8, 1), "step_P": (I8, 1), "times_A": (I8, 1),
    "planned_A": (I8, 1), "held_G": (I8, 1), "steps_S": (I8, 1), "start_S": (I8, 1), "of_step_P": (I8, 1),
    "cost_CN": (I8, 2), "crc_table": (I8, 2),
}  # fmt: skip

RUN = np.dtype([
    # what runs
    ("scheduler", "i8"), ("size", "i8"), ("dense_size", "i8"), ("timeout_ns", "i8"), ("max_step", "i8"),
    ("layers", "i8"), ("experts", "i8"), ("width", "i8"), ("k", "i8"), ("devices", "i8"), ("queues", "i8"),
    ("dense", "i8"), ("filled_rows", "i8"), ("arrivals", "i8"), ("host_factor", "f8"),
    # where it stands
    ("now", "i8"), ("where", "i8"), ("running", "i8"), ("present", "i8"), ("finished", "i8"), ("emptied", "i8"),
    ("arriving", "i8"), ("due", "i8"), ("held_back", "i8"), ("joining", "i8"), ("timed", "i8"),
    ("launched", "i8"), ("batches", "i8"), ("free_node", "i8"), ("fresh_node", "i8"),
    ("stage", "i8"), ("unfinished", "i8"), ("step", "i8"), ("first_queued", "i8"), ("last_queued", "i8"),
    # what it asks for when it stops with NEED_COST, and the answer where it counts for one batch only, else -1
    ("cost_queue", "i8"), ("cost_tokens", "i8"), ("given_ns", "i8"),
    pointers_field(ARRAYS),
])  # fmt: skip

World = np.void  # one record of RUN
