"""Memory and time of every dispatch on one case: current and peak bytes, in all and per expert, and time per batch."""

import csv
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from statistics import quantiles

import numpy as np
import torch

from moe_replay.collect.devices import synchronise
from moe_replay.collect.dispatch.capacity import Capacity
from moe_replay.collect.dispatch.dispatch_names import DISPATCHES, Dispatch, build_dispatch
from moe_replay.collect.dispatch.footprint import dynamic_peak_bytes, gathered_peak_bytes, static_peak_bytes
from moe_replay.collect.dispatch.static_dispatch import StaticDispatch
from moe_replay.collect.models.experts import Experts
from moe_replay.collect.real_layers.gated_experts import GatedExperts
from moe_replay.collect.studies.allocation import Allocation, allocation_on
from moe_replay.collect.studies.gating_memory_cases import Case
from moe_replay.traces.command_line.files import replacing

PEAKS = {"dynamic": dynamic_peak_bytes, "gathered": gathered_peak_bytes}  # predicted, of dispatches without a capacity


@dataclass(frozen=True)
class MemoryRow:
    """One line of the table. Bytes are of activations unless they say otherwise; None where nothing was run.

    `slots`: rows per expert of static dispatch. `predicted_peak_bytes`: counted by hand (`collect.dispatch.footprint`).
    `choices`: what the gate asked for; `dropped`: what static dispatch left out; `rows`: what the experts computed.
    `expert_current_bytes`: an expert's input and output rows; `expert_peak_bytes`: its hidden rows too. Their means are
    over all experts, idle ones included.
    """

    router: str
    like: str
    dispatch: str
    convention: str
    capacity_factor: float | None
    batch: int
    experts: int
    k: int
    width: int
    hidden: int
    slots: int | None
    weights_bytes: int
    input_bytes: int
    choices: int
    dropped: int
    predicted_peak_bytes: int
    waste_predicted: float | None
    rows: int | None = None
    current_bytes: int | None = None
    peak_bytes: int | None = None
    expert_rows_mean: float | None = None
    expert_rows_max: int | None = None
    expert_current_bytes_mean: float | None = None
    expert_current_bytes_max: int | None = None
    expert_peak_bytes_mean: float | None = None
    expert_peak_bytes_max: int | None = None
    repetitions: int | None = None
    median_ms: float | None = None
    lower_quartile_ms: float | None = None
    upper_quartile_ms: float | None = None
    status: str = "ok"
    reason: str = ""


class WatchedExperts:
    """A layer's experts, which note rows and bytes around each expert's own run."""

    def __init__(self, experts: Experts | GatedExperts, allocation: Allocation) -> None:
        self.experts, self.outputs, self.allocation = experts, experts.outputs, allocation
        self.rows_E, self.current_E, self.peak_E = np.zeros((3, len(experts)), dtype=np.int64)

    def __len__(self) -> int:
        return len(self.experts)

    def runners(self) -> list[Callable[[torch.Tensor], torch.Tensor]]:
        """Return one watched function per expert."""
        runs = enumerate(self.experts.runners())
        return [lambda x_NM, at=at, run=run: self.watch(at, run, x_NM) for at, run in runs]

    def run_each(self, inputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Return the outputs of every expert that has rows, for its own batch."""
        return [run(part) for part, run in zip(inputs, self.runners(), strict=True) if len(part)]

    def watch(self, expert: int, run: Callable[[torch.Tensor], torch.Tensor], x_NM: torch.Tensor) -> torch.Tensor:
        """Run one expert; its input rows count to it, whoever allocated them."""
        before = self.allocation.allocated()
        self.allocation.reset_peak()
        output_NO = run(x_NM)
        self.rows_E[expert] = len(x_NM)
        self.current_E[expert] = self.allocation.allocated() - before + x_NM.nbytes
        self.peak_E[expert] = self.allocation.peak() - before + x_NM.nbytes
        return output_NO


def measure_case(case: Case, repetitions: int, most_bytes: float, seed: int) -> list[MemoryRow]:
    """Return one row per dispatch and capacity; what would exceed `most_bytes`, weights included, is not run."""
    runs, rows = {}, []
    for name in DISPATCHES:
        for capacity in case.capacities if DISPATCHES[name] is StaticDispatch else (None,):
            dispatch = build_dispatch(name, capacity)
            row = described(case, name, dispatch, capacity)
            needed = row["predicted_peak_bytes"] + row["input_bytes"] + row["weights_bytes"]
            if needed > most_bytes:
                limit = f"needs {needed / 2**30:.2f} GiB, allowed {most_bytes / 2**30:.2f}"
                row |= {"status": "skipped", "reason": limit}
            else:
                runs[len(rows)] = dispatch
                row |= measure_memory(case, dispatch)
            rows.append(row)
    for at, times in measure_times(case, runs, repetitions, seed).items():
        rows[at] |= times
    return [MemoryRow(**row) for row in rows]


def described(case: Case, name: str, dispatch: Dispatch, capacity: Capacity | None) -> dict:
    """Return what is known before anything runs: sizes, drops, the predicted peak and the predicted waste."""
    sizes, choices = case.sizes, sum(case.load_E)
    row = {
        "router": case.router, "like": case.like, "dispatch": name, "batch": sizes.tokens, "experts": sizes.experts,
        "k": sizes.k, "width": sizes.width, "hidden": sizes.hidden, "weights_bytes": case.weights_bytes,
        "input_bytes": case.input_bytes, "choices": choices, "dropped": 0, "waste_predicted": 1.0, "convention": "",
        "capacity_factor": None, "slots": None,
    }  # fmt: skip
    if capacity is None:
        return row | {"predicted_peak_bytes": PEAKS[name](sizes, case.load_E)}
    slots, dropped = dispatch.slots(case.experts_NK, sizes.experts), dispatch.dropped(case.experts_NK, sizes.experts)
    return row | {
        "convention": capacity.convention, "capacity_factor": capacity.factor, "slots": slots, "dropped": dropped,
        "predicted_peak_bytes": static_peak_bytes(sizes, slots, choices - dropped),
        "waste_predicted": capacity.waste(sizes.experts, sizes.k),
    }  # fmt: skip


@torch.no_grad()
def measure_memory(case: Case, dispatch: Dispatch) -> dict:
    """Return current and peak bytes of a dispatch, and in a second run those around each expert."""
    device = case.x_NM.device
    batch = case.x_NM, case.weights_NK, case.experts_NK
    dispatch(*batch, case.experts)  # on a GPU the matrix library takes its workspace now
    with allocation_on(device) as allocation:
        output_NO = dispatch(*batch, case.experts)
        found = {"current_bytes": allocation.allocated(), "peak_bytes": allocation.peak()}
        del output_NO
    with allocation_on(device) as allocation:
        watched = WatchedExperts(case.experts, allocation)
        dispatch(*batch, watched)
    found |= {"rows": int(watched.rows_E.sum())}
    for name, values_E in (
        ("rows", watched.rows_E), ("current_bytes", watched.current_E), ("peak_bytes", watched.peak_E)
    ):  # fmt: skip
        found |= {f"expert_{name}_mean": float(values_E.mean()), f"expert_{name}_max": int(values_E.max())}
    return found


@torch.no_grad()
def measure_times(case: Case, runs: dict[int, Dispatch], repetitions: int, seed: int) -> dict[int, dict]:
    """Return median and quartiles of the milliseconds per batch; all dispatches in turn, in a new order every round.

    One round before the first is not counted. Nothing is tracked meanwhile.
    """
    draws = np.random.default_rng(seed)
    times: dict[int, list[float]] = {at: [] for at in runs}
    for _ in range(repetitions + 1):
        for at in draws.permutation(list(runs)).tolist():
            synchronise(case.x_NM.device)
            started = time.perf_counter_ns()
            runs[at](case.x_NM, case.weights_NK, case.experts_NK, case.experts)
            synchronise(case.x_NM.device)
            times[at].append((time.perf_counter_ns() - started) / 1e6)
    return {at: time_columns(found[1:]) for at, found in times.items()}


def time_columns(times_ms: list[float]) -> dict:
    """Return the quartiles of some times; one time alone is all three."""
    low, median, high = quantiles(times_ms, n=4, method="inclusive") if len(times_ms) > 1 else times_ms * 3
    shown = {"lower_quartile_ms": low, "median_ms": median, "upper_quartile_ms": high}
    return {"repetitions": len(times_ms)} | {name: round(value, 4) for name, value in shown.items()}


def write_memory(rows: list[MemoryRow], path: Path) -> None:
    """Write the table as CSV; None is an empty cell."""
    names = [field.name for field in fields(MemoryRow)]
    with replacing(path) as temporary, open(temporary, "w", newline="") as opened:
        writer = csv.writer(opened)
        writer.writerow(names)
        writer.writerows([getattr(row, name) for name in names] for row in rows)
