"""The CRC-32 of a batch's members, as `traces.run_records.members_crc` has it, member by member."""

from __future__ import annotations

from functools import cache

import numpy as np

from simulate.compiled.jit import compiled

POLYNOMIAL = 0xEDB88320


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


@compiled
def crc_step(crc: int, member: int, table: np.ndarray) -> int:
    """Return the running checksum after one more member (32 bits); it begins and ends inverted."""
    mixed = (crc ^ member) & 0xFFFFFFFF
    return table[0, mixed & 255] ^ table[1, mixed >> 8 & 255] ^ table[2, mixed >> 16 & 255] ^ table[3, mixed >> 24]
