"""A log of exchanges with known answers, as `collect ports` writes it, and the same by the port model."""

import numpy as np

from moe_replay.traces.file.mixed_table import mixed_digest, save_mixed
from moe_replay.traces.runs.port_log import (
    CALIBRATION,
    CHECK,
    EXECUTED_COLUMNS,
    KIND,
    PREDICTED,
    PREDICTED_COLUMNS,
    port_table,
)

LATENCY_NS, BYTES_PER_S = 1000, 1e9  # a byte takes a ns
SIZES = {"lone": (CALIBRATION, [[0, 4000], [0, 0]]), "balanced": (CHECK, [[0, 2000], [2000, 0]]),
         "all-to-one": (CHECK, [[0, 0], [9000, 0]])}  # fmt: skip
LATE = (1.0, 1.1, 1.5)  # of the port model's time, by repetition


def messages():
    """Yield (purpose, pattern, source, destination, bytes) of every message."""
    for pattern, (purpose, sizes) in SIZES.items():
        for source, destination in zip(*np.nonzero(sizes), strict=True):
            yield purpose, pattern, int(source), int(destination), sizes[source][destination]


def write_port_log(path, late=LATE):
    """Write executed exchanges, each repetition so many times as long as ports take."""
    rows = [
        ("paced", 2, purpose, pattern, repetition, source, to, size, 0, round((LATENCY_NS + size) * factor))
        for repetition, factor in enumerate(late) for purpose, pattern, source, to, size in messages()
    ]  # fmt: skip
    link = {"way": "paced", "exchanges": 1, "latency_ns": LATENCY_NS, "bytes_per_s": BYTES_PER_S, "error_percent": 0.0}
    path.parent.mkdir(parents=True, exist_ok=True)
    header = {"device": "cpu-toy", "ways": {"paced": {"meaning": "said"}}, "links": [link]}
    table = port_table(rows, EXECUTED_COLUMNS)
    save_mixed(path, table, header, KIND)
    return mixed_digest(table["end_ns"].combine_chunks())


def write_predicted(path, digest):
    """Write what ports take for the same exchanges."""
    rows = [
        ("paced", 2, purpose, pattern, source, to, size, 0, LATENCY_NS + size)
        for purpose, pattern, source, to, size in messages()
    ]  # fmt: skip
    links = [{"way": "paced", "latency_ns": LATENCY_NS, "bytes_per_s": BYTES_PER_S}]
    path.parent.mkdir(parents=True, exist_ok=True)
    save_mixed(path, port_table(rows, PREDICTED_COLUMNS), {"executed": digest, "links": links}, PREDICTED)
