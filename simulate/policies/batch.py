"""A batch: what is bound to run together, and what becomes known of it."""

from dataclasses import dataclass


@dataclass(slots=True, eq=False)
class Batch:
    """Members bound to run together in one block on one device.

    `members` are token numbers for an expert (block 1+e) and pass numbers for a dense block (block 0), in queue
    order; `tokens` is what the batch costs by. `forced`: the stall rule made it ready. `hit`: its expert was resident
    when it was demanded (1), was not (0), or there are no expert slots (-1). `micro_batch`: the part of the step that
    it is of. The driver fills in `end_ns`.
    """

    device: int
    layer: int
    block: int
    members: list[int]
    tokens: int
    ready_ns: int
    start_ns: int
    forced: bool = False
    end_ns: int = -1
    hit: int = -1
    micro_batch: int = 0
