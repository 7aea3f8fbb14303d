"""The steps of inductor that the pass replaces while it is active: reordering, estimating, and ending a call.

They are private to torch, so this module is imported only where its version is the tested one.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from unittest import mock

from torch._functorch import config as autograd_config
from torch._inductor import compile_fx, memory
from torch._inductor import config as inductor_config
from torch._inductor.codegen.cpp import CppScheduling
from torch._inductor.virtualized import V

from moe_replay.collect.peak_memory.kernel_calls import calls_of, ends_that_keep, memory_of_calls
from moe_replay.collect.peak_memory.pass_report import OrderedGraph, Report
from moe_replay.collect.peak_memory.scheduler_graph import Node, scheduler_graph
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

        def estimate(nodes: list[Node]) -> int:
            return self.own_estimate(nodes, inputs, outputs)[0]

        name = f"graph {len(self.report.graphs)}"
        asked = scheduler_graph(name, own, inputs, outputs)
        result = order(asked.graph, "best", self.seconds, self.seed)
        found, by = asked.nodes(result.order_N), result.by
        if estimate(found) > estimate(own):
            found, by = own, "inductor"
        pieces = list(asked.pieces.values())
        self.ends = ends_that_keep(found, pieces)
        memory_N = memory_of_calls(found, calls_of(found, self.ends), pieces)
        self.planned, self.memory = tuple(found), (max(memory_N), [*memory_N, 0])
        self.report.graphs.append(
            OrderedGraph(
                name, len(own), estimate(own), estimate(found), max(memory_of_calls(own, calls_of(own), pieces)),
                max(memory_N), result.lower_bound, by, time.perf_counter() - started,
            )
        )  # fmt: skip
        return found

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
