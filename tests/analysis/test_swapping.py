"""Tables of expert memory from logs: misses, executed runs beside simulated ones, quality, plans."""

import json

import numpy as np
import pandas as pd
import pytest

from analysis.inputs import Inputs
from analysis.log_sets import find_log_sets
from analysis.miss_ratio import build_miss_ratio
from analysis.swap_budget import build_swap_budget
from analysis.swapping import build_swapping
from simulate.engine import simulate
from simulate.policies.config import RunConfig
from simulate.policies.memory.config import MemoryConfig
from simulate.policies.recording import run_header
from simulate.policies.workload import trace_workload
from traces.files import write_rows
from traces.synthetic import SyntheticSpec, synthetic_trace
from traces.trace_file import save_trace

CONFIGS = [
    RunConfig(arrivals="closed", in_flight=1),
    *(RunConfig(arrivals="closed", in_flight=1, memory=MemoryConfig(slots=4, miss=miss, link_latency_ns=5000))
      for miss in ("load", "block")),
]  # fmt: skip


@pytest.fixture(scope="module")
def trace():
    spec = SyntheticSpec(sequences=6, layers=2, experts=8, k=2, prompt=(3, 5), decode=(5, 9))
    return synthetic_trace(spec, np.random.default_rng(0)).trace


@pytest.fixture
def logs(tmp_path, trace):
    """A set `toy/text` with everything, its executed runs taking a tenth longer than simulated."""
    folder, simulated = tmp_path / "logs" / "toy" / "text", tmp_path / "simulated" / "toy" / "text" / "memory-executed"
    folder.mkdir(parents=True)
    save_trace(trace, folder / "language-decode.trace.parquet")
    for config in CONFIGS:
        for place, cost in ((folder / "memory-executed", 1100), (simulated, 1000)):
            header = run_header("executed" if cost == 1100 else "simulated", config, "toy", "t", None, {})
            if cost == 1100:
                header |= {"quality": {"bits_per_byte": 2.0}, "device_bytes": 500}
            simulate(trace_workload(trace, config), config, lambda *_, cost=cost: cost, header).save(place, config.name)
    write_rows(folder / "swap-quality.csv", list(quality_rows()))
    sizes = {"experts": 8, "layers": 2, "expert_bytes": 100, "model_bytes": 2000, "dense": {"model_bytes": 700}}
    (folder / "swap-quality.json").write_text(json.dumps(sizes))
    write_rows(folder / "skip-exchange.csv", list(altered_rows()))
    write_rows(folder / "swap-plans.csv", [plan_row("exact", "4.4", 1e3, 0.5), plan_row("uniform", "3.3", 1e3, 0.7)])
    write_rows(folder / "swap-verified.csv", [measured_row("4.4", 0.6, 1001.0), measured_row("3.3", 0.8, 900.0)])
    return tmp_path


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
    return {"slots": slots, "period": 0, "loss": loss, "loss_error": 0.1, "latency_ms": 3.3, "memory_bytes": memory,
            "measure": "bits_per_byte", "quality": 2.0}  # fmt: skip


def build(function, logs):
    """Return (holes, tables, claims) of a build."""
    out = logs / "tables"
    out.mkdir(exist_ok=True)
    found = function(Inputs(find_log_sets(logs / "logs", logs / "simulated")), out)
    claims = json.loads((out / "claims.json").read_text())
    return found, {path.stem: pd.read_csv(path) for path in out.glob("*.csv")}, claims


def test_executed_runs_stand_beside_their_simulations(logs):
    found, tables, claims = build(build_swapping, logs)
    assert found == []
    rows = tables["swap_latency"].set_index("run")
    assert len(rows) == len(CONFIGS)
    resident = rows.loc[CONFIGS[0].name]
    assert resident["error"] == pytest.approx(1 / 1.1 - 1)
    assert resident["same_order"]
    loaded = rows[rows["miss"] == "load"].iloc[0]
    assert loaded["executed_hit_ratio"] == loaded["simulated_hit_ratio"]
    assert -0.1 < loaded["error"] < 0  # transfers took the same
    assert "3 moved the very same experts in the same order" in claims["swap_tradeoff"]["claim"]


def test_a_run_without_its_simulation_is_shown_alone(logs):
    for path in (logs / "simulated").rglob("*block*"):
        path.unlink()
    found, tables, _ = build(build_swapping, logs)
    assert found == []
    rows = tables["swap_latency"]
    assert rows.loc[rows["miss"] == "block", "simulated_mean_ms"].isna().all()


def test_quality_is_compared_at_equal_memory(logs):
    _, tables, claims = build(build_swapping, logs)
    rows = tables["swap_tradeoff"].set_index("method")
    assert rows.loc["random", "loss"] == pytest.approx(0.9)
    assert rows.loc["random", "choices"] == 2
    assert rows.loc["random", "loss_half_width"] > rows.loc["importance", "loss_half_width"]
    assert rows.loc["swapmoe", "memory_bytes"] == 2000 - 4 * 2 * 100
    assert rows.loc["original", "memory_share"] == 1
    assert rows.loc["dense", "memory_bytes"] == 700
    claim = claims["swap_tradeoff"]["claim"]
    assert "with 4 of 8 experts resident (memory -40%) SwapMoE (period 8) loses 0.400" in claim
    assert "importance 0.600" in claim
    assert "all experts resident" in claim
    assert "skip in all layers 1.500" in claims["skip_exchange"]["claim"]


def test_plans_that_break_a_budget_are_counted(logs):
    found, tables, claims = build(build_swap_budget, logs)
    assert found == []
    rows = tables["swap_budget"].set_index("search")
    assert not rows.loc["exact", "memory_kept"]
    assert rows.loc["uniform", "memory_kept"]
    assert (
        "1 of 2 plans kept both budgets when executed (broken: exact at 0.0 MB (memory))"
        in (claims["swap_budget"]["claim"])
    )
    assert "0.600 against 0.800" in claims["swap_budget"]["claim"]


def test_misses_never_fall_below_the_optimum(logs):
    found, tables, claims = build(build_miss_ratio, logs)
    assert found == []
    for order, own in tables["miss_ratio"].groupby("order"):
        table = own.pivot(index="slots", columns="policy", values="misses")
        assert (table.ge(table["belady"], axis=0)).all(axis=None), order
        assert np.all(np.diff(table["belady"]) <= 0)
    assert "language-decode: with 4 slots per layer" in claims["miss_ratio"]["claim"]


@pytest.mark.parametrize(
    ("function", "table", "damage", "reason"),
    [
        (build_swapping, "swap_tradeoff", "swap-quality.json", "no such file"),
        (build_swapping, "swap_tradeoff", "swap-quality.csv", "column loss is missing"),
        (build_swapping, "skip_exchange", "skip-exchange.csv", "column loss is missing"),
        (build_swap_budget, "swap_budget", "swap-verified.csv", "no such file"),
    ],
)
def test_a_damaged_log_is_a_hole_with_a_name(logs, function, table, damage, reason):
    path = logs / "logs" / "toy" / "text" / damage
    if "column" in reason:
        pd.read_csv(path).drop(columns="loss").to_csv(path, index=False)
    else:
        path.unlink()
    found, tables, _ = build(function, logs)
    assert any(reason in line for line in found)
    assert set(tables[table]["status"]) <= {"missing", "failed"}


@pytest.mark.parametrize("function", [build_swapping, build_swap_budget, build_miss_ratio])
def test_no_logs_at_all_are_a_hole(tmp_path, function):
    folder = tmp_path / "logs" / "toy" / "digits"
    folder.mkdir(parents=True)
    (folder / "quality.csv").write_text("k\n")
    found, _, claims = build(function, tmp_path)
    assert found
    assert claims
