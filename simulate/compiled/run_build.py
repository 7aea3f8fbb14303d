"""Makes the arrays of a run from its workload and configuration; rules that are worked out beforehand are not repeated.

Arrival times, what follows what, and placement come from the very objects that the reference engine asks.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from moe_replay.simulate.compiled.compiled_rules import numbers_of
from moe_replay.simulate.compiled.pointers import Pointed
from moe_replay.simulate.compiled.rule_numbers import CLOSED, STEPS
from moe_replay.simulate.compiled.run_layout import (
    ARRAYS,
    BATCH,
    DEVICE,
    MOST_MEMBERS,
    NEVER,
    NEXT_INSTANT,
    NODE,
    PASS,
    QUEUE,
    RUN,
    STRETCH,
)
from moe_replay.simulate.config.run_config import RunConfig
from moe_replay.simulate.config.workload import Workload
from moe_replay.simulate.policies.arrivals import Arrivals, new_arrivals
from moe_replay.simulate.policies.placement import place
from moe_replay.traces.errors import InputError

FIRST_BATCHES = 1 << 14
FIRST_TOKENS = 256
POLYNOMIAL = 0xEDB88320  # of the CRC-32 that zlib has
LISTS_OF_PASSES = ("finished_P", "emptied_P", "arriving_P", "queued_P", "step_P")


def new_world(
    workload: Workload, config: RunConfig, curve_Q: np.ndarray, device_LB: np.ndarray | None = None
) -> Pointed:  # fmt: skip
    """Return a run that has not begun; `curve_Q` numbers the cost curve of every queue.

    `device_LB` is the device of every block's queue, None: as the configuration's placement says.

    Raises InputError as the reference engine does, for a placement or arrivals that do not fit, for a rule that is not
    compiled, and for more members of queues than numbers of 32 bits count.
    """
    numbers = numbers_of(config)
    if device_LB is None:
        device_LB = place(config.placement, workload.layers, workload.experts, config.devices)
    arrivals = new_arrivals(workload, config)
    queues, masked = device_LB.size, config.memory is not None and config.memory.is_masked
    check_counts(workload, config, queues)
    world = Pointed(RUN, ARRAYS, **run_fields(workload, config, numbers, device_LB.shape))
    kind = numbers["arrivals"]
    routed = (len(workload.pass_N), workload.experts_TLK.shape[2]) if masked else (1, 1)
    world.put(
        passes_P=new_passes(workload, arrivals, kind, numbered=config.memory is not None),
        queues_Q=new_queues(device_LB, curve_Q), devices_D=new_devices(config.devices),
        # Before each round there is room for the batches that it can start: one for each device and the host.
        batches_A=np.empty(FIRST_BATCHES, BATCH),
        experts_TLK=writable(workload.experts_TLK, np.int16), pass_N=workload.pass_N.astype(np.int32),
        routed_NK=np.full(routed, -1, np.int16), entered_Q=np.full(queues, NEVER),
        soonest_R=np.full(-(-queues // STRETCH), NEVER), stale_R=np.zeros(-(-queues // STRETCH), np.int8),
        # These four are read as far as they go: what is due, and what is held back, is counted against their lengths.
        times_A=np.array(arrivals.arrival_ns_A, np.int64), planned_A=np.array(arrivals.planned_A, np.int64),
        held_G=np.array(list(arrivals.held_back) if kind == CLOSED else [], np.int64), **steps_of(arrivals, kind),
        # A cost is looked up where the table holds as many tokens; else it is asked for, and the table widened.
        cost_CN=np.full((int(curve_Q.max()) + 1, FIRST_TOKENS), -1, np.int64), crc_table=crc_tables(),
        **new_lists(workload, config, device_LB.shape),
    )  # fmt: skip
    return world


def new_lists(workload: Workload, config: RunConfig, shape: tuple[int, int]) -> dict[str, np.ndarray]:
    """Return the lists of a run, each as long as it can become; `shape` as in `run_fields`."""
    passes, layers, (places, width) = workload.passes, workload.layers, shape
    # Behind the last layer there is no expert; linked devices have places of their own in every layer.
    used_queues = places // (layers + 1) * layers * (width - 1) + places * config.dense
    return {
        "nodes_N": np.empty(most_nodes(workload, config), NODE),
        # A queue has one time-out at most, that of its head.
        "timed_Q": np.empty(used_queues, np.int64),
        # A queue joins once between two settlements: it counts as listed from then until it is bound, which is later.
        # Forced ones, too: where a run stalls nothing is listed, since every free device took what it could run.
        "joining_Q": np.empty(used_queues, np.int64),
        # A pass arrives once, waits for a step of lockstep once and is in one step at a time; it finishes once, among
        # those that were emptied or not, and all that finish in a round are listed together.
        **{name: np.empty(passes, np.int64) for name in LISTS_OF_PASSES},
    }  # fmt: skip


def check_counts(workload: Workload, config: RunConfig, queues: int) -> None:
    """Raise InputError for more of anything than the 32 bits count that it has in a record.

    An expert is accessed once per member at most, and announced as often and twice for each pass in a layer (`KEY`).
    """
    selections = len(workload.pass_N) * workload.experts_TLK.shape[2]
    counts = {
        "members of queues": (selections + 2 * workload.passes) * workload.layers,
        "members alive": most_nodes(workload, config), "rows": len(workload.experts_TLK), "queues": queues,
    }  # fmt: skip
    for what, count in counts.items():
        if count > MOST_MEMBERS:
            raise InputError(f"{count:,} {what}; the compiled engine counts up to {MOST_MEMBERS:,}")


def most_nodes(workload: Workload, config: RunConfig) -> int:
    """Return how many nodes members take at most.

    A pass has the members of one stage at a time: its selections of one layer, or one, itself (over linked devices one
    for each of its homes, at most one for each token). Queues give the nodes of a completed batch back only after the
    passes that it ends have queued their next members, and complete one batch after another; lockstep gives those of a
    stage back before the next one's are queued.
    """
    shared = 0 if config.cluster is None else config.cluster.shared_experts  # which every token selects
    selections = len(workload.pass_N) * (workload.experts_TLK.shape[2] + shared)
    if config.runs_in_order:
        return selections
    in_expert, in_dense = config.queue_size, config.dense_queue_size or config.queue_size
    most_dense = workload.passes if config.cluster is None else len(workload.pass_N)
    return selections + max(min(in_expert, selections), min(in_dense, most_dense))


def aligned(count: int, dtype: np.dtype) -> np.ndarray:
    """Return zeroed records, each of which begins where a line of the processor's cache does if it is as long."""
    zeros = np.zeros((count + 1) * dtype.itemsize, np.uint8)
    first = -zeros.ctypes.data % dtype.itemsize
    return zeros[first : first + count * dtype.itemsize].view(dtype)


def writable(array: np.ndarray, dtype: type) -> np.ndarray:
    """Return an array in C order that may be written, so that all runs share one compiled form; copied if need be."""
    return np.require(array, dtype, ["C", "W"])


def run_fields(
    workload: Workload, config: RunConfig, numbers: dict[str, int], shape: tuple[int, int]
) -> dict[str, float]:  # fmt: skip
    """Return what the record of a run says before it begins.

    `numbers` as of `compiled_rules.numbers_of`, `shape` that of the queues: their places and the blocks of each.
    """
    memory = config.memory
    return {
        "scheduler": numbers["scheduler"], "arrivals": numbers["arrivals"], "size": config.queue_size,
        "dense_size": config.dense_queue_size or config.queue_size,
        "timeout_ns": -1 if config.timeout_ns is None else config.timeout_ns,
        "max_step": config.max_step or workload.passes, "layers": workload.layers, "experts": workload.experts,
        "width": shape[1], "k": workload.experts_TLK.shape[2], "devices": config.devices,
        "queues": shape[0] * shape[1], "dense": config.dense,
        "filled_rows": bool((workload.experts_TLK >= 0).all()),
        "host_factor": memory.host_factor if memory else 1.0,
        "where": NEXT_INSTANT, "free_node": -1, "stage": -1, "given_ns": -1,
    }  # fmt: skip


def new_passes(workload: Workload, arrivals: Arrivals, kind: int, numbered: bool) -> np.ndarray:
    """Return the records of all passes; sequences, if they are asked for, are numbered from 1; 0 means several."""
    passes = aligned(workload.passes, PASS)
    passes["first_row"], passes["tokens"] = workload.first_row_P, workload.tokens_P
    passes["offset"] = workload.token_offset_P
    if numbered:
        passes["sequence"] = 1 + np.unique(workload.sequence_P, return_inverse=True)[1].ravel()
    passes["releases"] = arrivals.step_of_P if kind == STEPS else arrivals.follower_P
    passes["stage"] = -1
    passes["start_ns"], passes["arrival_ns"], passes["end_ns"] = NEVER, -1, -1
    return passes


def new_queues(device_LB: np.ndarray, curve_Q: np.ndarray) -> np.ndarray:
    """Return the records of all queues, none of which has a member."""
    queues, experts = aligned(device_LB.size, QUEUE), device_LB.shape[1] - 1
    layer_Q, block_Q = np.divmod(np.arange(device_LB.size), experts + 1)
    queues["device"], queues["curve"] = device_LB.ravel(), curve_Q
    queues["key"] = np.where(block_Q > 0, layer_Q * experts + block_Q - 1, -1)
    for name in ("head", "tail", "next", "timed_at", "met"):
        queues[name] = -1
    return queues


def new_devices(devices: int) -> np.ndarray:
    """Return the records of the devices and, last, of the host server: all free."""
    records = np.zeros(devices + 1, DEVICE)
    records["free"], records["end_ns"] = 1, NEVER
    records["first_ready"] = records["last_ready"] = -1
    return records


def steps_of(arrivals: Arrivals, kind: int) -> dict[str, np.ndarray]:
    """Return how many passes every step of the trace has and which they are; nothing under other arrivals."""
    of_step = arrivals.passes_of_step if kind == STEPS else []
    count_S = np.array([len(passes) for passes in of_step], np.int64)
    return {
        "steps_S": count_S, "start_S": np.concatenate([[0], np.cumsum(count_S)]).astype(np.int64),
        "of_step_P": np.array([p for passes in of_step for p in passes], np.int64),
    }  # fmt: skip


@cache
def crc_tables() -> np.ndarray:
    """Return (4, 256) int64: what the low four bytes of a little-endian int64 contribute; its high four are zero."""
    tables = np.zeros((8, 256), np.uint32)
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = crc >> 1 ^ (POLYNOMIAL if crc & 1 else 0)
        tables[0, byte] = crc
    for i in range(1, 8):
        tables[i] = tables[i - 1] >> 8 ^ tables[0][tables[i - 1] & 255]
    return tables[7:3:-1].astype(np.int64)
