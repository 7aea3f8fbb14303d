"""The arrays of expert memory: one record per expert (key), cache, link and transfer, and one for the memory itself.

A key is layer * E + expert. Caches are numbered over the devices: device * caches of a device + index. Lists of keys
are chains of numbers; every key belongs to one cache, so that its links are in its own record.
"""

from __future__ import annotations

import numpy as np

from moe_replay.simulate.compiled.arrays import ArrayLayout
from moe_replay.simulate.compiled.pointers import pointers_field
from moe_replay.simulate.policies.caches.cache import Access

NOT_MET = -1
MISS, HIT, DELAYED = int(Access.MISS), int(Access.HIT), int(Access.DELAYED)
ASIDE, REST = 1, 2  # a queue that is parked until its expert is there; one that is accessed behind the batch that runs
STEP = -1  # all passes of a lockstep step, where a pass is expected
SMALL, MAIN = 1, 2  # queues of S3-FIFO
NO_USE = 1 << 62  # the position of a use that does not come

KEY = np.dtype([
    ("cache", "i4"), ("slot", "i4"), ("queue", "i4"), ("device", "i4"), ("older", "i4"), ("newer", "i4"),
    ("before", "i4"), ("after", "i4"), ("uses", "i4"), ("last", "i4"), ("announced", "i4"), ("asking", "i4"),
    ("next_use_at", "i4"), ("members", "i4"), ("ghost_before", "i4"), ("ghost_after", "i4"),
    ("in_flight", "i1"), ("running", "i1"), ("protected", "i1"), ("unused", "i1"), ("promised", "i1"), ("wanted", "i1"),
    ("here", "i1"), ("where", "i1"), ("used", "i1"), ("ghost", "i1"),
], align=True)  # fmt: skip

CACHE = np.dtype([
    ("device", "i8"), ("slots", "i8"), ("free", "i8"), ("oldest", "i8"), ("newest", "i8"), ("first", "i8"),
    ("last", "i8"), ("main_first", "i8"), ("main_last", "i8"), ("ghost_first", "i8"), ("ghost_last", "i8"),
    ("small", "i8"), ("ghosts", "i8"), ("small_slots", "i8"), ("hand", "i8"), ("announced", "i8"), ("layer", "i8"),
    ("protected", "i8"), ("asking", "i8"), ("passing", "i8"), ("first_key", "i8"), ("keys", "i8"),
    ("stamp", "i8"), ("accesses", "i8"), ("hits", "i8"), ("delayed_hits", "i8"), ("misses", "i8"), ("loads", "i8"),
    ("declined", "i8"), ("prefetches", "i8"), ("prefetches_used", "i8"), ("prefetches_dropped", "i8"),
    ("evictions", "i8"),
])  # fmt: skip

LINK = np.dtype([
    ("first_waiting", "i8"), ("last_waiting", "i8"), ("first_moving", "i8"), ("last_moving", "i8"),
    ("planned", "i8"), ("plan_at", "i8"),
])  # fmt: skip

TRANSFER = np.dtype([
    ("next", "i8"), ("asked_ns", "i8"), ("start_ns", "i8"), ("end_ns", "i8"), ("key", "i8"), ("slot", "i8"),
    ("victim", "i8"), ("link", "i8"), ("prefetch", "i8"),
])  # fmt: skip

I2, I8, F4, F8, U4 = map(np.dtype, ("i2", "i8", "f4", "f8", "u4"))
# What the memory's record points at; each name is the function of compiled code that gives the array.
ARRAYS = ArrayLayout()
keys_K, key_at = ARRAYS.records("keys_K", KEY)
caches_C, cache_at = ARRAYS.records("caches_C", CACHE)
links_D, link_at = ARRAYS.records("links_D", LINK)
transfers_A, transfer_at = ARRAYS.records("transfers_A", TRANSFER)
free_CS = ARRAYS.array("free_CS", I8, 2)  # the free slots of every cache, as a stack
protected_CK = ARRAYS.array("protected_CK", I8, 2)  # the group that is protected
asking_CK = ARRAYS.array("asking_CK", I8, 2)  # the demands that wait for a slot
entered_EN = ARRAYS.array("entered_EN", I8, 2)  # (pass, layer) of the groups that prefetchers have not seen yet
group_E = ARRAYS.array("group_E", I8)  # the experts of one group
ahead_K = ARRAYS.array("ahead_K", I8)  # what a prefetcher proposes
stamp_K = ARRAYS.array("stamp_K", I8)  # marks keys
worth_K = ARRAYS.array("worth_K", F8)  # importance
norm_K = ARRAYS.array("norm_K", F8)  # importance of the experts' weights
score_K = ARRAYS.array("score_K", F8)  # what the present window gathers
plan_DK = ARRAYS.array("plan_DK", I8, 2)  # what SwapMoE's scheduler will bring
uses_U = ARRAYS.array("uses_U", I8)  # the accesses to come of every key
first_use_K = ARRAYS.array("first_use_K", I8)  # where those of a key begin
log_A = ARRAYS.array("log_A", I8)  # accesses, recorded for others
log_group_G = ARRAYS.array("log_group_G", I8, 2)  # groups likewise: layer, sequence, members
log_member_M = ARRAYS.array("log_member_M", I8)  # and their members
known_G = ARRAYS.array("known_G", I8)  # where the groups to come begin in
known_member_M = ARRAYS.array("known_member_M", I8)  # their members
ranked_LE = ARRAYS.array("ranked_LE", I8, 2)  # experts by popularity
pairs_KE = ARRAYS.array("pairs_KE", I8, 2)  # what followed what
seen_K = ARRAYS.array("seen_K", I8)  # how often an expert was followed
follow_E = ARRAYS.array("follow_E", F8)  # the score of what may follow
last_SLM = ARRAYS.array("last_SLM", I2, 3)  # what a sequence selected last; sequence 0: several together
last_SL = ARRAYS.array("last_SL", I8, 2)  # how many these are, -1: nothing yet
before_S = ARRAYS.array("before_S", I8)  # the layer of the group before
candidates_TLC = ARRAYS.array("candidates_TLC", I2, 3)  # this and the next two: what masked gating looks at
scores_TLC = ARRAYS.array("scores_TLC", F4, 3)
norm_TL = ARRAYS.array("norm_TL", F4, 2)
draws = ARRAYS.array("draws", U4)  # random bits, 32 at a time, of which `drawn` have been used
filling_F = ARRAYS.array("filling_F", I8)  # the keys that hold slots before the run

MEMORY = np.dtype([
    ("policy", "i8"), ("miss", "i8"), ("ordered", "i8"), ("hands_out", "i8"), ("wide", "i8"), ("free_prefetch", "i8"),
    ("prefetcher", "i8"), ("prefetches", "i8"), ("look_ahead", "i8"), ("caches", "i8"), ("experts", "i8"),
    ("layers", "i8"), ("transfer_ns", "i8"), ("room", "i8"), ("observed", "i8"), ("entered", "i8"),
    ("entered_at", "i8"), ("transfers", "i8"), ("logs", "i8"), ("accesses", "i8"), ("groups", "i8"),
    ("group_members", "i8"), ("broken", "i8"), ("stamp", "i8"), ("drawn", "i8"),
    ("redirects", "i8"), ("candidates", "i8"), ("period", "i8"), ("passes_done", "i8"), ("routed_rows", "i8"),
    ("lost_mass", "f8"),
    pointers_field(ARRAYS),
])  # fmt: skip

Memory = np.void  # one record of MEMORY
