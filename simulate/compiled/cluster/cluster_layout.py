"""The arrays that compiled code of linked devices works on: one record for a run's cluster, and what it points at.

Letters: D devices, N nodes, M micro-batches, L layers, P slots of a layer, X places (micro-batch, layer), numbered
micro-batch * L + layer.
"""

from __future__ import annotations

import numpy as np

from moe_replay.simulate.compiled.pointers import pointers_field
from moe_replay.simulate.compiled.run_layout import I2, I4, I8

# What a call returns: the step has ended, or what it needs before it can go on; or the clock would pass 64 bits.
STEP_ENDED, STEP_NEEDS_ROOM, STEP_NEEDS_COST, STEP_TOO_LATE = range(4)
COUNTING, BEGINNING, TAKING = range(3)  # where it goes on

# A device's work: its dense block, its active slots, its shared experts; an item's number is place * 4 + which, where
# places are those of dense blocks: micro-batch * (L + 1) + layer.
DENSE, SLOTS, SHARED = range(3)

# What happens at an instant, in this order; an event's number is (kind, device or port, which in its order).
COMPLETED, DELIVERED, HEAD, FREE = range(4)
WHICH_BITS, PORT_BITS = 40, 20

MESSAGE = np.dtype([
    ("queued_ns", "i8"), ("start_ns", "i8"), ("end_ns", "i8"), ("bytes", "i8"), ("wire_ns", "i8"), ("latency_ns", "i8"),
    ("tokens", "i4"), ("home", "i4"), ("port_out", "i4"), ("port_in", "i4"), ("next", "i4"),
    ("micro_batch", "i2"), ("layer", "i2"), ("source", "i2"), ("destination", "i2"), ("kind", "i2"),
], align=True)  # fmt: skip

LINKED_BATCH = np.dtype([
    ("ready_ns", "i8"), ("start_ns", "i8"), ("end_ns", "i8"), ("block", "i4"), ("size", "i4"), ("tokens", "i4"),
    ("device", "i2"), ("layer", "i2"), ("micro_batch", "i2"), ("crc", "u2"),
], align=True)  # fmt: skip

# A device's work is in a list that never wraps: `done` of `listed` items are finished or under way; of the item under
# way `slot` is the next to run. A port's two queues are chains of messages.
WORKER = np.dtype([
    ("listed", "i8"), ("done", "i8"), ("item", "i8"), ("slot", "i8"), ("busy", "i8"), ("ready_ns", "i8"),
], align=True)  # fmt: skip
PORT = np.dtype([
    ("first_out", "i8"), ("last_out", "i8"), ("first_in", "i8"), ("last_in", "i8"), ("busy_out", "i8"),
    ("busy_in", "i8"),
], align=True)  # fmt: skip
WORK = np.dtype([("item", "i8"), ("ready_ns", "i8")], align=True)
EVENT = np.dtype([("when", "i8"), ("number", "i8"), ("what", "i8")], align=True)

# Under queues: what a pass has at home on one device; `first` of its tokens in `token_N`, `left` of its selections.
PART = np.dtype([
    ("first", "i8"), ("tokens", "i4"), ("home", "i4"), ("layer", "i4"), ("left", "i4"),
], align=True)  # fmt: skip

# `slots_LER` are the slots of every expert, ascending, -1 behind the last. `turns_VP` counts the selections that fell
# to a set of replicas: by how far the set reaches (device, node, all) and its first slot. `home_T`, `experts_TLK` are
# the workload's, `rows_P` its passes' first rows, `tokens_P`, `offset_P` likewise; `step_P` are the step's. Per step:
# `tokens_MD`, `size_MD`, `crc_MD`, `last_MD` of dense blocks (`last_MD`: the pass counted last), `shared_crc_MD` of
# shared experts, `began_MD` when the first of both began; `count_XP`, `crc_XP`, `began_XP` of slots, `copies_XDD` and
# `node_copies_XDN` what (home, device or node) exchange; `awaited_XD`, `results_XD`, `parts_XDN` what is still to come.
# `routed_TLK` is the slot of every selection of the step, kept where passes have no dense block that tells when they
# began. The last lines are of queues alone: the parts of all passes, from `first_part_P` on, homes ascending; `part_N`
# of every token, `token_N` part by part; by node when a member `entered_A` a queue and which `queue_A` a selection is
# for; `carried_A` is the first node that a message brings; `first_D`, `last_D`, `copies_D` sort what one block gives
# rise to by the device that it is for.
ARRAYS = {
    "experts_TLK": (I2, 3), "home_T": (I4, 1), "rows_P": (I8, 1), "tokens_P": (I8, 1), "offset_P": (I8, 1),
    "start_P": (I8, 1), "step_P": (I8, 1), "slots_LER": (I4, 3), "turns_VP": (I8, 2), "marked_D": (I8, 1),
    "marked_N": (I8, 1), "of_home_D": (I8, 1), "tokens_MD": (I8, 2), "size_MD": (I8, 2), "crc_MD": (I8, 2),
    "last_MD": (I8, 2), "shared_crc_MD": (I8, 2), "began_MD": (I8, 2),
    "count_XP": (I4, 2), "crc_XP": (I8, 2), "began_XP": (I8, 2),
    "copies_XDD": (I4, 3), "node_copies_XDN": (I4, 3), "awaited_XD": (I4, 2), "results_XD": (I4, 2),
    "parts_XDN": (I4, 3), "routed_TLK": (I4, 3), "workers_D": (WORKER, 1), "ports": (PORT, 1), "work_DW": (WORK, 2),
    "events_A": (EVENT, 1), "due_A": (EVENT, 1), "messages_A": (MESSAGE, 1), "batches_A": (LINKED_BATCH, 1),
    "curve_LB": (I8, 2), "cost_CN": (I8, 2), "crc_table": (I8, 2),
    "parts_R": (PART, 1), "first_part_P": (I8, 1), "part_N": (I4, 1), "token_N": (I4, 1), "entered_A": (I8, 1),
    "queue_A": (I4, 1), "carried_A": (I4, 1), "first_D": (I8, 1), "last_D": (I8, 1), "copies_D": (I4, 1),
}  # fmt: skip

CLUSTER = np.dtype([
    # what runs
    ("devices", "i8"), ("nodes", "i8"), ("in_node", "i8"), ("nics", "i8"), ("micro_batches", "i8"), ("layers", "i8"),
    ("slots", "i8"), ("per_device", "i8"), ("k", "i8"), ("dense", "i8"), ("relays", "i8"), ("per_selection", "i8"),
    ("nearest", "i8"), ("shared", "i8"), ("dispatch_bytes", "i8"), ("combine_bytes", "i8"),
    ("inside_ns", "i8"), ("network_ns", "i8"), ("inside_per_s", "f8"), ("network_per_s", "f8"),
    # how far it is
    ("now", "i8"), ("round", "i8"), ("where", "i8"), ("step", "i8"), ("unfinished", "i8"), ("events", "i8"),
    ("numbered", "i8"), ("messages", "i8"), ("batches", "i8"), ("need_messages", "i8"), ("need_batches", "i8"),
    # whether, since devices were last looked through, one has become free or has more to do
    ("may_start", "i8"),
    # what it asks for, and the answer where it counts for one batch only, else -1
    ("cost_layer", "i8"), ("cost_block", "i8"), ("cost_tokens", "i8"), ("given_ns", "i8"),
    # queues: events of the present round, -1 if they are not looked up yet; messages that are there
    ("due", "i8"), ("delivered", "i8"),
    pointers_field(ARRAYS),
])  # fmt: skip

Cluster = np.void  # one record of CLUSTER
