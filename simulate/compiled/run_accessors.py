"""How compiled code reaches the arrays of a run (`run_layout`): one function for each."""

from __future__ import annotations

from moe_replay.simulate.compiled.arrays import array, element
from moe_replay.simulate.compiled.run_layout import ARRAYS

pass_at = element(ARRAYS, "passes_P")
queue_at = element(ARRAYS, "queues_Q")
device_at = element(ARRAYS, "devices_D")
node_at = element(ARRAYS, "nodes_N")
batch_at = element(ARRAYS, "batches_A")
batches_A = array(ARRAYS, "batches_A")
experts_TLK = array(ARRAYS, "experts_TLK")
pass_N = array(ARRAYS, "pass_N")
routed_NK = array(ARRAYS, "routed_NK")
finished_P = array(ARRAYS, "finished_P")
emptied_P = array(ARRAYS, "emptied_P")
arriving_P = array(ARRAYS, "arriving_P")
joining_Q = array(ARRAYS, "joining_Q")
timed_Q = array(ARRAYS, "timed_Q")
queued_P = array(ARRAYS, "queued_P")
step_P = array(ARRAYS, "step_P")
entered_Q = array(ARRAYS, "entered_Q")
soonest_R = array(ARRAYS, "soonest_R")
stale_R = array(ARRAYS, "stale_R")
times_A = array(ARRAYS, "times_A")
planned_A = array(ARRAYS, "planned_A")
held_G = array(ARRAYS, "held_G")
steps_S = array(ARRAYS, "steps_S")
start_S = array(ARRAYS, "start_S")
of_step_P = array(ARRAYS, "of_step_P")
cost_CN = array(ARRAYS, "cost_CN")
crc_table = array(ARRAYS, "crc_table")
