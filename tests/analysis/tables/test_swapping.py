"""Tables of expert memory from logs: misses, executed runs beside simulated ones, quality, plans."""

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from swapping_logs import CONFIGS, write_memory_runs, write_misses, write_swapping_logs

from moe_replay.analysis.estimates.intervals import half_width
from moe_replay.analysis.reading.inputs import Inputs
from moe_replay.analysis.reading.log_sets import find_log_sets
from moe_replay.analysis.tables.miss_ratio import build_miss_ratio
from moe_replay.analysis.tables.skip_exchange import build_skip_exchange
from moe_replay.analysis.tables.swap_budget import build_swap_budget
from moe_replay.analysis.tables.swap_latency import hit_difference
from moe_replay.analysis.tables.swap_tradeoff import build_swap_tradeoff
from moe_replay.simulate.config.memory_config import MemoryConfig
from moe_replay.traces.file.trace_file import save_trace
from moe_replay.traces.synthetic import SyntheticSpec, synthetic_trace


@pytest.fixture(scope="module")
def trace():
    spec = SyntheticSpec(sequences=6, layers=2, experts=8, k=2, prompt=(3, 5), decode=(5, 9))
    return synthetic_trace(spec, np.random.default_rng(0)).trace


@pytest.fixture
def logs(tmp_path, trace):
    """A set `toy/text` with everything, its executed runs taking a tenth longer than simulated."""
    folder, simulated = tmp_path / "logs" / "toy" / "text", tmp_path / "simulated" / "toy" / "text" / "memory-simulated"
    folder.mkdir(parents=True)
    save_trace(trace, folder / "language-decode.trace.parquet")
    write_memory_runs(folder, simulated, trace)
    write_misses(simulated.parent, "language-decode", trace)
    write_swapping_logs(folder)
    return tmp_path


def build(function, logs):
    """Return (holes, tables, claims) of a build."""
    out = logs / "tables"
    out.mkdir(exist_ok=True)
    found = function(Inputs(find_log_sets(logs / "logs", logs / "simulated")), out)
    claims = json.loads((out / "claims.json").read_text())
    return found, {path.stem: pd.read_csv(path) for path in out.glob("*.csv")}, claims


def test_executed_runs_stand_beside_their_simulations(logs):
    found, tables, claims = build(build_swap_tradeoff, logs)
    assert found == []
    rows = tables["swap_latency"].set_index("run")
    assert len(rows) == len(CONFIGS)
    resident = rows.loc[CONFIGS[0].name]
    assert resident["error"] == pytest.approx(1 / 1.1 - 1)
    assert resident["same_order"]
    loaded = rows[rows["miss"] == "load"].iloc[0]
    assert loaded["executed_hit_ratio"] == loaded["simulated_hit_ratio"]
    assert (loaded["hit_difference"], loaded["hit_difference_half"]) == (0, 0)
    assert 0 < loaded["executed_mean_half_ms"] < loaded["executed_mean_ms"]
    assert resident["transfers"] == 0 < loaded["transfers"]
    assert np.isnan(resident["hit_difference"])
    assert -0.1 < loaded["error"] < 0  # transfers took the same
    for in_flight, own in tables["swap_latency"].groupby("in_flight"):
        alone = own.loc[own["cache"] == "resident", "executed_mean_ms"].tolist()
        if in_flight == resident["in_flight"]:
            assert own["resident_mean_ms"].tolist() == pytest.approx([resident["executed_mean_ms"]] * len(own))
        assert own["resident_mean_ms"].notna().all() == bool(alone)
    assert "Of 2 that moved experts 2 moved the very same in the same order" in claims["swap_tradeoff"]["claim"]


def test_the_difference_in_hits_has_an_interval_over_tenths_where_batches_tell_hits():
    """Twenty batches: nineteen hits against all; the tenth of the run with the miss hits half as often."""

    def run(hits):
        header = {"memory": {"hits": sum(hits), "accesses": len(hits)}}
        return SimpleNamespace(header=header, batches={"block": np.ones(20, int), "hit": np.array(hits)})

    executed, simulated = run([0] + [1] * 19), run([1] * 20)
    found = hit_difference(executed, simulated, MemoryConfig())
    assert found["hit_difference"] == pytest.approx(0.05)
    assert found["hit_difference_half"] == pytest.approx(half_width(np.array([0.5] + [0.0] * 9)))
    masked = hit_difference(executed, simulated, MemoryConfig(miss="skip", filled=True))
    assert masked["hit_difference"] == pytest.approx(0.05)
    assert np.isnan(masked["hit_difference_half"])


def test_a_run_without_its_simulation_is_shown_alone(logs):
    for path in (logs / "simulated").rglob("*block*"):
        path.unlink()
    found, tables, _ = build(build_swap_tradeoff, logs)
    assert found == []
    rows = tables["swap_latency"]
    assert rows.loc[rows["miss"] == "block", "simulated_mean_ms"].isna().all()


def test_quality_is_compared_at_equal_memory(logs):
    _, tables, claims = build(build_swap_tradeoff, logs)
    rows = tables["swap_tradeoff"].set_index("method")
    assert rows.loc["random", "loss"] == pytest.approx(0.9)
    assert rows.loc["random", "draws"] == 2
    assert rows.loc["random", "loss_half_width"] > rows.loc["importance", "loss_half_width"]
    assert rows.loc["swapmoe", "memory_bytes"] == 2000 - 4 * 2 * 100
    assert rows.loc["original", "memory_share"] == 1
    assert rows.loc["dense", "memory_bytes"] == 700
    claim = claims["swap_tradeoff"]["claim"]
    assert "with 4 of 8 experts resident (memory -40%) SwapMoE (period 8) loses 0.400" in claim
    assert "importance 0.600" in claim
    assert "A dense model (memory -65%) loses 0.100 ± 0.039." in claim
    assert "ms with all experts resident" in claim
    assert "ms on demand, " in claim
    assert "ms on demand with loads that block" in claim
    _, _, claims = build(build_skip_exchange, logs)
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


@pytest.mark.parametrize(
    ("options", "known"),
    [
        (" --trace a --known b", "held-out"),
        (" --trace a --known a", "hindsight"),
        (" --trace a", "hindsight"),
        (None, "not said"),
    ],
)
def test_plans_say_what_importance_was_learned_from(logs, options, known):
    """Measurements made before they noted it say it by their command, or not at all."""
    path = logs / "logs" / "toy" / "text" / "swap-verified.csv"
    if options:
        command = f"python -m collect swap-profile{options}"
        path.with_suffix(".json").write_text(json.dumps({"provenance": {"command": command}}))
    _, tables, _ = build(build_swap_budget, logs)
    assert set(tables["swap_budget"]["known"]) == {known}
    pd.read_csv(path, dtype={"slots": str}).assign(known="none").to_csv(path, index=False)
    _, tables, _ = build(build_swap_budget, logs)
    assert set(tables["swap_budget"]["known"]) == {"none"}


def test_a_latency_budget_is_held_against_what_was_measured(logs):
    """Both plans took 3.3 ms: at most 3.2 is broken, at most 3.3 is kept."""
    path = logs / "logs" / "toy" / "text" / "swap-plans.csv"
    pd.read_csv(path, dtype={"slots": str}).assign(latency_budget=[3.2, 3.3]).to_csv(path, index=False)
    _, tables, claims = build(build_swap_budget, logs)
    assert tables["swap_budget"].set_index("search")["latency_kept"].to_dict() == {"exact": False, "uniform": True}
    assert "exact at 0.0 MB, 3.2 ms" in claims["swap_budget"]["claim"]


def test_misses_never_fall_below_the_optimum(logs):
    found, tables, claims = build(build_miss_ratio, logs)
    assert found == []
    assert set(tables["miss_ratio"]["emptied"]) == {"never"}
    known = tables["miss_ratio"].groupby("policy")["known"].unique().map(list).to_dict()
    assert known.pop("belady") == known.pop("belady-bypass") == ["hindsight"]
    assert set(map(tuple, known.values())) == {("none",)}
    for mode, own in tables["miss_ratio"].groupby("mode"):
        table = own.pivot(index="slots", columns="policy", values="misses")
        assert (table.ge(table["belady-bypass"], axis=0)).all(axis=None), mode
        assert (table.drop(columns="belady-bypass").ge(table["belady"], axis=0)).all(axis=None), mode
        assert np.all(np.diff(table["belady"]) <= 0)
    assert "language-decode: with 4 slots per layer" in claims["miss_ratio"]["claim"]
    of_lru = tables["miss_ratio"].pivot(index=["mode", "slots"], columns="policy", values="misses")["lru"]
    beside = tables["miss_ratio"].join(of_lru, on=["mode", "slots"])
    np.testing.assert_allclose(beside["over_lru_percent"], 100 * (beside["misses"] / beside["lru"] - 1), atol=1e-6)


def test_misses_that_were_not_counted_are_a_hole_with_a_name(logs, trace):
    counted = logs / "simulated" / "toy" / "text" / "misses" / "language-decode.csv"
    about = counted.with_suffix(".json")
    told, rows = about.read_text(), counted.read_text()
    about.write_text(told.replace(trace.digest, "another"))
    assert "was counted on trace another, the trace is" in build(build_miss_ratio, logs)[0][0]
    about.unlink()
    assert "misses/language-decode.csv: No such file or directory; allowed: what" in build(build_miss_ratio, logs)[0][0]
    about.write_text(told)
    counted.write_text(rows.replace("lru,1,", "lru,one,"))
    assert "misses/language-decode.csv: is no table of miss curves" in build(build_miss_ratio, logs)[0][0]
    counted.unlink()
    (hole,), tables, _ = build(build_miss_ratio, logs)
    assert "misses/language-decode.csv, which `python -m simulate logs` makes: no such file" in hole
    assert tables["miss_ratio"][["trace", "status"]].values.tolist() == [["language-decode", "missing"]]


@pytest.mark.parametrize(
    ("function", "table", "damage", "reason"),
    [
        (build_swap_tradeoff, "swap_tradeoff", "swap-quality.json", "no such file"),
        (build_swap_tradeoff, "swap_tradeoff", "swap-quality.csv", "column loss is missing"),
        (build_skip_exchange, "skip_exchange", "skip-exchange.csv", "column loss is missing"),
        (build_swap_budget, "swap_budget", "swap-verified.csv", "no such file"),
        (
            build_swap_tradeoff,
            "swap_tradeoff",
            "swap-quality.csv",
            "row 1: measure is f1, allowed accuracy, bits_per_byte, the",
        ),
        (
            build_skip_exchange,
            "skip_exchange",
            "skip-exchange.csv",
            "row 1: measure is accuracy, allowed accuracy, bits_",
        ),
    ],
)
def test_a_damaged_log_is_a_hole_with_a_name(logs, function, table, damage, reason):
    path = logs / "logs" / "toy" / "text" / damage
    if "column" in reason:
        pd.read_csv(path).drop(columns="loss").to_csv(path, index=False)
    elif "measure" in reason:
        table_read = pd.read_csv(path)
        table_read.loc[1, "measure"] = reason.split()[4].strip(",")
        table_read.to_csv(path, index=False)
    else:
        path.unlink()
    found, tables, _ = build(function, logs)
    assert any(reason in line for line in found)
    assert set(tables[table]["status"]) <= {"missing", "failed"}


@pytest.mark.parametrize("function", [build_swap_tradeoff, build_skip_exchange, build_swap_budget, build_miss_ratio])
def test_no_logs_at_all_are_a_hole(tmp_path, function):
    folder = tmp_path / "logs" / "toy" / "digits"
    folder.mkdir(parents=True)
    (folder / "quality.csv").write_text("k\n")
    found, _, claims = build(function, tmp_path)
    assert found
    assert claims
