"""Small logs of masked gating, damaged experts and plans, in the form that collectors and the planner leave them."""

import json

from moe_replay.simulate.commands.miss_curves_command import write_curves
from moe_replay.simulate.config.memory_config import MemoryConfig
from moe_replay.simulate.config.run_config import RunConfig
from moe_replay.simulate.config.workload import trace_workload
from moe_replay.simulate.engines.simpy_engine import simulate
from moe_replay.simulate.misses.miss_curves import curve_rows
from moe_replay.simulate.policies.run_log import run_header
from moe_replay.traces.command_line.files import write_rows

CONFIGS = [
    RunConfig(arrivals="closed", in_flight=1),
    *(RunConfig(arrivals="closed", in_flight=1, memory=MemoryConfig(slots=4, miss=miss, link_latency_ns=5000))
      for miss in ("load", "block")),
]  # fmt: skip


def write_memory_runs(folder, simulated, trace):
    """Write executed runs that take a tenth longer than the simulated ones: all resident, and both ways to load."""
    for config in CONFIGS:
        for place, cost in ((folder / "memory-executed", 1100), (simulated, 1000)):
            header = run_header("executed" if cost == 1100 else "simulated", config, "toy", "t", None, {})
            if cost == 1100:
                header |= {"quality": {"bits_per_byte": 2.0}, "device_bytes": 500}
            simulate(trace_workload(trace, config), config, lambda *_, cost=cost: cost, header).save(place, config.name)


def write_misses(simulated, name, trace):
    """Write what `simulate miss-curves` counts on a trace."""
    (simulated / "misses").mkdir(parents=True, exist_ok=True)
    write_curves(simulated / "misses" / f"{name}.csv", curve_rows(trace), trace.digest)


def write_swapping_logs(folder):
    """Write everything that the tables of swapping read, but for executed runs."""
    write_rows(folder / "swap-quality.csv", list(quality_rows()))
    sizes = {"experts": 8, "layers": 2, "expert_bytes": 100, "model_bytes": 2000, "dense": {"model_bytes": 700}}
    (folder / "swap-quality.json").write_text(json.dumps(sizes))
    write_rows(folder / "skip-exchange.csv", list(altered_rows()))
    write_rows(folder / "swap-plans.csv", [plan_row("exact", "4.4", 1e3, 0.5), plan_row("uniform", "3.3", 1e3, 0.7)])
    write_rows(folder / "swap-verified.csv", [measured_row("4.4", 0.6, 1001.0), measured_row("3.3", 0.8, 900.0)])


def quality_rows():
    shared = {"lost_mass": 0.3, "measure": "bits_per_byte", "units": 40, "quality_error": 0.1, "loss_error": 0.02}
    ways = [("original", None, None, None, None, 0.0), ("importance", "redirect", 4, None, None, 0.6),
            ("swapmoe", "redirect", 4, 8, None, 0.4), ("random", "redirect", 4, None, 0, 0.8),
            ("random", "redirect", 4, None, 1, 1.0), ("dense", None, None, None, None, 0.1)]  # fmt: skip
    for method, miss, slots, period, seed, loss in ways:
        yield {"method": method, "miss": miss, "slots": slots, "period": period, "seed": seed, "quality": 1.5 + loss,
               "loss": loss, **shared}  # fmt: skip


def altered_rows():
    shared = {"measure": "bits_per_byte", "units": 40, "loss_error": 0.02}
    yield {"treatment": "none", "place": None, "share": None, "seed": None, "quality": 1.5, "loss": 0.0, **shared}
    for seed in (0, 1):
        yield {"treatment": "skip", "place": "all layers", "share": 0.5, "seed": seed, "quality": 2.5 + seed,
               "loss": 1.0 + seed, **shared}  # fmt: skip


def plan_row(search, slots, memory, loss):
    return {"memory_budget": memory, "latency_budget": None, "search": search, "slots": slots, "period": 0,
            "predicted_loss": loss, "predicted_latency_ms": 3.0, "predicted_memory_bytes": memory,
            "seconds": 0.1}  # fmt: skip


def measured_row(slots, loss, memory):
    return {"slots": slots, "period": 0, "measure": "bits_per_byte", "units": 40, "quality": 2.0, "quality_error": 0.1,
            "loss": loss, "loss_error": 0.1, "lost_mass": 0.3, "latency_ms": 3.3, "latency_p95_ms": 4.4,
            "memory_bytes": memory, "experts": 8, "k": 4}  # fmt: skip
