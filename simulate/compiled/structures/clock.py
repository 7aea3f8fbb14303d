"""Times that are still to come: a sum that 64 bits do not hold is NEVER, and what it belongs to never happens."""

from __future__ import annotations

from moe_replay.simulate.compiled.jit import inlined
from moe_replay.simulate.compiled.run_layout import NEVER


@inlined
def later(now: int, ns: int) -> int:
    """Return the time so many ns after `now`, NEVER where that passes 64 bits."""
    return now + ns if ns < NEVER - now else NEVER
