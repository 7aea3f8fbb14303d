"""Rows about skew: what a served layer takes with equal, skewed and recorded selections, beside the cluster model.

Letters: S steps, N tokens of a step, L layers, K experts of a token, E experts, X layers of all steps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from moe_replay.simulate.config.cluster_config import ClusterConfig
from moe_replay.simulate.config.costs import CostModel
from moe_replay.simulate.config.run_config import RunConfig
from moe_replay.simulate.config.workload import build_workload
from moe_replay.simulate.end_to_end.step_rows import costs_name
from moe_replay.simulate.engines.engine_choice import simulate
from moe_replay.simulate.rebalancing.load_points import points_of_rows
from moe_replay.simulate.skew.layer_rule import LayerRule, one_after_another_ns
from moe_replay.simulate.skew.spread_tokens import spread_tokens
from moe_replay.traces.errors import InputError
from moe_replay.traces.file.trace_file import load_trace
from moe_replay.traces.runs.cost_table import CostTable
from moe_replay.traces.runs.run_window import whole_run
from moe_replay.traces.selections import Trace
from moe_replay.traces.served_layers.served_times import BALANCED, ServedTimes

RECORDED = "recorded"  # the spread of a trace's own selections
AN_EXPERT = (0, 1)  # layer and block of the curve that experts share


@dataclass(frozen=True)
class Asked:
    """Steps of every number of `tokens` on every number of `devices`; None leaves a model out.

    `costs` are of an expert's batch, over `cluster`, the links between devices; `roofline` is an estimate of them. Of a
    trace so many `steps` are taken; `seed` draws power laws.
    """

    tokens: tuple[int, ...]
    devices: tuple[int, ...]
    costs: CostModel | None = None
    cluster: ClusterConfig | None = None
    roofline: CostTable | None = None
    steps: int = 32
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Steps:
    """Steps of one spread: `experts_SNLK`, with -1 where a token has no expert."""

    spread: str
    trace: str
    experts_SNLK: np.ndarray
    experts: int

    @property
    def load_XE(self) -> np.ndarray:
        """Selections of every expert in every layer of every step."""
        steps, _, layers, _ = self.experts_SNLK.shape
        place = np.arange(steps * layers).reshape(steps, 1, layers, 1) * self.experts + self.experts_SNLK
        cells = place[self.experts_SNLK >= 0]
        return np.bincount(cells, minlength=steps * layers * self.experts).reshape(steps * layers, self.experts)


def checked_trace(path: Path, served: ServedTimes) -> Trace:
    """Return a trace; InputError where its layers are others than the served one."""
    trace, model = load_trace(path), served.header["model"]
    found = trace.header.model.experts, trace.header.model.used_k
    if found != (model["experts"], model["k"]):
        raise InputError(
            f"{path}: has {found[0]} experts, k {found[1]}; allowed: {model['experts']}, k {model['k']}, "
            f"as {served.name} was measured"
        )
    return trace


def steps_of(served: ServedTimes, traces: dict[str, Trace], tokens: int, most: int, seed: int) -> list[Steps]:
    """Return steps of so many tokens: of every measured spread, and `most` of every trace, from all over it."""
    model, rng = served.header["model"], np.random.default_rng([seed, tokens])
    experts, k = model["experts"], model["k"]
    found = [
        Steps(spread, "", spread_tokens(spread, tokens, experts, k, rng)[:, :, None], experts)
        for spread in served.spreads
    ]  # fmt: skip
    for name, trace in traces.items():
        if tokens <= trace.T:
            recorded_SNLK = points_of_rows(trace, name, "all", np.ones(trace.T, bool), tokens).experts_SNLK
            check_k(recorded_SNLK, k, name)
            taken = np.unique(np.linspace(0, len(recorded_SNLK) - 1, most).astype(int))
            found.append(Steps(RECORDED, name, recorded_SNLK[taken], experts))
    return found


def check_k(experts_SNLK: np.ndarray, k: int, name: str) -> None:
    """Refuse tokens that have not k experts in every layer: balanced steps, beside which they are put, have k."""
    found_SNL = (experts_SNLK >= 0).sum(3)
    if (wrong := found_SNL[found_SNL != k]).size:
        raise InputError(
            f"{name}: {wrong.size:,} rows of a token and layer have other than {k} experts, the first {wrong[0]}; "
            f"allowed: {k} in each, as the layer was measured (`traces regate --k`, `import --leave-out unrouted`)"
        )


def skew_rows(
    served: ServedTimes, traces: dict[str, Trace], asked: Asked, advance: Callable[[], object] = lambda: None
) -> list[dict]:
    """Return a row for every number of tokens and devices and every spread; `over_balanced` beside the balanced one.

    InputError for what was not measured, and for traces that are shorter than every step.
    """
    for name, trace in traces.items():
        if min(asked.tokens) > trace.T:
            raise InputError(f"{name}: {trace.T} tokens, allowed: a step at least ({min(asked.tokens)})")
    rules = {devices: LayerRule(served, devices) for devices in asked.devices}
    rows = []
    for tokens in asked.tokens:
        held = steps_of(served, traces, tokens, asked.steps, asked.seed)
        for devices in asked.devices:
            own = [row_of(served, rules[devices], steps, tokens, asked) for steps in held]
            for row in own:
                for name, over in (("layer_us", "over_balanced"), ("cluster_us", "cluster_over_balanced")):
                    row[over] = row[name] / own[0][name] if row[name] is not None else None
            rows += own
            advance()
    return rows


def row_of(served: ServedTimes, rule: LayerRule, steps: Steps, tokens: int, asked: Asked) -> dict:
    """Return the row of one spread; the balanced ones come first."""
    load_XE, devices = steps.load_XE, rule.devices
    measured_us = None if steps.trace else served.layer_ns(devices, steps.spread, tokens) / 1e3
    # Of what was measured the rule only shows its error, so it may be silent there; of a trace it is the answer.
    rule_us = rule.layer_ns(load_XE).mean() / 1e3 if steps.trace or rule.reaches(load_XE) else None
    load_XD = load_XE.reshape(len(load_XE), devices, -1).sum(2)
    heaviest_XE = load_XE.reshape(len(load_XE), devices, -1)[np.arange(len(load_XE)), load_XD.argmax(1)]
    exchange_ns = served.exchange_ns(devices, tokens / devices) if devices > 1 else {}
    return {
        "served": served.name, "dtype": served.header["model"]["dtype"], "step_tokens": tokens, "devices": devices,
        "spread": steps.spread, "trace": steps.trace,
        "layer_us": rule_us if steps.trace else measured_us, "over_balanced": None, "rule_us": rule_us,
        "rule_error_percent": 100 * (rule_us / measured_us - 1) if rule_us and measured_us else None,
        "device_max_over_mean": float((load_XD.max(1) / load_XD.mean(1)).mean()),
        "active_experts_share": float((heaviest_XE > 0).mean()),
        "exchange_us": min(exchange_ns.values()) / 1e3 if exchange_ns else None,
        **modelled(steps, devices, asked),
    }  # fmt: skip


def modelled(steps: Steps, devices: int, asked: Asked) -> dict:
    """Return what the cluster model says of the same selections; None for what is not asked."""
    found = dict.fromkeys(
        ("experts_us", "roofline_us", "cluster_us", "cluster_over_balanced", "links", "step_costs", "experts_dtype")
    )
    if asked.costs is not None and asked.costs.table is not None:
        layer = asked.costs.table.header.get("model") or {}
        found |= {"step_costs": costs_name(asked.costs), "experts_dtype": layer.get("dtype")}
    tables = {"experts_us": asked.costs.table if asked.costs else None, "roofline_us": asked.roofline}
    for name, table in tables.items():
        if table is not None:
            found[name] = one_after_another_ns(table.curve(*AN_EXPERT), steps.load_XE, devices).mean() / 1e3
    if asked.costs is not None and asked.cluster is not None:
        found |= {"cluster_us": layer_us(steps, devices, asked), "links": asked.cluster.links}
    return found


def layer_us(steps: Steps, devices: int, asked: Asked) -> float:
    """Return the mean time of a layer of the steps, simulated in lockstep over links; one device has none."""
    count, tokens, layers, k = steps.experts_SNLK.shape
    row_T = np.arange(count * tokens, dtype=np.int32)
    workload = build_workload(
        steps.experts_SNLK.reshape(-1, layers, k).astype(np.int16), np.zeros_like(row_T), row_T // tokens, steps.experts
    )
    cluster = asked.cluster if devices > 1 else None
    config = RunConfig(scheduler="lockstep", arrivals="steps", devices=devices, dense=False, cluster=cluster)
    if cluster is not None:
        workload = replace(workload, home_T=row_T % tokens % devices)
    window = whole_run(simulate(workload, config, asked.costs.cost(rng=None), {"config": config.as_dict()}))
    return (window.end_ns - window.start_ns) / count / layers / 1e3


def work_of(asked: Asked) -> int:
    """Return how many times `skew_rows` calls `advance`."""
    return len(asked.tokens) * len(asked.devices)


def median_error(rows: Sequence[dict]) -> tuple[float, float] | None:
    """Return (median, largest) absolute error of the rule in percent over skewed rows that were measured."""
    errors = [
        abs(row["rule_error_percent"]) for row in rows
        if row["rule_error_percent"] is not None and row["spread"] != BALANCED
    ]  # fmt: skip
    return (float(np.median(errors)), max(errors)) if errors else None
