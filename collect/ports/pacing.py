"""A rate that a port keeps in user space: what passes waits until the port would have carried it."""

from __future__ import annotations

import time

UNPACED_CHUNK = 256 << 10
PAGE = 4096
STEP_S = 1e-3  # bytes of about so long pass at once where a rate is kept
BURST_NS = 5_000_000  # what a port that was woken late may make up for


class Pace:
    """Lets bytes pass at `bytes_per_s`, None: as fast as they come. `begin_ns` is when the port is free at first.

    The schedule is absolute, so a sleep that lasts too long delays nothing behind it. A port that was kept from its
    work for more than `BURST_NS` loses the rest.
    """

    def __init__(self, bytes_per_s: float | None, begin_ns: int) -> None:
        self.bytes_per_s, self.free_ns = bytes_per_s, begin_ns

    @property
    def chunk_bytes(self) -> int:
        """How many bytes are to pass at once."""
        if self.bytes_per_s is None:
            return UNPACED_CHUNK
        return min(max(round(self.bytes_per_s * STEP_S) // PAGE, 1) * PAGE, UNPACED_CHUNK)

    def let_pass(self, size: int) -> None:
        """Return when the last of so many bytes has passed."""
        if self.bytes_per_s is not None:
            earliest_ns = time.monotonic_ns() - BURST_NS
            self.free_ns = max(self.free_ns, earliest_ns) + round(size * 1e9 / self.bytes_per_s)
            sleep_until(self.free_ns)


def sleep_until(when_ns: int) -> None:
    """Sleep until the monotonic clock, which all processes of a machine share, says so."""
    while (left_ns := when_ns - time.monotonic_ns()) > 0:
        time.sleep(left_ns / 1e9)
