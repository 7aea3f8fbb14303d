"""Re-gated against recorded in worlds whose answer is known: nothing changed, everything shuffled, other models."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from moe_replay.analysis.__main__ import app
from moe_replay.analysis.tables.open_loop.rows import (
    jaccard,
    load_share,
    noise_floor,
    open_loop_rows,
    variation,
    verdict,
)
from moe_replay.simulate.sweeps.open_loop_runs import OpenLoopPlan, rule_files, simulate_open_loop
from moe_replay.simulate.sweeps.shared_inputs import Study
from moe_replay.simulate.sweeps.sweep import column_types
from moe_replay.traces.errors import InputError
from moe_replay.traces.file.trace_file import load_trace, save_trace
from moe_replay.traces.header import Header, ModelInfo
from moe_replay.traces.k_rules import KRule
from moe_replay.traces.regating import OPEN_LOOP, regate
from moe_replay.traces.runs.sweep_table import SweepPoint, load_sweep, save_sweep
from moe_replay.traces.selections import Trace

TOKENS, LAYERS, EXPERTS = 2000, 3, 8


@pytest.fixture
def generator():
    return np.random.default_rng(3)


def source_trace(generator, used_k=4):
    """All eight experts with softmax scores; expert e of every layer is the more popular the smaller e."""
    logits = generator.normal(0, 1.2, (TOKENS, LAYERS, EXPERTS)) - 0.2 * np.arange(EXPERTS)
    experts_TLK = np.argsort(-logits, axis=-1)
    scores_TLK = np.exp(np.take_along_axis(logits, experts_TLK, -1))
    header = Header(
        model=ModelInfo(name="toy", experts=EXPERTS, used_k=used_k, layer_ids=tuple(range(LAYERS))),
        gate_rule="softmax", score_kind="softmax", ranked=True, device="cpu",
        data={"name": "toy", "digest": "d", "note": None}, notes={"training": {"seed": 0}, "trained_k": used_k},
    )  # fmt: skip
    ids, zeros = np.arange(TOKENS, dtype=np.int32), np.zeros(TOKENS, np.int32)
    return Trace(
        header=header, experts_TLK=experts_TLK.astype(np.int16), sequence_T=ids, position_T=zeros, step_T=ids // 100,
        phase_T=zeros.astype(np.int8), scores_TLK=(scores_TLK / scores_TLK.sum(-1, keepdims=True)).astype(np.float32),
    )  # fmt: skip


def recorded_under(source, rule, change=None):
    """What a run under the rule would have recorded, if `change` is what the rule does to later layers' choices."""
    made = regate(source, rule)
    notes = {name: value for name, value in made.header.notes.items() if name != OPEN_LOOP}
    experts_TLK = made.experts_TLK.copy()
    if change is not None:
        change(experts_TLK)
    header = replace(made.header, notes=notes, score_kind=None)
    return replace(made, header=header, experts_TLK=experts_TLK, scores_TLK=None)


@pytest.mark.parametrize("rule", [KRule("delta", 0.5), KRule("top-p", 0.4), 2, 6])
def test_a_run_that_the_rule_does_not_change_is_predicted_without_error(generator, rule):
    source = source_trace(generator)
    rows, regated = open_loop_rows(source, recorded_under(source, rule), generator)
    assert [row["layer"] for row in rows] == ["0", "1", "2", "all"]
    for row in rows:
        assert row["mean_k_error_percent"] == row["load_tv_regated"] == row["load_tv_over_noise"] == 0
        assert row["jaccard"] == row["same_set_share"] == 1
        assert row["mean_k_regated"] == pytest.approx((regated.experts_TLK >= 0).sum() / TOKENS / LAYERS, rel=0.05)
        assert 0 < row["load_tv_noise"] < row["load_tv_source"]
        assert row["mean_k_source"] == 4
    assert verdict(rows[-1]) == "load only"
    assert verdict(rows[-1] | {"throughput_error_percent": -4.9}) == "yes"
    assert verdict(rows[-1] | {"throughput_error_percent": -5.1}) == "no"


def test_candidates_behind_a_fixed_k_did_not_run(generator):
    source = source_trace(generator)
    recorded = replace(source, header=replace(source.header, model=replace(source.header.model, used_k=2)))
    rows, _ = open_loop_rows(source, recorded, generator)
    assert rows[-1]["mean_k_recorded"] == 2
    assert rows[-1]["same_set_share"] == 1


def test_shuffled_tokens_keep_the_load_and_lose_the_sets(generator):
    source = source_trace(generator)

    def shuffle(experts_TLK):
        experts_TLK[:, 2] = generator.permutation(experts_TLK[:, 2])

    rows, _ = open_loop_rows(source, recorded_under(source, KRule("delta", 0.5), shuffle), generator)
    assert [row["same_set_share"] == 1 for row in rows] == [True, True, False, False]
    assert rows[2]["load_tv_regated"] == 0
    assert rows[2]["mean_k_error_percent"] == 0
    assert rows[2]["same_set_share"] < 0.3
    assert rows[3]["jaccard"] == pytest.approx((2 + rows[2]["jaccard"]) / 3)


def test_renamed_experts_have_the_distance_that_the_loads_say(generator):
    source = source_trace(generator)
    recorded = recorded_under(
        source, 2, lambda experts_TLK: np.subtract(EXPERTS - 1, experts_TLK[:, 1:], out=experts_TLK[:, 1:])
    )
    rows, _ = open_loop_rows(source, recorded, generator)
    load_E = np.bincount(source.experts_TLK[:, 1, :2].ravel(), minlength=EXPERTS) / (2 * TOKENS)
    assert rows[1]["load_tv_regated"] == pytest.approx(np.abs(load_E - load_E[::-1]).sum() / 2)
    assert rows[1]["load_tv_regated"] > 10 * rows[1]["load_tv_noise"]
    worst = max(row["load_tv_over_noise"] for row in rows[:3])
    assert rows[3]["load_tv_over_noise"] == worst
    assert verdict(rows[3]) == "no"


def test_dropped_experts_are_an_error_of_mean_k(generator):
    source = source_trace(generator)

    def drop(experts_TLK):
        experts_TLK[::2, 1:, 1:] = -1

    rows, _ = open_loop_rows(source, recorded_under(source, 2, drop), generator)
    assert [row["mean_k_recorded"] for row in rows] == [2, 1.5, 1.5, pytest.approx(5 / 3)]
    assert rows[1]["mean_k_error_percent"] == pytest.approx(100 / 3)
    assert rows[3]["mean_k_error_percent"] == pytest.approx(20)
    assert verdict(rows[3]) == "no"


def test_another_first_layer_is_another_model(generator):
    source = source_trace(generator)

    def nudge(count):
        def change(experts_TLK):
            experts_TLK[:count, 0] = (experts_TLK[:count, 0] + 1) % EXPERTS

        return change

    rows, _ = open_loop_rows(source, recorded_under(source, 2, nudge(1)), generator)
    assert rows[-1]["first_layer_differs"] == 1
    assert "near-ties" in rows[-1]["reason"]
    with pytest.raises(InputError, match="the first layer differs in 200 of 2000 tokens"):
        open_loop_rows(source, recorded_under(source, 1, nudge(200)), generator)


def test_total_variation_and_jaccard_by_hand():
    assert variation(np.array([0.5, 0.5, 0]), np.array([0.25, 0.25, 0.5])) == 0.5
    one, other = np.array([[0, 1, -1], [2, -1, -1], [0, 1, 2]]), np.array([[1, 0], [1, -1], [2, 3]])
    assert jaccard(one, other, 4).tolist() == [1, 0, 0.25]
    assert load_share(one, 4).tolist() == [2 / 6, 2 / 6, 2 / 6, 0]


def test_the_noise_floor_is_the_distance_of_two_samples(generator):
    share_E = np.arange(1, 17) / np.arange(1, 17).sum()
    samples = [generator.choice(16, (4000, 1), p=share_E) for _ in range(60)]
    loads = [load_share(sample, 16) for sample in samples]
    true = np.mean([variation(one, other) for one, other in zip(loads[::2], loads[1::2], strict=True)])
    floor = np.mean([noise_floor(sample, 16, generator) for sample in samples[:10]])
    assert floor == pytest.approx(true, rel=0.12)
    # E |difference| of two binomial shares, added up
    assert true == pytest.approx(np.sqrt(share_E * (1 - share_E) / 4000 / np.pi).sum(), rel=0.12)


@pytest.fixture
def logs(tmp_path, generator):
    """A set of logs with a base trace and two rules, one a partner of another model."""
    folder = tmp_path / "logs" / "cpu-toy" / "digits"
    source = source_trace(generator)
    save_trace(source, folder / "base.trace.parquet")
    save_trace(recorded_under(source, KRule("delta", 0.5)), folder / "rules" / "base-delta-0.5.trace.parquet")
    return tmp_path / "logs"


def tables(logs, *words):
    done = CliRunner().invoke(
        app, ["tables", str(logs), *words, "--out", str(logs.parent / "tables"), "--only", "open_loop"]
    )
    return done, *(pd.read_csv(logs.parent / "tables" / f"{name}.csv") for name in ("open_loop", "open_loop_times"))


def test_tables_claim_and_provenance(logs):
    done, rules, times = tables(logs)
    assert done.exit_code == 0, done.output
    assert rules["layer"].tolist() == ["0", "1", "2", "all"]
    assert rules["may_be_trusted"].dropna().tolist() == ["load only"]
    assert times["status"].tolist() == ["skipped"]
    assert "no cost table" in times["reason"][0]
    claim = json.loads((logs.parent / "tables" / "claims.json").read_text())["open_loop"]
    assert "1 of 1 rules may be trusted" in claim["claim"]
    about = json.loads((logs.parent / "tables" / "open_loop.json").read_text())
    assert set(about["inputs"]) == {
        f"cpu-toy/digits/{name}" for name in ("base.trace.parquet", "rules/base-delta-0.5.trace.parquet")
    }


def test_a_bad_partner_is_a_row_and_the_others_stay(logs, generator):
    folder = logs / "cpu-toy" / "digits" / "rules"
    other = source_trace(generator)
    save_trace(
        replace(other, header=replace(other.header, notes={"training": {"seed": 1}})), folder / "base-x.trace.parquet"
    )
    save_trace(other, folder / "huge-k2.trace.parquet")
    (folder / "base-y.trace.parquet").write_text("no trace")
    done, rules, _ = tables(logs)
    assert done.exit_code == 1
    bad = rules[rules["status"].isin(["failed", "missing"])].set_index("run")["reason"]
    assert "training is" in bad["base-x"]
    assert bad["huge-k2"] == "huge.trace.parquet: no such file"
    assert "base-y.trace.parquet" in bad["base-y"]
    assert (rules["status"] == "ok").sum() == 4
    assert "base-x: failed" in done.stderr


def test_a_set_without_rules_is_no_hole_but_none_at_all_is(logs, generator):
    (logs / "gpu-toy" / "digits" / "executed").mkdir(parents=True)
    assert tables(logs)[0].exit_code == 0
    (logs / "cpu-toy" / "digits" / "rules" / "base-delta-0.5.trace.parquet").unlink()
    done, rules, _ = tables(logs)
    assert done.exit_code == 1
    assert rules["status"].tolist() == ["missing"]
    assert "no set holds rules/" in done.stderr


def test_the_command_prints_a_row_per_rule(logs, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    done = CliRunner().invoke(app, ["open-loop", str(logs)])
    assert done.exit_code == 0, done.output
    assert "delta:0.5" in done.stdout
    assert "load only" in done.stdout
    assert "trusted: load within 0.02 of the noise floor" in done.stdout


@pytest.fixture
def timed(logs, generator):
    """The same for the wide model: with a cost table and simulated runs of a rule that changes no later layer."""
    folder = logs / "cpu-toy" / "digits"
    source = source_trace(generator).rows(0, 400)
    save_trace(source, folder / "wide.trace.parquet")
    save_trace(recorded_under(source, KRule("delta", 0.5)), folder / "rules" / "wide-delta-0.5.trace.parquet")
    (folder / "costs.parquet").write_text("only its presence counts here")
    simulated = logs.parent / "simulated" / "cpu-toy" / "digits" / "open_loop" / "wide"
    plan = OpenLoopPlan(queue_size=4, in_flight=32, load=0.5, seeds=[0, 1])
    files = rule_files(folder / "rules", folder / "wide.trace.parquet")
    study = Study(folder / "wide.trace.parquet", affine="1000,100")
    assert not simulate_open_loop(study, files, plan, simulated, 1)
    return simulated


def test_times_of_a_perfect_prediction_have_no_error(logs, timed):
    done, rules, times = tables(logs, str(logs.parent / "simulated"))
    assert done.exit_code == 0, done.output
    wide = times[times["model"] == "wide"].set_index("arrivals")
    assert wide.index.tolist() == ["closed", "poisson"]
    assert wide["replications"].tolist() == [2, 2]
    errors = wide[[name for name in wide.columns if name.endswith("_error_percent") and "source" not in name]]
    assert (errors == 0).all(axis=None)
    assert wide.loc["closed", "throughput_source_error_percent"] < -5  # 4 experts in place of 2.2: slower
    assert rules.set_index("model").loc["wide", "may_be_trusted"].dropna().tolist() == ["yes"]
    about = json.loads((logs.parent / "tables" / "open_loop_times.json").read_text())
    assert about["inputs"]["cpu-toy/digits/open_loop"].endswith("over 3 files")


def test_replications_are_combined_into_their_mean(logs, timed):
    tables(logs, str(logs.parent / "simulated"))
    times = pd.read_csv(logs.parent / "tables" / "open_loop_times.csv").set_index(["model", "arrivals"])
    points, _ = load_sweep(timed / "wide-delta-0.5" / "recorded.parquet")
    for mode in ("closed", "poisson"):
        rates = [point.values["throughput_per_s"] for point in points if point.config["arrivals"] == mode]
        assert times.loc[("wide", mode), "throughput_recorded_per_s"] == pytest.approx(np.mean(rates))
        assert rates[0] != rates[1]


def test_runs_that_are_missing_or_of_another_trace_are_named(logs, timed, generator):
    path = logs / "cpu-toy" / "digits" / "rules" / "wide-delta-0.6.trace.parquet"
    source = load_trace(logs / "cpu-toy" / "digits" / "wide.trace.parquet")
    save_trace(recorded_under(source, KRule("delta", 0.6)), path)
    done, rules, times = tables(logs, str(logs.parent / "simulated"))
    assert done.exit_code == 1
    assert times.set_index("run")["status"]["wide-delta-0.6"] == "missing"
    assert "open_loop/wide/wide-delta-0.6/recorded.parquet: no such file" in done.stderr
    shutil.copytree(timed / "wide-delta-0.5", timed / "wide-delta-0.6")
    done, rules, times = tables(logs, str(logs.parent / "simulated"))
    assert times.set_index("run")["status"]["wide-delta-0.6"] == "failed"
    assert "open_loop/wide/wide-delta-0.6/recorded.parquet: was simulated from another trace" in done.stderr
    assert rules.groupby("run")["may_be_trusted"].last()["wide-delta-0.6"] == "load only"


def test_a_failed_run_and_a_missing_source_are_named(logs, timed):
    path = timed / "wide-delta-0.5" / "recorded.parquet"
    points, header = load_sweep(path)
    points[3] = SweepPoint(points[3].run, points[3].config, reason="9 tokens in block 0: not measured")
    save_sweep(path, points, header, column_types())
    done, rules, times = tables(logs, str(logs.parent / "simulated"))
    assert done.exit_code == 1
    row = times.set_index("run").loc["wide-delta-0.5"]
    reason = f"open_loop/wide/wide-delta-0.5/recorded.parquet: {points[3].run}: 9 tokens in block 0: not measured"
    assert (row["status"], row["reason"]) == ("failed", reason)
    assert rules.groupby("run")["may_be_trusted"].last()["wide-delta-0.5"] == "load only"
    save_sweep(path, load_sweep(timed / "wide-delta-0.5" / "regated.parquet")[0], header, column_types())
    (timed / "source.parquet").unlink()
    times = tables(logs, str(logs.parent / "simulated"))[2]
    row = times.set_index("run").loc["wide-delta-0.5"]
    assert (row["status"], row["reason"]) == ("missing", "open_loop/wide/source.parquet: no such file")
