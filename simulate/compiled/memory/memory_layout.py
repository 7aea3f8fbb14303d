"""The arrays of expert memory: one record per expert (key), cache, link and transfer, and one for the memory itself.

A key is layer * E + expert. Caches are numbered over the devices: device * caches of a device + index. Lists of keys
are chains of numbers; every key belongs to one cache, so that its links stand in its own record.
"""

from __future__ import annotations

import numpy as np

from moe_replay.simulate.compiled.pointers import pointers_field
from moe_replay.simulate.policies.caches.cache import Access

# Numbers of rules. `compiled.named` says which rule has which; nothing depends on their order.
LOAD, BLOCK, HOST, REDIRECT, SKIP = range(5)
NO_PREFETCH, PREVIOUS_TOKEN, CO_ACTIVATION, POPULARITY, ORACLE = range(5)
ONE_AT_A_TIME, ALL_AT_ONCE, FREE_PREFETCH = range(3)  # links
PER_LAYER, ONE_FOR_ALL = range(2)  # caches
NOT_MET = -1
MISS, HIT, DELAYED = int(Access.MISS), int(Access.HIT), int(Access.DELAYED)
ASIDE, REST = 1, 2  # a queue that is parked until its expert is there; one that is accessed behind the batch that runs
STEP = -1  # stands for the passes of a lockstep step where a pass is expected
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

# What the memory's record points at: element type and number of dimensions. `free_CS` holds the free slots of every
# cache as a stack, `protected_CK` and `asking_CK` lists of keys. `entered_EN` are the (pass, layer) whose groups
# prefetchers have not seen yet, `group_E` the experts of one group and `ahead_K` what a prefetcher proposes.
# `stamp_K` marks keys. `worth_K` is importance, `norm_K` that of the experts' weights, `score_K` what the present
# window gathers, `plan_DK` what the online scheduler will bring. `uses_U` lists the accesses to come of every key,
# from `first_use_K` on; `known_member_M` those of the groups to come, from `known_G` on. `log_A` records accesses,
# `log_group_G` groups (layer, sequence, members) and `log_member_M` their members. `ranked_LE` are experts by
# popularity. `pairs_KE` and `seen_K` count what followed, `follow_E` scores it; `last_SLM` is what a sequence
# selected last (sequence 0: several) and `last_SL` how many, -1 nothing yet; `before_S` its layer. `candidates_TLC`,
# `scores_TLC` and `norm_TL` are what masked gating looks at. `draws` are random bits, 32 at a time, of which `drawn`
# have been used. `filling_F` are the keys that hold slots before the run.
I2, I8, F4, F8, U4 = map(np.dtype, ("i2", "i8", "f4", "f8", "u4"))
ARRAYS = {
    "keys_K": (KEY, 1), "caches_C": (CACHE, 1), "links_D": (LINK, 1), "transfers_A": (TRANSFER, 1), "free_CS": (I8, 2),
    "protected_CK": (I8, 2), "asking_CK": (I8, 2), "entered_EN": (I8, 2), "group_E": (I8, 1), "ahead_K": (I8, 1),
    "stamp_K": (I8, 1), "worth_K": (F8, 1), "norm_K": (F8, 1), "score_K": (F8, 1), "plan_DK": (I8, 2),
    "uses_U": (I8, 1), "first_use_K": (I8, 1), "log_A": (I8, 1), "log_group_G": (I8, 2), "log_member_M": (I8, 1),
    "known_G": (I8, 1), "known_member_M": (I8, 1), "ranked_LE": (I8, 2), "pairs_KE": (I8, 2), "seen_K": (I8, 1),
    "follow_E": (F8, 1), "last_SLM": (I2, 3), "last_SL": (I8, 2), "before_S": (I8, 1), "candidates_TLC": (I2, 3),
    "scores_TLC": (F4, 3), "norm_TL": (F4, 2), "draws": (U4, 1), "filling_F": (I8, 1),
}  # fmt: skip

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
