"""The order of events at one instant, written once: whoever plays a run has a function of each of these names.

`policies.instant.Replay` calls its methods by this list, for the simulation with SimPy and for the execution alike. The
compiled engine has functions of the same names (`compiled.instant`), and simulate/README.md shows the list; tests
hold both to it. A new kind of event gets its line here first.
"""

from __future__ import annotations

STEPS = {
    "complete_batches": "Batches complete, devices ascending (host servers last), members in queue order.",
    "receive_messages": "Messages are delivered, ports in ascending; heads reach ports in; ports out are free again.",
    "receive_experts": "Experts arrive in their slots, links ascending.",
    "admit_passes": "Passes arrive, in trace order.",
    "time_out": "Time-outs that are due make their queues ready.",
    "join_ready": "Queues that became ready join the ready list of their device, ascending (layer, block).",
    "start_batches": "Free devices, ascending (host last), take the first ready queue that they can run.",
    "leave": "Passes that have ended leave.",
    "begin_messages": "Free ports in, ascending, take their first message, then free ports out.",
    "ask_ahead": "SwapMoE's scheduler and prefetchers ask, behind all demands.",
    "begin_transfers": "Idle links, ascending, begin with what was asked for first.",
}
OF_MESSAGES = ("receive_messages", "begin_messages")  # nothing happens in these where devices are not linked
