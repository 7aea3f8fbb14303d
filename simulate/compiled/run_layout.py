"""The arrays that the compiled engine works on: one record per pass, queue and device, and one for the run itself.

Numbers: a pass p and a token n as in `simulate.config.workload`; a queue is layer * (E + 1) + block, as in
`simulate.policies.scheduler`; -1 is nobody. Lists are chains of numbers: `next` of each, -1 at the end.
"""

from __future__ import annotations

import numpy as np

from moe_replay.simulate.compiled.arrays import ArrayLayout
from moe_replay.simulate.compiled.pointers import pointers_field

# What a call of the compiled loop returns: finished, or what it needs before it can go on where it stopped.
DONE, NEED_BATCHES, NEED_COST, NEED_ROOM, BROKEN = range(5)
# Where it stopped: before the next instant, a round, the launch of a batch, the exchanges or a group's prefetches.
NEXT_INSTANT, ROUND, LAUNCH, EXCHANGE, PREFETCH = range(5)

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

I1, I2, I4, I8 = np.dtype("i1"), np.dtype("i2"), np.dtype("i4"), np.dtype("i8")
# What a run's record points at; each name is the function of compiled code that gives the array.
ARRAYS = ArrayLayout()
passes_P, pass_at = ARRAYS.records("passes_P", PASS)
queues_Q, queue_at = ARRAYS.records("queues_Q", QUEUE)
devices_D, device_at = ARRAYS.records("devices_D", DEVICE)
nodes_N, node_at = ARRAYS.records("nodes_N", NODE)  # the members of queues and of batches, a queue's in FIFO order
batches_A, batch_at = ARRAYS.records("batches_A", BATCH)
experts_TLK = ARRAYS.array("experts_TLK", I2, 3)  # the workload's
pass_N = ARRAYS.array("pass_N", I4)  # the workload's: the pass of every token
routed_NK = ARRAYS.array("routed_NK", I2, 2)  # with masked gating, what a token runs at present
finished_P = ARRAYS.array("finished_P", I8)  # of the present round, as are the next three
emptied_P = ARRAYS.array("emptied_P", I8)
arriving_P = ARRAYS.array("arriving_P", I8)
joining_Q = ARRAYS.array("joining_Q", I8)
timed_Q = ARRAYS.array("timed_Q", I8)  # the heap of queues whose head has a time-out
entered_Q = ARRAYS.array("entered_Q", I8)  # when the heads of queues began to wait; NEVER: nobody does
soonest_R = ARRAYS.array("soonest_R", I8)  # the soonest of these in each stretch of STRETCH queues
stale_R = ARRAYS.array("stale_R", I1)  # 1: that is not known
queued_P = ARRAYS.array("queued_P", I8)  # lockstep's waiting passes
step_P = ARRAYS.array("step_P", I8)  # and its step
times_A = ARRAYS.array("times_A", I8)  # the arrivals due by themselves
planned_A = ARRAYS.array("planned_A", I8)  # and which passes they are
held_G = ARRAYS.array("held_G", I8)  # the first passes that a closed loop holds back
steps_S = ARRAYS.array("steps_S", I8)  # how many passes of a step have not finished
start_S = ARRAYS.array("start_S", I8)  # where a step begins in
of_step_P = ARRAYS.array("of_step_P", I8)  # the passes step by step
cost_CN = ARRAYS.array("cost_CN", I8, 2)  # service time by curve and tokens, -1 where nobody has asked yet
crc_table = ARRAYS.array("crc_table", I8, 2)  # as `run_build.crc_tables` makes it

RUN = np.dtype([
    # what runs
    ("scheduler", "i8"), ("size", "i8"), ("dense_size", "i8"), ("timeout_ns", "i8"), ("max_step", "i8"),
    ("layers", "i8"), ("experts", "i8"), ("width", "i8"), ("k", "i8"), ("devices", "i8"), ("queues", "i8"),
    ("dense", "i8"), ("filled_rows", "i8"), ("arrivals", "i8"), ("host_factor", "f8"),
    # how far it is
    ("now", "i8"), ("where", "i8"), ("running", "i8"), ("present", "i8"), ("finished", "i8"), ("emptied", "i8"),
    ("arriving", "i8"), ("due", "i8"), ("held_back", "i8"), ("joining", "i8"), ("timed", "i8"),
    ("launched", "i8"), ("batches", "i8"), ("free_node", "i8"), ("fresh_node", "i8"),
    ("stage", "i8"), ("unfinished", "i8"), ("step", "i8"), ("first_queued", "i8"), ("last_queued", "i8"),
    # what it asks for when it stops with NEED_COST, and the answer where it counts for one batch only, else -1
    ("cost_queue", "i8"), ("cost_tokens", "i8"), ("given_ns", "i8"),
    pointers_field(ARRAYS),
])  # fmt: skip

World = np.void  # one record of RUN
