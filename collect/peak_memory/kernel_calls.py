"""Which scheduler nodes inductor's C++ code runs in one call, and where a call has to end to keep a peak.

On a CPU inductor writes kernels that follow one another into one function. All that any of them makes is allocated
before that function is called, and nothing is freed before it returns: to the allocator they are one step. That is why
its peak can lie above the peak of the order. Where a joint call would raise the peak it is divided, nowhere else.
"""

from collections.abc import Iterable
from itertools import accumulate

from torch._inductor.scheduler import NopKernelSchedulerNode

from moe_replay.collect.peak_memory.scheduler_graph import Node, Piece, is_kernel


def calls_of(nodes: list[Node], ends: Iterable[Node] = ()) -> list[int]:
    """Return, for each node of an order, the number of the call in which it runs; `ends`: nodes that end theirs."""
    ends, calls, call, joins = {*ends}, [], -1, False
    for node in nodes:
        if isinstance(node, NopKernelSchedulerNode):
            call = max(call, 0)  # no code of its own: it goes with what is before it
        elif not (joins and is_joined(node)):
            call, joins = call + 1, is_joined(node)
        joins &= node not in ends
        calls.append(call)
    return calls


def is_joined(node: Node) -> bool:
    """Return whether a node's code is written together with that of its neighbours."""
    device = node.get_device()
    return is_kernel(node) and device is not None and device.type == "cpu"


def memory_of_calls(nodes: list[Node], calls: list[int], pieces: Iterable[Piece]) -> list[int]:
    """Return, for each node of an order, the bytes that are there during the call in which it runs."""
    call = dict(zip(nodes, calls, strict=True))
    change = [0] * (max(calls) + 2)
    for piece in pieces:
        touched = [call[node] for node in piece.touches]
        change[0 if piece.from_start else min(touched)] += piece.size
        if not piece.kept:
            change[max(touched) + 1] -= piece.size
    alive = list(accumulate(change))
    return [alive[each] for each in calls]


def ends_that_keep(nodes: list[Node], pieces: Iterable[Piece]) -> set[Node]:
    """Return the nodes after which a call has to end so that no call has a higher peak than the order of the nodes.

    From the first node on, every call is as long as it may be.
    """
    pieces = list(pieces)
    limit = max(memory_of_calls(nodes, list(range(len(nodes))), pieces))
    step = {node: at for at, node in enumerate(nodes)}
    brings, frees = [0] * len(nodes), [0] * len(nodes)
    alive = 0
    for piece in pieces:
        touched = [step[node] for node in piece.touches]
        if piece.from_start:
            alive += piece.size
        else:
            brings[min(touched)] += piece.size
        if not piece.kept:
            frees[max(touched)] += piece.size
    ends, held, last = set(), 0, None
    for at, node in enumerate(nodes):
        if not isinstance(node, NopKernelSchedulerNode):
            joins = last is not None and is_joined(last) and is_joined(node)
            if joins and alive + brings[at] > limit:
                ends.add(last)
                joins = False
            if not joins:
                alive, held = alive - held, 0
            last = node
        alive, held = alive + brings[at], held + frees[at]
    return ends
