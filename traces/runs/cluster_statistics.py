"""What linked devices spend their time on, and the bytes they send, from the records of a run."""

from __future__ import annotations

import numpy as np

from moe_replay.traces.runs.run_records import RunRecords
from moe_replay.traces.runs.run_window import Window


def cluster_statistics(records: RunRecords, window: Window) -> dict[str, float]:
    """Return the shares of the devices' time and what went over the links in a window; nothing without links.

    The shares of dense blocks, experts, wire and waiting add up to 1: an idle device is on the wire while a message
    for it is under way, and waits otherwise. `straggler_share` is what the slowest device of every (micro-batch, layer)
    takes for experts beyond the mean of all, over the time. Bytes and messages count that end in the window.
    """
    if records.messages is None:
        return {}
    batches, config = records.batches, records.header["config"]
    whole_ns = config["devices"] * (window.end_ns - window.start_ns) or float("nan")
    busy_ns = window.overlap_ns(batches["start_ns"], batches["end_ns"])
    dense_ns = int(busy_ns[batches["block"] == 0].sum())
    expert_ns = int(busy_ns.sum()) - dense_ns
    occupied_ns = sum(occupied(records, device, window) for device in range(config["devices"]))
    return {
        "dense_share": dense_ns / whole_ns,
        "expert_share": expert_ns / whole_ns,
        "wire_share": (occupied_ns - dense_ns - expert_ns) / whole_ns,
        "waiting_share": 1 - occupied_ns / whole_ns,
        "straggler_share": straggling_ns(records, window) * config["devices"] / whole_ns,
        **sent(records, window),
    }


def sent(records: RunRecords, window: Window) -> dict[str, float]:
    """Return the bytes inside and between nodes and the number of messages that end in a window."""
    messages, config = records.messages, records.header["config"]
    in_node = config["devices"] // config["cluster"]["nodes"]
    ended = window.holds(messages["end_ns"])
    inside = messages["source"] // in_node == messages["destination"] // in_node
    return {
        "inside_bytes": int(messages["bytes"][ended & inside].sum()),
        "network_bytes": int(messages["bytes"][ended & ~inside].sum()),
        "messages": int(np.count_nonzero(ended)),
    }


def occupied(records: RunRecords, device: int, window: Window) -> int:
    """Return the ns of a window in which a device computes or a message for it is under way."""
    batches, messages = records.batches, records.messages
    own, meant = batches["device"] == device, messages["destination"] == device
    start_ns = np.concatenate([batches["start_ns"][own], messages["queued_ns"][meant]])
    end_ns = np.concatenate([batches["end_ns"][own], messages["end_ns"][meant]])
    order = np.argsort(start_ns, kind="stable")
    start_ns, end_ns = start_ns[order], end_ns[order]
    # What earlier stretches cover of one is not counted again.
    covered_ns = np.concatenate([np.full(1, window.start_ns), np.maximum.accumulate(end_ns)])[: len(end_ns)]
    return int(window.overlap_ns(np.maximum(start_ns, covered_ns), end_ns).sum())


def straggling_ns(records: RunRecords, window: Window) -> float:
    """Return by how much the slowest device's time in experts exceeds the mean, over all (micro-batch, layer).

    A device's time is that of all steps together, of batches that start in the window.
    """
    batches, devices = records.batches, records.header["config"]["devices"]
    chosen = (batches["block"] > 0) & window.holds(batches["start_ns"])
    if not chosen.any():
        return 0.0
    place = (
        batches["micro_batch"][chosen].astype(np.int64) * (int(batches["layer"].max()) + 1) + batches["layer"][chosen]
    )
    cells = (int(place.max()) + 1) * devices
    spent_ns = (batches["end_ns"] - batches["start_ns"])[chosen]
    spent_ns_XD = np.bincount(place * devices + batches["device"][chosen], spent_ns, cells).reshape(-1, devices)
    return float((spent_ns_XD.max(1) - spent_ns_XD.mean(1)).sum())
