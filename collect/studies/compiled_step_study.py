"""Training iterations as torch runs them and as inductor compiles them: peak memory and time, under checkpointing.

Four ways beside eager: torch.compile of forward and backward pass with the optimizer behind them, a whole iteration as
one graph (`compile_step`), and both with the pass that orders inductor's operations for the least peak.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from types import FunctionType

import torch
from torch import nn

from moe_replay.collect.dispatch.capacity import Capacity
from moe_replay.collect.gates.switch import Switch
from moe_replay.collect.graphs.checkpointing import layer_run
from moe_replay.collect.graphs.step_optimizers import OPTIMIZERS
from moe_replay.collect.graphs.step_subjects import Handling, ModelSizes, Subject, own_subject
from moe_replay.collect.peak_memory.compiled_step import compile_step
from moe_replay.collect.peak_memory.inductor_pass import peak_memory_pass
from moe_replay.collect.peak_memory.step_measurement import Step, step_peak, step_times
from moe_replay.traces.errors import InputError

SIZES = ModelSizes(layers=2, experts=4)
CAPACITY = Capacity.parse("CSk/E:1.25")
# way: (does torch.compile take part, is the iteration one graph, with the pass)
WAYS = {
    "eager": (False, False, False), "compiled": (True, False, False), "compiled, pass": (True, False, True),
    "whole step": (True, True, False), "whole step, pass": (True, True, True),
}  # fmt: skip


MEASURED = ("step_peak_bytes", "step_ms", "processor_ms")
REASON = 240  # characters of a reason that are kept


@dataclass(frozen=True)
class CompiledCase:
    """An iteration with Adam of one of the project's models."""

    model: str
    batch: int
    checkpoint: str

    @property
    def key(self) -> dict:
        """What tells its rows from others'."""
        return {"model": self.model, "layers": SIZES.layers, "experts": SIZES.experts, "batch_size": self.batch,
                "checkpoint": self.checkpoint}  # fmt: skip

    def subject(self) -> Subject:
        """Return the model with dispatch of fixed shapes, without jitter: one graph holds no random numbers."""
        from moe_replay.collect.dispatch.fixed_shape_dispatch import FixedShapeDispatch  # late: slow to import

        how = Handling(layer_run(self.checkpoint), FixedShapeDispatch(CAPACITY))
        subject = own_subject(self.model, SIZES, self.batch, 0, how)
        for module in subject.model.modules():
            if isinstance(module, Switch):
                module.jitter = 0.0
        return subject


STUDY = {
    f"{name}-b{batch}{'-ac' if checkpoint == 'layer' else ''}": CompiledCase(model, batch, checkpoint)
    for checkpoint in ("layer", "none")
    for name, model, batch in (("cls", "classifier", 512), ("vit", "vit", 64), ("lm", "language", 8))
}


def study_case(
    case: CompiledCase, seconds: float, rounds: int, on_way: Callable[[str], object] = lambda way: None
) -> list[dict]:
    """Return a row per way: peak above parameters, optimizer state and batch, and median times of the ways in turns.

    A way that refuses the model, or that inductor fails at, keeps its row, with the reason. `seconds`: for the search
    of each graph that is compiled with the pass.
    """
    device, steps, peaks, refused = torch.device("cpu"), {}, {}, {}
    for way, (compiled, whole, ordered) in WAYS.items():
        on_way(way)
        try:
            step = step_of(case.subject(), compiled, whole)
            with peak_memory_pass(seconds) if ordered else nullcontext():
                step()  # compiles
        except (InputError, RuntimeError) as error:  # what inductor fails at is a RuntimeError
            refused[way] = " ".join(f"{error}".split())[:REASON]
            continue
        steps[way], peaks[way] = step, step_peak(step, device)
    on_way("times")
    times = step_times(steps, device, rounds)
    torch.compiler.reset()
    found = {
        way: (peaks[way], round(times[way].wall_ms, 4), round(times[way].process_ms, 4))
        if way in steps
        else (None,) * 3
        for way in WAYS
    }
    return [
        case.key | {"way": way, "rounds": rounds} | dict(zip(MEASURED, found[way], strict=True))
        | {"status": "skipped" if way in refused else "ok", "reason": refused.get(way, "")}
        for way in WAYS
    ]  # fmt: skip


def step_of(subject: Subject, compiled: bool, whole: bool) -> Step:
    """Return a function that takes one step of a model of its own."""
    model, batch = copy.deepcopy(subject.model), subject.batch
    optimizer = OPTIMIZERS["adam"].build(model.parameters())
    if whole:
        taken = compile_step(model, subject.loss, optimizer)
        return lambda: taken(*batch)
    loss = torch.compile(with_own_code(subject.loss)) if compiled else subject.loss
    return trained_by(optimizer, loss, model, batch)


def with_own_code(function: FunctionType) -> FunctionType:
    """Return a copy of a function: torch keeps what it compiled by the code, and would run it for others too."""
    code = function.__code__.replace(co_name=f"{function.__name__}_copy")
    return FunctionType(code, function.__globals__, function.__name__, function.__defaults__, function.__closure__)


def trained_by(
    optimizer: torch.optim.Optimizer, loss: Callable[..., torch.Tensor], model: nn.Module, batch: tuple
) -> Step:
    """Return a step of forward pass, backward pass and optimizer, one after the other."""

    def step() -> None:
        loss(model, *batch).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step
