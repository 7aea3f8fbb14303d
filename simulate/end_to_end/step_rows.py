"""Rows about systems on clusters: a step's time and what the devices spend it on, simulated in lockstep over links."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from moe_replay.simulate.config.cluster_config import ClusterConfig
from moe_replay.simulate.config.costs import Cost, CostModel
from moe_replay.simulate.config.run_config import RunConfig
from moe_replay.simulate.config.workload import Workload, build_workload
from moe_replay.simulate.end_to_end.judged_steps import JudgedSteps
from moe_replay.simulate.end_to_end.systems import Stretch, System, stretches_of
from moe_replay.simulate.engines.cluster_steps import carry_all
from moe_replay.simulate.engines.engine_choice import simulate
from moe_replay.simulate.placing.cluster_shape import ClusterShape
from moe_replay.simulate.policies.cluster.moving_experts import SharedPorts
from moe_replay.simulate.policies.placement import PLACEMENTS, FilePlacement
from moe_replay.simulate.rebalancing.device_loads import device_loads, over_mean
from moe_replay.simulate.rebalancing.moves import HeldExperts
from moe_replay.simulate.rebalancing.replay import RebalanceRule
from moe_replay.traces.placements.expert_placement import ExpertPlacement
from moe_replay.traces.runs.cluster_statistics import cluster_statistics
from moe_replay.traces.runs.run_window import whole_run

SHARES = ("dense", "expert", "wire", "waiting", "straggler")
PER_STEP = ("inside_bytes", "network_bytes", "messages")


@dataclass(frozen=True)
class Asked:
    """Every system on every cluster of `devices`; `rule` is that of adaptive ones, `expert_bytes` what a copy has."""

    systems: tuple[System, ...]
    clusters: tuple[ClusterConfig, ...]
    devices: int
    rule: RebalanceRule
    expert_bytes: int | None = None

    def check(self) -> None:
        """Refuse clusters whose nodes are not of one size."""
        for cluster in self.clusters:
            cluster.check_devices(self.devices)

    @property
    def work(self) -> int:
        """How many times `advance` is called."""
        return len(self.systems) * len(self.clusters)


def step_rows(
    steps: JudgedSteps, asked: Asked, costs: CostModel, advance: Callable[[], object] = lambda: None
) -> list[dict]:
    """Return a row for every system and cluster; `speed_up` is over the first with the fewest parts there."""
    asked.check()
    costs.check_dense(steps.layers)
    rows, over, planned, cost = [], [], {}, costs.cost(rng=None)
    for cluster in asked.clusters:
        for system in asked.systems:
            # Who plans for nodes needs them; links and micro-batches change no plan.
            at = system, cluster.nodes
            if at not in planned:
                planned[at] = stretches_of(system, steps, asked.devices, cluster.nodes, asked.rule)
            row = row_of(system, cluster, steps, planned[at], asked.devices, cost)
            rows.append(row | copying(planned[at], cluster, steps, asked))
            over.append(cluster)
            advance()
    least = min(cluster.micro_batches for cluster in asked.clusters)
    plain_ms: dict[ClusterConfig, float] = {}
    for row, cluster in zip(rows, over, strict=True):
        if cluster.micro_batches == least:
            plain_ms.setdefault(replace(cluster, micro_batches=1), row["mean_step_ms"])
    named = {"step_costs": costs_name(costs)}
    return [
        row | {"speed_up": plain_ms[replace(cluster, micro_batches=1)] / row["mean_step_ms"]} | named
        for row, cluster in zip(rows, over, strict=True)
    ]


def costs_name(costs: CostModel) -> str:
    """Return the device and the layer whose costs these are, or the law itself."""
    layer = costs.table.header.get("model") if costs.table is not None else None
    return f"{costs.device}/{layer['name']}" if layer else costs.digest


def row_of(
    system: System, cluster: ClusterConfig, steps: JudgedSteps, stretches: Sequence[Stretch], devices: int,
    cost: Cost,
) -> dict:  # fmt: skip
    """Return the row of a system on a cluster: means over the judged steps."""
    taken_ns, sums = 0, dict.fromkeys((*SHARES, *PER_STEP), 0.0)
    for stretch in stretches:
        makespan_ns, found = simulated(stretch, cluster, steps, devices, cost)
        taken_ns += makespan_ns
        for name in SHARES:
            sums[name] += found[f"{name}_share"] * makespan_ns
        for name in PER_STEP:
            sums[name] += found[name]
    heaviest_SL = np.concatenate([heaviest(stretch, steps, devices) for stretch in stretches])
    most_SL = steps.judged_SLE.max(2) * devices / np.maximum(steps.judged_SLE.sum(2), 1)
    return {
        "phase": steps.points.phase, "step_tokens": steps.tokens, "judged_steps": steps.steps, "devices": devices,
        "nodes": cluster.nodes, "links": cluster.links, "micro_batches": cluster.micro_batches, "split": cluster.split,
        "system": system.name, "redundant": system.redundant, "known": system.known,
        "mean_step_ms": taken_ns / steps.steps / 1e6,
        **{f"{name}_ms": sums[name] / steps.steps / 1e6 for name in SHARES},
        **{f"{name}_per_step": sums[name] / steps.steps for name in PER_STEP},
        "device_max_over_mean": float(np.nanmean(heaviest_SL)), "hottest_over_device": float(most_SL.mean()),
        "dispatch_bytes": cluster.dispatch_bytes, "combine_bytes": cluster.combine_bytes,
    }  # fmt: skip


def copying(stretches: Sequence[Stretch], cluster: ClusterConfig, steps: JudgedSteps, asked: Asked) -> dict:
    """Return how often experts were placed anew, and what that copies each time: it is no part of the steps.

    `copy_ms` is until all copies are there, with nothing else on the ports; None where an expert's size is not known.
    """
    anew = list(pairwise(stretches))
    mean_ms = None
    if asked.expert_bytes is not None:
        config = RunConfig(scheduler="lockstep", devices=asked.devices, cluster=cluster)
        shape, taken_ns = ClusterShape(asked.devices, cluster.nodes), 0
        for before, after in anew:
            ports = SharedPorts(config)
            HeldExperts(before.expert_LP, shape, steps.experts, asked.expert_bytes).follow(after.expert_LP, ports, 0)
            taken_ns += carry_all(ports, 0)
        mean_ms = taken_ns / max(1, len(anew)) / 1e6
    return {
        "replans": len(anew), "copies_per_replan": sum(each.copies for each in stretches) / max(1, len(anew)),
        "copy_ms": mean_ms,
    }  # fmt: skip


def heaviest(stretch: Stretch, steps: JudgedSteps, devices: int) -> np.ndarray:
    """Return [S, L] of a stretch: selections of the heaviest device over the mean, replicas sharing evenly."""
    loads = steps.points.load_SLE[stretch.start : stretch.stop]
    return np.stack([over_mean(device_loads(load_LE, stretch.expert_LP, devices)) for load_LE in loads])


def simulated(
    stretch: Stretch, cluster: ClusterConfig, steps: JudgedSteps, devices: int, cost: Cost
) -> tuple[int, dict[str, float]]:
    """Return (ns, statistics) of a stretch of steps, one after another; shares are of the time of all devices."""
    workload = workload_of(steps, stretch, devices)
    config = RunConfig(
        scheduler="lockstep", arrivals="steps", devices=devices, cluster=cluster,
        placement=registered(stretch.expert_LP, steps, devices, cluster.nodes),
    )  # fmt: skip
    records = simulate(workload, config, cost, {"config": config.as_dict()})
    window = whole_run(records)
    return window.end_ns - window.start_ns, cluster_statistics(records, window)


def workload_of(steps: JudgedSteps, stretch: Stretch, devices: int) -> Workload:
    """Return the tokens of a stretch, a step's tokens one pass; token n of a step is at home on device n % devices."""
    served_TLK = steps.points.experts_SNLK[stretch.start : stretch.stop].reshape(
        -1, *steps.points.experts_SNLK.shape[2:]
    )
    row_T = np.arange(len(served_TLK), dtype=np.int32)
    # A step's time is that of its tokens, however they are cut into passes: one is the quickest to play.
    workload = build_workload(
        np.maximum(served_TLK, -1), np.zeros_like(row_T), row_T // steps.tokens, steps.experts
    )  # fmt: skip
    return replace(workload, home_T=row_T % steps.tokens % devices)


def registered(expert_LP: np.ndarray, steps: JudgedSteps, devices: int, nodes: int) -> str:
    """Return the name under which a run of this process finds a placement."""
    held = ExpertPlacement(
        model=steps.points.name, experts=steps.experts, devices=devices, nodes=nodes,
        layer_ids=steps.points.layer_ids, expert_LP=expert_LP,
    )  # fmt: skip
    name = f"planned_{held.digest}"
    if name not in PLACEMENTS:
        PLACEMENTS.register(name, FilePlacement(name, held))
    return name
