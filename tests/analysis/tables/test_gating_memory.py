"""Static beside dynamic dispatch: ratios by hand, who allocates more, what is skipped, missing or impossible."""

import json

import pandas as pd
import pytest
from memory_logs import CONFIGURATIONS, ONE_ROW, memory_log, write_memory_log

from moe_replay.analysis.reading.inputs import Inputs
from moe_replay.analysis.reading.log_sets import find_log_sets
from moe_replay.analysis.tables.gating_memory.build import build_gating_memory
from moe_replay.analysis.tables.gating_memory.claim import memory_claim, set_numbers
from moe_replay.analysis.tables.gating_memory.rows import expert_rows, memory_rows, read_memory
from moe_replay.traces.errors import InputError


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "logs" / "cpu-toy" / "cifar10"
    made.mkdir(parents=True)
    write_memory_log(made)
    return made


@pytest.fixture
def rows(folder):
    return memory_rows("cpu-toy/cifar10", read_memory(folder / "memory.csv"))


def built(folder, out):
    return build_gating_memory(Inputs(find_log_sets(folder.parents[1], None)), out)


def test_one_row_per_static_configuration_with_the_others_beside_it(rows):
    assert len(rows) == len(CONFIGURATIONS)
    lm, worst = rows.iloc[0], rows.iloc[3]
    assert (lm["peak_over_dynamic"], lm["peak_over_gathered"]) == (10, 5)
    assert (lm["time_over_dynamic"], lm["time_over_gathered"]) == (4, 5)
    assert (lm["waste_measured"], lm["waste_predicted"]) == (12.8, 12.8)
    assert lm["waste_of_kept"] == pytest.approx(512 * 5 / 180)
    assert lm["dropped_percent"] == 10
    assert not worst["dynamic_at_most_static"]
    assert rows["dynamic_at_most_static"].sum() == len(rows) - 1
    assert rows["as_counted"].all()


def test_the_claim_says_where_dynamic_allocates_more(rows):
    claim = memory_claim(rows)["claim"]
    assert "at most static's in 3 of 3 configurations in which static dispatch keeps every choice" in claim
    assert "(static's is 8 to 100 times as high)" in claim
    assert "it is higher in 1 of 3, all with at least 70 % of the choices left out" in claim
    assert "language model (S=100) static computes 12.8 rows per row asked for (published 12.8)" in claim
    assert "translation model (S=200) static computes 64 rows per row asked for (published 64)" in claim
    never = memory_claim(rows.drop(index=3))["claim"]
    assert "and in all 2 in which it drops some." in never


def test_rounding_is_what_whole_rows_add(rows):
    """CS/E: 8 rows where 7.8125 were wanted; everything else in the log is whole."""
    assert set_numbers(rows)["most_rounding_percent"] == pytest.approx(100 * (8 / 7.8125 - 1))


def test_experts_of_the_published_ratios_and_of_the_trained_gate_at_its_largest_k(rows):
    table = pd.DataFrame(expert_rows(rows))
    assert [view.split(":")[0] for view in dict.fromkeys(table["view"])] == [
        "as the language model (zipf 1 router)", "as the translation model (zipf 1 router)", "trained toy gate"
    ]  # fmt: skip
    assert table["view"].iloc[-1].split(": ")[1].startswith("E=16, k=4, capacity CSk/E, C=1.2")
    static, mean, busiest = table.to_dict("records")[:3]
    assert static["peak_kib"] == pytest.approx(3 * 5 * ONE_ROW / 1024)
    assert mean["current_kib"] == pytest.approx(200 / 512 * ONE_ROW / 1024)
    assert (mean["which"], busiest["which"], busiest["rows"]) == ("mean expert", "busiest expert", 50)


def test_the_build_writes_tables_and_claim(folder, tmp_path):
    assert built(folder, tmp_path / "tables") == []
    assert len(pd.read_csv(tmp_path / "tables" / "gating_memory.csv")) == len(CONFIGURATIONS)
    about = json.loads((tmp_path / "tables" / "gating_memory.json").read_text())
    assert set(about["inputs"]) == {"cpu-toy/cifar10/memory.csv"}
    assert "published 64" in json.loads((tmp_path / "tables" / "claims.json").read_text())["gating_memory"]["claim"]


def test_a_set_without_the_log_is_left_out_and_none_at_all_is_a_hole(folder, tmp_path):
    other = folder.parents[1] / "cpu-toy" / "digits"
    other.mkdir()
    (other / "quality.csv").write_text("")
    assert built(folder, tmp_path / "tables") == []
    (folder / "memory.csv").unlink()
    assert built(folder, tmp_path / "tables") == ["all sets: missing: no set holds memory.csv"]
    assert "No memory table" in json.loads((tmp_path / "tables" / "claims.json").read_text())["gating_memory"]["claim"]


def test_what_was_skipped_for_want_of_memory_is_no_hole_and_counts_nowhere(folder, tmp_path):
    table = memory_log()
    lost = ["rows", "peak_bytes", "current_bytes", "median_ms"]
    table.loc[0, lost] = None
    table.loc[0, ["status", "reason"]] = ["skipped", "needs 9.00 GiB, allowed 2.00"]
    table.to_csv(folder / "memory.csv", index=False)
    assert built(folder, tmp_path / "tables") == []
    rows = pd.read_csv(tmp_path / "tables" / "gating_memory.csv")
    assert rows["status"].tolist() == ["skipped"] + ["ok"] * (len(CONFIGURATIONS) - 1)
    assert "language model" not in memory_claim(rows.fillna({"like": ""}))["claim"]


def without(name):
    return lambda table: table.drop(columns=name)


def changed(row, name, value):
    return lambda table: table.astype({name: object}).assign(
        **{name: [value if at == row else each for at, each in enumerate(table[name])]}
    )


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (without("peak_bytes"), "memory.csv: column peak_bytes is missing"),
        (changed(2, "batch", 0), "memory.csv: row 2: batch is 0, allowed 1..1e"),
        (changed(1, "dropped", "many"), "memory.csv: row 1: dropped is many"),
        (lambda table: table[table["dispatch"] != "gathered"], "no row of dispatch 'gathered'"),
        (lambda table: pd.concat([table, table.iloc[[4]]]), "row 18 repeats the configuration of an earlier one"),
    ],
)
def test_a_damaged_log_is_a_hole_with_its_reason(damage, message, folder, tmp_path):
    damage(memory_log()).to_csv(folder / "memory.csv", index=False)
    with pytest.raises(InputError, match=message):
        read_memory(folder / "memory.csv")
    (hole,) = built(folder, tmp_path / "tables")
    assert hole.startswith("cpu-toy/cifar10: failed: memory.csv: ")
