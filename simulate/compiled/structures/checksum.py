"""The CRC-32 of a batch's members, as `traces.runs.run_records.members_crc` has it, member by member."""

from __future__ import annotations

import numpy as np

from moe_replay.simulate.compiled.jit import inlined


@inlined
def crc_step(crc: int, member: int, table: np.ndarray) -> int:
    """Return the running checksum after one more member (32 bits); it begins and ends inverted.

    `table` as `run_build.crc_tables` makes it.
    """
    mixed = (crc ^ member) & 0xFFFFFFFF
    return table[0, mixed & 255] ^ table[1, mixed >> 8 & 255] ^ table[2, mixed >> 16 & 255] ^ table[3, mixed >> 24]
