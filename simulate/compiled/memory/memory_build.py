"""Makes the arrays of expert memory: slots, fillings and knowledge are what the reference's own objects say."""

from __future__ import annotations

import dataclasses
from typing import Literal

import numpy as np

from moe_replay.simulate.compiled.compiled_rules import numbers_of
from moe_replay.simulate.compiled.entries import fill
from moe_replay.simulate.compiled.memory.access_order import Order, uses_of
from moe_replay.simulate.compiled.memory.memory_layout import ARRAYS, CACHE, KEY, LINK, MEMORY, TRANSFER
from moe_replay.simulate.compiled.pointers import Pointed
from moe_replay.simulate.compiled.prefetchers.prefetcher import CompiledPrefetcher
from moe_replay.simulate.compiled.prefetchers.prefetching import TWINS as PREFETCHERS
from moe_replay.simulate.compiled.rule_numbers import ALL_AT_ONCE, FREE_PREFETCH, REDIRECT
from moe_replay.simulate.compiled.run_build import writable
from moe_replay.simulate.config.run_config import RunConfig
from moe_replay.simulate.config.workload import Workload
from moe_replay.simulate.policies.caches.cache import Cache, Counts
from moe_replay.simulate.policies.caches.cache_names import CACHES, key_ranges
from moe_replay.simulate.policies.memory.expert_memory import ExpertMemory
from moe_replay.simulate.policies.memory.knowledge import AccessOrder, Knowledge
from moe_replay.simulate.policies.memory.memory_setup import Known
from moe_replay.simulate.policies.memory.swap_scheduler import Importance
from moe_replay.simulate.policies.placement import place

Logs = tuple[Literal["accesses", "groups"], ...]  # what a run records for those who are told of it beforehand
DRAWN_ANEW = 64  # so many random numbers of a round may be drawn anew, each with a probability below 2**-16
COUNTS = tuple(field.name for field in dataclasses.fields(Counts))


def reference_memory(workload: Workload, config: RunConfig, known: Known, device_LB: np.ndarray) -> ExpertMemory:
    """Return the reference's expert memory before the run: it checks, shares out, ranks and fills."""
    memory = config.memory
    keys = workload.layers * workload.experts
    importance = known.importance
    if memory.is_masked and memory.cache == "importance":
        # SwapMoE learns importance as it runs: before the first window all are worth the same.
        importance = list(known.importance or [0.0] * keys)
    knowledge = Knowledge(
        workload.layers, workload.experts, known.popularity, importance, rng=config.generator("memory")
    )
    caches = len(key_ranges(memory.scope, workload.layers, workload.experts))
    # The reference object needs an order to be built; the compiled run is given the real one as arrays.
    unknown_yet = AccessOrder([[[] for _ in range(caches)] for _ in range(config.devices)], [])
    return ExpertMemory(memory, device_LB, knowledge, config.runs_in_order, None if memory.is_masked else unknown_yet)


def new_memory(
    workload: Workload, config: RunConfig, known: Known, order: Order | None, transfer_ns: int, logs: Logs
) -> tuple[Pointed, int]:
    """Return (the memory of a run that has not begun, how many experts share a cache's slots at most).

    `order` are the accesses and groups to come, for those who ask for them; `logs` says which of them this run records.
    """
    device_LB = place(config.placement, workload.layers, workload.experts, config.devices)
    reference = reference_memory(workload, config, known, device_LB)
    caches = len(reference.caches_DC[0])
    flat = [cache for each in reference.caches_DC for cache in each]
    layer_K, expert_K = np.divmod(np.arange(workload.layers * workload.experts), workload.experts)
    keys = new_keys(flat, np.array(reference.device_K) * caches + layer_K % caches)
    keys["device"], keys["queue"] = reference.device_K, layer_K * (workload.experts + 1) + 1 + expert_K
    records = new_caches(flat)
    records["device"] = np.arange(len(flat)) // caches
    made = assembled(workload, config, known, reference, keys, records, order, transfer_ns, logs)
    # By the compiled code itself, so that every policy notes its first experts as it would in a run.
    if len(made["filling_F"]):
        fill(made)
    for name in COUNTS:
        records[name] = 0  # a filling is no access: the run counts from nothing
    return made, reference.sharing


def new_keys(caches: list[Cache], cache_K: np.ndarray, first_key: int = 0) -> np.ndarray:
    """Return the records of the experts from `first_key` on, which hold no slots; `cache_K` says whose they are."""
    keys = np.zeros(len(cache_K), KEY)
    keys["cache"] = cache_K
    # Whether a fixed set (`static`, `none`) wants an expert is asked of the reference, once.
    keys["wanted"] = [caches[cache].wants(key, 0) for key, cache in enumerate(cache_K.tolist(), first_key)]
    for name in ("slot", "older", "newer", "before", "after", "ghost_before", "ghost_after"):
        keys[name] = -1
    return keys


def new_caches(caches: list[Cache]) -> np.ndarray:
    """Return the records of caches, whose slots are free."""
    records = np.zeros(len(caches), CACHE)
    for cache, rec in zip(caches, records, strict=True):
        rec["slots"], rec["free"] = cache.slots, cache.slots
        rec["small_slots"] = getattr(cache, "small_slots", 0)
        rec["first_key"], rec["keys"] = cache.keys.start, len(cache.keys)
    for name in ("oldest", "newest", "first", "last", "main_first", "main_last", "ghost_first", "ghost_last", "hand",
                 "passing"):  # fmt: skip
        records[name] = -1
    return records


def free_slots(records: np.ndarray) -> np.ndarray:
    """Return `free_CS`: the slots of every cache as a stack, the first on top."""
    free_CS = np.zeros((len(records), int(records["slots"].max())), np.int64)
    for row, slots in zip(free_CS, records["slots"].tolist(), strict=True):
        row[:slots] = np.arange(slots)[::-1]
    return free_CS


def state_fields(workload: Workload, config: RunConfig, caches: int, transfer_ns: int, logs: Logs) -> dict[str, float]:
    """Return what the record of an expert memory says before the run."""
    memory, keys, numbers = config.memory, workload.layers * workload.experts, numbers_of(config)
    masked, link = memory.is_masked, numbers["link"]
    return {
        "policy": numbers["cache policy"], "miss": numbers["miss handling"], "prefetcher": numbers["prefetcher"],
        "ordered": config.runs_in_order and not masked, "hands_out": memory.hands_out, "wide": link == ALL_AT_ONCE,
        "free_prefetch": link == FREE_PREFETCH, "look_ahead": memory.look_ahead, "caches": caches,
        "prefetches": "groups" in logs or memory.prefetch != "none",
        "experts": workload.experts, "layers": workload.layers, "transfer_ns": transfer_ns,
        # See `host_link.has_room`: what one round may ask for at most.
        "room": 2 * keys + DRAWN_ANEW, "logs": bool(logs), "broken": -1,
        "redirects": numbers["miss handling"] == REDIRECT,
        "candidates": workload.candidates_TLK.shape[2] if masked else 0, "period": memory.period or 0,
    }  # fmt: skip


def assembled(
    workload: Workload, config: RunConfig, known: Known, reference: ExpertMemory, keys: np.ndarray,
    caches: np.ndarray, order: Order | None, transfer_ns: int, logs: Logs,
) -> Pointed:  # fmt: skip
    """Return the memory with all its arrays, those that this run does not need with one element."""
    count, per_device = len(keys), len(reference.caches_DC[0])
    made = Pointed(MEMORY, ARRAYS, **state_fields(workload, config, per_device, transfer_ns, logs))
    room, draws = int(made.room), "rng" in CACHES[config.memory.cache].needs
    # A run without importance still needs the array; nobody reads it then.
    worth = known.importance if known.importance is not None else np.zeros(count)
    made.put(
        keys_K=keys, caches_C=caches, links_D=new_links(config.devices), free_CS=free_slots(caches),
        # These five are lengthened before they are full (`host_link.has_room`).
        transfers_A=np.zeros(8 * room, TRANSFER), log_A=np.zeros(1, np.int64), log_group_G=np.zeros((1, 3), np.int64),
        log_member_M=np.zeros(1, np.int64),
        draws=random_bits(config, 8 * room) if draws else np.zeros(room, np.uint32),
        worth_K=np.array(worth, np.float64), score_K=np.zeros(count), stamp_K=np.zeros(count, np.int64),
        norm_K=np.array(Importance(count, known.expert_norm).norm_K, np.float64),
        **uses_of(order, keys["cache"]), **new_lists(workload, config, caches, bool(made.prefetches)),
        filling_F=np.array([key for each in reference.caches_DC for cache in each for key in cache.slot_of], np.int64),
        ranked_LE=np.array(getattr(reference.prefetcher, "ranked", [[0]]), np.int64),
        **remembered(workload, config, PREFETCHERS[int(made.prefetcher)]),
        **candidates_of(workload),
    )  # fmt: skip
    keys["next_use_at"] = made["first_use_K"][:-1]
    return made


def new_lists(workload: Workload, config: RunConfig, caches: np.ndarray, prefetches: bool) -> dict[str, np.ndarray]:
    """Return the lists of an expert memory, each as long as it can become."""
    keys, most = workload.layers * workload.experts, int(caches["keys"].max())
    return {
        # An expert is protected once, until its turn is over or another group is announced.
        "protected_CK": np.zeros((len(caches), most), np.int64),
        # An expert asks for a slot once: when it is met, or when it loses the slot that it had been given since.
        "asking_CK": np.zeros((len(caches), most), np.int64),
        # A pass selects one group in a round, those of a step of lockstep one together; prefetchers see all of them
        # before the next round.
        "entered_EN": np.zeros((workload.passes if prefetches else 1, 2), np.int64),
        # A group holds each expert of its layer once, a proposal and a device's plan each expert of all layers.
        "group_E": np.zeros(workload.experts, np.int64), "ahead_K": np.zeros(keys, np.int64),
        "plan_DK": np.zeros((config.devices, keys), np.int64),
    }  # fmt: skip


def new_links(devices: int) -> np.ndarray:
    """Return the records of all links, over which nothing moves."""
    links = np.zeros(devices, LINK)
    for name in ("first_waiting", "last_waiting", "first_moving", "last_moving"):
        links[name] = -1
    return links


def remembered(workload: Workload, config: RunConfig, prefetcher: CompiledPrefetcher) -> dict[str, np.ndarray]:
    """Return what a prefetcher remembers of sequences and pairs: nothing yet."""
    experts, keys = workload.experts, workload.layers * workload.experts
    sequences = 1 + len(np.unique(workload.sequence_P))
    most = int(workload.tokens_P.max()) * workload.experts_TLK.shape[2]
    # A lockstep step selects up to all experts of a layer, a pass no more than its tokens choose.
    most = experts if config.runs_in_order else min(experts, most)
    shape = {
        "none": (1, 1, 1), "last": (sequences, 1, most), "last of every layer": (sequences, workload.layers, most),
    }[prefetcher.remembers]  # fmt: skip
    # It grows with the square of the experts: made only for the prefetcher that counts pairs.
    pairs = (keys, experts) if prefetcher.counts_pairs else (1, 1)
    return {
        "pairs_KE": np.zeros(pairs, np.int64), "seen_K": np.zeros(keys, np.int64), "follow_E": np.zeros(experts),
        # -1: nothing seen yet, which is not the same as a group without members.
        "last_SLM": np.zeros(shape, np.int16), "last_SL": np.full(shape[:2], -1, np.int64),
        "before_S": np.full(shape[0], -1, np.int64),
    }  # fmt: skip


def candidates_of(workload: Workload) -> dict[str, np.ndarray]:
    """Return what masked gating looks at, one element each where gating is not masked."""
    if workload.candidates_TLK is None:
        return {
            "candidates_TLC": np.zeros((1, 1, 1), np.int16), "scores_TLC": np.zeros((1, 1, 1), np.float32),
            "norm_TL": np.zeros((0, 1), np.float32),
        }  # fmt: skip
    norm_TL = workload.norm_TL if workload.norm_TL is not None else np.zeros((0, 1))
    arrays = {
        "candidates_TLC": (workload.candidates_TLK, np.int16), "scores_TLC": (workload.scores_TLK, np.float32),
        "norm_TL": (norm_TL, np.float32),
    }  # fmt: skip
    return {name: writable(array, dtype) for name, (array, dtype) in arrays.items()}


def random_bits(config: RunConfig, count: int) -> np.ndarray:
    """Return the first `count` words of the memory's stream (`words_of`)."""
    return words_of(config.generator("memory"), count)


def words_of(rng: np.random.Generator, count: int) -> np.ndarray:
    """Return the next `count` words of 32 bits that numpy's generator uses, low half first."""
    # The raw stream, because numpy's bounded draws consume it in the same words: both engines draw the same victims.
    raw = rng.bit_generator.random_raw(-(-count // 2))
    return raw.astype("<u8").view("<u4").astype(np.uint32)
