"""How long a run may last: its clock counts whole ns in 64 bits, and ends before `LAST_NS`, 292 years."""

from __future__ import annotations

from collections.abc import Sequence

from moe_replay.traces.command_line.number_limits import LAST_NS
from moe_replay.traces.errors import InputError

Late = tuple[int, int, int, int]  # (layer, block, tokens, start_ns) of a batch that would end too late


def too_long(
    batches: Sequence[Late], transfers: Sequence[int], timeout_ns: int | None, messages: bool = False
) -> InputError:
    """Return the error of a run whose clock would pass `LAST_NS`, naming what takes it there.

    `batches` would end too late, devices ascending; `transfers` are the starts of those that would, links ascending;
    `messages`: one between devices would. Where none does, a queue waits for its time-out.
    """
    if batches:
        layer, block, tokens, start_ns = batches[0]
        place = f"layer {layer}, {f'expert {block - 1}' if block else 'dense block'}"
        why = f"the batch of {tokens:,} tokens in {place} that starts at {start_ns:,} ns"
    elif transfers:
        why = f"the transfer of an expert that starts at {transfers[0]:,} ns"
    elif messages:
        why = "a message between devices"
    else:
        why = f"a queue's time-out of {timeout_ns or 0:,} ns"
    return InputError(f"the run's clock would pass {LAST_NS:,} ns with {why}; allowed: times whose sum is less")
