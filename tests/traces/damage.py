"""Files with one bit changed: each loads as it was, or is refused by a line that names it."""

import numpy as np

from moe_replay.traces.errors import InputError


def refused_of_damaged(path, load, times=300):
    """The lines that refuse copies with one bit changed; `load(path)` asserts what a copy that loads holds."""
    content, rng, refused = path.read_bytes(), np.random.default_rng(0), []
    copy = path.with_name(f"damaged-{path.name}")
    for _ in range(times):
        damaged = bytearray(content)
        damaged[rng.integers(len(content))] ^= 1 << rng.integers(8)
        copy.write_bytes(damaged)
        try:
            load(copy)
        except InputError as error:
            refused.append(str(error))
    assert all(line.startswith(f"{copy}: ") for line in refused)
    return refused
