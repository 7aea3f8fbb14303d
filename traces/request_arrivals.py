"""Arrivals of a log of requests given to a trace: which recorded sequence each request is, and when it comes.

The n-th request is the n-th sequence (`order`), or the sequence whose prompt and answer are nearest in length
(`nearest`), also after the log's lengths were scaled to the trace's medians (`scaled`). Sequences are served again as
often as requests ask for them; the trace then holds them in the order of arrival.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from moe_replay.traces.command_line.memory_room import check_room
from moe_replay.traces.command_line.number_limits import LAST_NS
from moe_replay.traces.errors import InputError, unknown_name
from moe_replay.traces.request_logs import Requests
from moe_replay.traces.selections import LARGEST_ROWS, SEQUENCE_FIELDS, Trace

MATCHES = ("order", "nearest", "scaled")
CUT, CYCLE = "cut", "cycle"
UNEVEN = (CUT, CYCLE)
PART = 2**22  # distances worked out at once


@dataclass(frozen=True)
class Matched:
    """Which sequence (index into `sequences_S`) each of G requests is, and when it arrives, in the order of arrival."""

    index_G: np.ndarray
    arrival_ns_G: np.ndarray
    said: tuple[str, ...] = ()


def lengths_of(trace: Trace) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (order of the sequences in the trace, prompt tokens, decoded tokens), by index into `sequences_S`."""
    index_T = np.searchsorted(trace.sequences_S, trace.sequence_T)
    prompt_S = np.bincount(index_T, trace.phase_T == 0, trace.S).astype(np.int64)
    decode_S = np.bincount(index_T, trace.phase_T == 1, trace.S).astype(np.int64)
    _, first_S = np.unique(index_T, return_index=True)
    return np.argsort(first_S), prompt_S, decode_S


def matched(trace: Trace, requests: Requests, match: str = "order", uneven: str | None = None) -> Matched:
    """Return the sequence of every request; InputError where there are more or fewer and nothing says what then."""
    if match not in MATCHES:
        raise unknown_name("--match", match, MATCHES)
    if uneven not in (None, *UNEVEN):
        raise unknown_name("--uneven", uneven, UNEVEN)
    order_S, prompt_S, decode_S = lengths_of(trace)
    if match == "order":
        return in_order(order_S, requests, uneven)
    if uneven is not None:
        raise InputError(f"--uneven {uneven}: --match {match} takes sequences as often as requests ask for them")
    # The first generated token is the prompt's pass, so that n tokens take n - 1 decoding passes, or rows.
    asked = [requests.prompt_G.astype(float), np.maximum(requests.generated_G - 1.0, 0)]
    if match == "scaled":
        for at, own_S in enumerate((prompt_S, decode_S)):
            middle = np.median(asked[at])
            asked[at] = asked[at] * (np.median(own_S) / middle) if middle else asked[at]
    index_G = nearest(asked, (prompt_S, decode_S))
    off = [np.abs(own_S[index_G] - each).mean() for own_S, each in zip((prompt_S, decode_S), asked, strict=True)]
    said = f"{len(np.unique(index_G)):,} of {trace.S:,} sequences are served; lengths are off by {off[0]:.1f} prompt "
    return Matched(index_G, requests.arrival_ns_G, (f"{said}and {off[1]:.1f} decoded tokens on average",))


def in_order(order_S: np.ndarray, requests: Requests, uneven: str | None) -> Matched:
    """Return the n-th sequence for the n-th request."""
    count, available = len(requests.arrival_ns_G), len(order_S)
    if count == available:
        return Matched(order_S, requests.arrival_ns_G)
    if uneven is None or (uneven == CYCLE and count < available):
        more = ", or --uneven cycle serves sequences again" if count > available else ""
        raise InputError(
            f"{count:,} requests for {available:,} sequences; allowed: as many (--requests N takes the first), "
            f"--uneven cut leaves out what is more{more}"
        )
    if uneven == CYCLE:
        return Matched(order_S[np.arange(count) % available], requests.arrival_ns_G)
    kept = min(count, available)
    left = f"{count - kept:,} requests" if count > kept else f"{available - kept:,} sequences"
    return Matched(order_S[:kept], requests.arrival_ns_G[:kept], (f"left out: the last {left}",))


def nearest(asked: list[np.ndarray], own: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Return the sequence nearest to every request: the least sum of ratios of lengths, one token added to each."""
    asked_G2, own_S2 = (np.log1p(np.stack(each, axis=1)) for each in (asked, own))
    step = max(1, PART // len(own_S2))
    parts = [
        np.abs(asked_G2[at : at + step, None] - own_S2[None]).sum(2).argmin(1) for at in range(0, len(asked_G2), step)
    ]
    return np.concatenate(parts)


def at_speed(arrival_ns: np.ndarray, speed: float) -> np.ndarray:
    """Return arrivals that come so many times as fast; InputError where the clock would pass 64 bits."""
    if not speed > 0:
        raise InputError(f"--speed is {speed}, allowed above 0")
    if speed == 1:  # to the nanosecond, also where a float has no bits for it
        return arrival_ns
    times = arrival_ns / speed
    if not (times < LAST_NS).all():
        raise InputError(f"--speed {speed:g}: the last arrival would be after {LAST_NS:,} ns")
    return np.rint(times).astype(np.int64)


def with_arrivals(trace: Trace, found: Matched, note: dict) -> Trace:
    """Return the trace under arrivals: as it is where each sequence comes once in its order, else rearranged."""
    header = replace(trace.header, notes=trace.header.notes | {"arrivals": note})
    order_S, _, _ = lengths_of(trace)
    if np.array_equal(found.index_G, order_S):
        arrival_ns_S = np.empty(trace.S, np.int64)
        arrival_ns_S[order_S] = found.arrival_ns_G
        return replace(trace, header=header, arrival_ns_S=arrival_ns_S)
    rows_T, count_G = rows_of(trace, found.index_G)
    fields = {name: getattr(trace, name)[rows_T] for name in trace.present if name not in SEQUENCE_FIELDS}
    fields |= {name: getattr(trace, name)[found.index_G] for name in trace.present if name in SEQUENCE_FIELDS}
    sequence_T = np.repeat(np.arange(len(count_G), dtype=np.int32), count_G)
    new_T = np.append(True, (np.diff(sequence_T) != 0) | (np.diff(trace.step_T[rows_T]) != 0))
    fields |= {"sequence_T": sequence_T, "step_T": (np.cumsum(new_T) - 1).astype(np.int32)}
    return replace(trace, header=header, arrival_ns_S=found.arrival_ns_G.astype(np.int64), **{
        name: each for name, each in fields.items() if name != "arrival_ns_S"
    })  # fmt: skip


def rows_of(trace: Trace, index_G: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (rows of the served sequences one after another, how many each has)."""
    index_T = np.searchsorted(trace.sequences_S, trace.sequence_T)
    by_sequence_T = np.argsort(index_T, kind="stable")
    length_S = np.bincount(index_T, minlength=trace.S)
    start_S = np.cumsum(length_S) - length_S
    count_G = length_S[index_G]
    total = int(count_G.sum())
    check_room("requests", len(index_G), 60.0 * total * trace.L * trace.K / len(index_G))
    if total > LARGEST_ROWS:
        raise InputError(f"requests of {total:,} tokens in all, allowed {LARGEST_ROWS:,}; --requests takes fewer")
    within = np.arange(total) - np.repeat(np.cumsum(count_G) - count_G, count_G)
    return by_sequence_T[np.repeat(start_S[index_G], count_G) + within], count_G
