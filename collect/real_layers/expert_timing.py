"""What the experts of a published shape take outside any loop, by four ways to run and to time them.

All experts of the layer are visited in turn, so that none finds its weights in a cache.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import pyarrow as pa
import torch
from torch.nn import functional

from moe_replay.collect.devices import synchronise
from moe_replay.collect.real_layers.layer_stack import LayerStack
from moe_replay.traces.runs.layer_times import ALL_EXPERTS, DENSE_EVENT, EVENT, GROUPED, OF_DENSE, OF_EXPERTS

FILLER = 8192  # side of the square product that keeps a GPU busy (2 ms on an H100) while calls are launched behind it


@dataclass(frozen=True)
class TimesPlan:
    """Tokens per expert, repetitions, and how many experts a visit times one by one.

    No repetition begins after so many `seconds`.
    """

    sizes: tuple[int, ...]
    repetitions: int = 20
    seconds: float = 6.0
    visits: int = 8
    seed: int = 0


@dataclass
class LayerTimes:
    """Times the one layer of a stack on a device. `lacking` says of every form that is left out why."""

    model: LayerStack
    device: torch.device
    plan: TimesPlan
    rows: list[tuple[str, int, int, int, int]] = field(default_factory=list)
    lacking: dict[str, str] = field(default_factory=dict)
    last: int = 0  # the expert that is next in turn

    def __post_init__(self) -> None:
        on_gpu = self.device.type == "cuda"
        self.experts = self.model.experts[0]
        self.product = getattr(functional, "grouped_mm", None)
        if not on_gpu:
            self.lacking = dict.fromkeys((EVENT, DENSE_EVENT, GROUPED), "needs a CUDA device")
        elif self.product is None:
            self.lacking[GROUPED] = f"torch {torch.__version__} has no torch.nn.functional.grouped_mm"
        self.square = None
        if on_gpu:
            self.square = torch.zeros((FILLER, FILLER), dtype=torch.bfloat16, device=self.device)

    @torch.inference_mode()
    def measure(self, say: Callable[[int], object] = lambda _: None) -> pa.Table:
        """Return all times: form, tokens, expert, repetition, took_ns. `say(repetition)` is called after each.

        Sizes and forms come in a new order in every repetition; one before the first is not counted.
        """
        draws, deadline = np.random.default_rng(self.plan.seed), time.monotonic() + self.plan.seconds
        for repetition in range(-1, self.plan.repetitions):
            if repetition > 0 and time.monotonic() > deadline:
                break
            visits = [(form, size) for form in OF_EXPERTS for size in self.plan.sizes]
            visits += [(form, size) for form in OF_DENSE for size in self.dense_sizes]
            for at in draws.permutation(len(visits)).tolist():
                self.visit(*visits[at], repetition)
            say(repetition)
        names = ("form", "tokens", "expert", "repetition", "took_ns")
        types = (pa.string(), pa.int32(), pa.int32(), pa.int32(), pa.int64())
        return pa.table([pa.array(each, kind) for each, kind in zip(zip(*self.rows, strict=True), types, strict=True)],
                        names=names)  # fmt: skip

    @property
    def dense_sizes(self) -> list[int]:
        """The sizes of dense blocks: a step whose experts have n tokens each has E/k times as many."""
        sizes, most = list(self.plan.sizes), max(self.plan.sizes) * len(self.experts) / self.model.config.k
        while 2 * max(sizes) <= most:
            sizes.append(2 * max(sizes))
        return sizes

    def visit(self, form: str, tokens: int, repetition: int) -> None:
        """Time one form at one size; what this device cannot do is left out from then on, and `lacking` says why."""
        if form in self.lacking or f"{form} {tokens}" in self.lacking:
            return
        try:
            found = getattr(self, form.replace("-", "_"))(tokens)
        except torch.OutOfMemoryError:
            self.lacking[f"{form} {tokens}"] = "needs more memory than the device has"
            return
        except RuntimeError as error:  # a grouped product that this GPU or this torch does not know
            if form != GROUPED:
                raise
            self.lacking[form] = str(error).splitlines()[0][:200]
            return
        if repetition >= 0:
            self.rows += [(form, tokens, expert, repetition, ns) for expert, ns in found]

    def turn(self) -> list[int]:
        """Return the experts that are next in turn."""
        count = len(self.experts)
        chosen = [(self.last + at) % count for at in range(min(self.plan.visits, count))]
        self.last = (chosen[-1] + 1) % count
        return chosen

    def drawn(self, rows: int) -> torch.Tensor:
        """Return inputs [rows, M]."""
        stack = self.experts.stacks[0]
        return torch.randn((rows, stack.shape[1]), dtype=stack.dtype, device=self.device)

    def clocked(self, work: Callable[[], object]) -> int:
        """Return the ns from now until some work is done."""
        synchronise(self.device)
        started = time.perf_counter_ns()
        work()
        synchronise(self.device)
        return time.perf_counter_ns() - started

    def wall(self, tokens: int) -> list[tuple[int, int]]:
        """Return (expert, ns) of experts that run alone, by the wall clock."""
        x_NM = self.drawn(tokens)
        return [(e, self.clocked(lambda e=e: self.experts.run(e, x_NM))) for e in self.turn()]

    def event(self, tokens: int) -> list[tuple[int, int]]:
        """Return (expert, ns) of experts that run alone, by the GPU's own clock."""
        x_NM, chosen = self.drawn(tokens), self.turn()
        took_ns = self.by_events([lambda e=e: self.experts.run(e, x_NM) for e in chosen])
        return list(zip(chosen, took_ns, strict=True))

    def by_events(self, works: list[Callable[[], object]]) -> list[int]:
        """Return what each piece of work takes the GPU, all of them launched while it is busy with something else."""
        marks = [torch.cuda.Event(enable_timing=True) for _ in range(len(works) + 1)]
        torch.mm(self.square, self.square)
        marks[0].record()
        for work, mark in zip(works, marks[1:], strict=True):
            work()
            mark.record()
        synchronise(self.device)
        return [round(begun.elapsed_time(ended) * 1e6) for begun, ended in pairwise(marks)]

    def dense(self, x_NM: torch.Tensor) -> torch.Tensor:
        """Return the weights [N, K] of tokens' experts: norm, router, choice."""
        logits_NE = self.model.gates[0].logits(self.model.normed(0, x_NM))
        return logits_NE.topk(self.model.config.k, dim=1).values.softmax(1)

    def dense_wall(self, tokens: int) -> list[tuple[int, int]]:
        """Return (0, ns) of dense blocks that run alone, by the wall clock."""
        x_NM = self.drawn(tokens).float()
        return [(0, self.clocked(lambda: self.dense(x_NM))) for _ in range(self.plan.visits)]

    def dense_event(self, tokens: int) -> list[tuple[int, int]]:
        """Return (0, ns) of dense blocks that run alone, by the GPU's own clock."""
        x_NM = self.drawn(tokens).float()
        return [(0, ns) for ns in self.by_events([lambda: self.dense(x_NM)] * self.plan.visits)]

    def looped(self, tokens: int) -> list[tuple[int, int]]:
        """Return the ns of a step whose experts run one after another."""
        parts = self.drawn(tokens * len(self.experts)).split(tokens)
        return [(ALL_EXPERTS, self.clocked(lambda: [self.experts.run(e, part) for e, part in enumerate(parts)]))]

    def grouped(self, tokens: int) -> list[tuple[int, int]]:
        """Return the ns of a step whose experts run in two grouped products."""
        count = len(self.experts)
        x_NM = self.drawn(tokens * count)
        ends_E = torch.arange(1, count + 1, dtype=torch.int32, device=self.device) * tokens
        gate_up_EMH, down_EHM = self.experts.stacks

        def step() -> torch.Tensor:
            gate_NH, up_NH = self.product(x_NM, gate_up_EMH, offs=ends_E).chunk(2, dim=1)
            return self.product(functional.silu(gate_NH).mul_(up_NH), down_EHM, offs=ends_E)

        return [(ALL_EXPERTS, self.clocked(step))]
