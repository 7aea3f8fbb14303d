"""The steps of inductor that the pass replaces while it is active: reordering, estimating, and ending a call.

They are private to torch, so this module is imported only where its version is the tested one.
"""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from unittest import mock

from torch._functorch import config as autograd_config
from torch._inductor import compile_fx, memory
from torch._inductor import config as inductor_config
from torch._inductor.codegen.cpp import CppScheduling
from torch._inductor.virtualized import V

from moe_replay.collect.peak_memory.kernel_calls import calls_of, ends_that_keep, memory_of_calls
from moe_replay.collect.peak_memory.pass_report import OrderedGraph, Report
from moe_replay.collect.peak_memory.scheduler_graph import (
    Node,
    Piece,
    allocated_pieces,
    estimated_pieces,
    scheduler_graph,
)
from moe_replay.simulate.ordering.order_policies import order
from moe_replay.traces.errors import InputError

SETTINGS = {"reorder_for_peak_memory": True, "fx_graph_cache": False, "fx_graph_remote_cache": False}
AUTOGRAD_SETTINGS = {
    "enable_autograd_cache": False, "enable_remote_autograd_cache": False,
    "force_non_lazy_backward_lowering": True,  # compile backward with forward: in the same thread, within the context
}  # fmt: skip


@contextmanager
def replaced(seconds: float, seed: int, report: Report) -> Iterator[None]:
    """Have inductor order what this thread compiles, and write to `report` what was done; all is as before after it.

    InputError where inductor compiles in another process, which knows nothing of what is replaced here.
    """
    if compile_fx.fx_compile_mode != compile_fx.FxCompileMode.NORMAL:
        mode = compile_fx.fx_compile_mode.name
        raise InputError(f"peak_memory_pass: inductor's compile mode is {mode}, allowed NORMAL (TORCHINDUCTOR_FX_"
                         "COMPILE_MODE is not set): it would run in a process without the pass")  # fmt: skip
    run = PassRun(seconds, seed, report)
    with ExitStack() as stack:
        stack.enter_context(inductor_config.patch(SETTINGS))
        stack.enter_context(autograd_config.patch(AUTOGRAD_SETTINGS))
        stack.enter_context(mock.patch.object(memory, "reorder_for_peak_memory", run.reorder))
        stack.enter_context(mock.patch.object(memory, "estimate_peak_memory", run.estimate))
        stack.enter_context(mock.patch.object(CppScheduling, "ready_to_flush", run.ready_to_flush()))
        yield


class PassRun:
    """The steps of inductor that are replaced, what they know of each other, and the report they write."""

    def __init__(self, seconds: float, seed: int, report: Report) -> None:
        self.seconds, self.seed, self.report = seconds, seed, report
        self.own_reorder = memory.reorder_for_peak_memory
        self.own_ready: Callable[[CppScheduling], bool] = CppScheduling.ready_to_flush
        self.own_estimate = memory.estimate_peak_memory
        self.thread = threading.get_ident()
        self.ends: set[Node] = set()
        self.planned: tuple[Node, ...] = ()
        self.memory: tuple[int, list[int]] = (0, [])

    def reorder(self, nodes: list[Node], *rest: object, **options: object) -> list[Node]:
        """Stand in for `torch._inductor.memory.reorder_for_peak_memory`: the same arguments, an order no worse."""
        own = self.own_reorder(nodes, *rest, **options)
        if threading.get_ident() != self.thread or len(own) < 2:
            return own
        started, outputs = time.perf_counter(), rest[-1]
        _, inputs = memory.prepare_planning_info(own, *rest)
        allocated = allocated_pieces(own, inputs, outputs)
        pieces = list(allocated.values())

        def peaks(nodes: list[Node]) -> tuple[int, int]:
            return self.own_estimate(nodes, inputs, outputs)[0], max(self.memory_of(nodes, pieces))

        name = f"graph {len(self.report.graphs)}"
        before, found, by, bound = peaks(own), own, "inductor", 0
        # By inductor's count only where an order of the bytes themselves is worse by that count.
        for counted in (allocated, estimated_pieces(own, inputs, outputs)):
            asked = scheduler_graph(name, own, counted)
            result = order(asked.graph, "best", self.seconds, self.seed)
            bound, candidate = bound or result.lower_bound, asked.nodes(result.order_N)
            estimated, peak = peaks(candidate)
            if estimated <= before[0]:
                if peak < before[1]:
                    found, by = candidate, result.by
                break
        after = peaks(found)
        self.ends = ends_that_keep(found, pieces)
        self.planned, self.memory = tuple(found), (after[1], [*self.memory_of(found, pieces, self.ends), 0])
        joined = max(memory_of_calls(own, calls_of(own), pieces))
        seconds = time.perf_counter() - started
        self.report.graphs.append(
            OrderedGraph(name, len(own), before[0], after[0], joined, after[1], bound, by, seconds)
        )
        return found

    @staticmethod
    def memory_of(nodes: list[Node], pieces: list[Piece], ends: Iterable[Node] | None = None) -> list[int]:
        """Return the bytes while each node runs: in calls with these ends, or (None) each in a call of its own."""
        calls = range(len(nodes)) if ends is None else calls_of(nodes, ends)
        return memory_of_calls(nodes, list(calls), pieces)

    def estimate(self, nodes: list[Node], *rest: object) -> tuple[int, list[int]]:
        """Stand in for `torch._inductor.memory.estimate_peak_memory`: the same (peak, bytes at each node).

        While code is written inductor asks it whether a freed buffer may wait to be used again, and keeps the buffer as
        long as the peak does not rise. By its own estimate the peak is often higher than it will be.
        """
        return self.memory if tuple(nodes) == self.planned else self.own_estimate(nodes, *rest)

    def ready_to_flush(self) -> Callable[[CppScheduling], bool]:
        """Return what stands in for the method by which inductor's C++ side says that a call ends here."""

        def ready(scheduling: CppScheduling) -> bool:
            return self.own_ready(scheduling) or V.graph.scheduler.current_node in self.ends

        return ready
